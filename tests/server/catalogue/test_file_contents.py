"""A file that holds no network is named as what it is."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from server.catalogue.file_contents import misfit
from tests.server.ensemble.others import FORMATS, network, save


def zipped(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "run `git lfs pull`"),
        (b"../../.git/annex/objects/aa/bb/SHA256E-s1--00.pt\n", "run `git annex get`"),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is an HTML page"),
        (b"\xef\xbb\xbf<HTML>", "is an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is an XML or HTML text"),
        (b'{"error": "Invalid username or password."}', "is a JSON text"),
        ("Zugriff verweigert: nicht erlaubt für".encode(), "is a text"),
        ("ü".encode() * 5000, "is a text"),
        (b"\x1f\x8b\x08" + b"\0" * 20, "is a gzip archive"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "is an HDF5 file (Keras)"),
        (b"\x18\0\0\0TFL3" + b"\0" * 20, "is a TensorFlow Lite network"),
        (zipped("model/notes.txt"), "is a zip archive without a network"),
        (zipped("weights.pth"), "unpack it, and name weights.pth"),
        (zipped("weights.pth")[:40], "is cut short"),
    ],
)
def test_what_is_no_network_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(content)
    assert message in (misfit(tmp_path / "net.pt") or "")


@pytest.mark.parametrize("form", FORMATS)
def test_a_network_of_every_format_is_one_and_a_download_cut_short_is_not(form: str, tmp_path: Path) -> None:
    file = save(network(), form, tmp_path)
    assert misfit(file) is None
    file.write_bytes(file.read_bytes()[:-200])
    assert "is cut short" in (misfit(file) or "")


def test_weights_in_the_older_format_of_pytorch_may_be_a_network(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert misfit(tmp_path / "old.pth") is None


def test_safetensors_with_metadata_are_whole(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "net.safetensors", metadata={"format": "pt"})
    assert misfit(tmp_path / "net.safetensors") is None
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    (tmp_path / "net.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 12)
    assert "is cut short" in (misfit(tmp_path / "net.safetensors") or "")
