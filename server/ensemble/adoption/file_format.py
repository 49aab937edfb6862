"""Finds out what a file of a network is, without running anything in it."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import torch

from server.catalogue.card import Format
from server.catalogue.file_contents import misfit
from server.domain.errors import ConfigurationError, SectorwatchError
from server.ensemble.faults import in_short

SUFFIXES = (".pt", ".pth", ".pt2", ".pkl", ".safetensors")


def unread_format(file: Path) -> Format | None:
    """The format of a file as far as its name and its list of members show it; None: PyTorch has to read it.

    Raises ConfigurationError for a file that is no network.
    """
    try:
        what = misfit(file)
        if what is not None:
            raise ConfigurationError(f"{file} is no network that PyTorch can read: it {what}")
        return _program_format(file)
    except SectorwatchError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except Exception as error:  # an archive may be damaged in many ways
        raise ConfigurationError(
            f"{file} is no network that PyTorch can read, or it is cut short: {in_short(error)}"
        ) from error


def format_of(file: Path) -> Format:
    """The format of a file, without running anything in it. Raises ConfigurationError when it has none."""
    program = unread_format(file)
    if program is not None:
        return program
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _is_pickled(file):
            return "pickle"
        raise ConfigurationError(f"{file} is no network that PyTorch can read") from error
    except Exception as error:  # reading a file that is something else fails in many ways
        raise ConfigurationError(
            f"{file} is no network that PyTorch can read, or it is cut short: {in_short(error)}"
        ) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{file} holds a {type(content).__name__}, neither a network nor a state dict")
    return "state_dict"


def _program_format(file: Path) -> Format | None:
    """The format of a file that needs no unpickling to be known."""
    if file.suffix.lower() == ".safetensors":
        return "safetensors"
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        members = {name.rpartition("/")[2] for name in archive.namelist()}
    if "constants.pkl" in members:
        return "torchscript"
    is_export = any(name.endswith(("serialized_exported_program.json", "archive_format")) for name in members)
    return "export" if is_export else None


def _is_pickled(file: Path) -> bool:
    """Whether a file that is no state dict is a pickle all the same: an archive of PyTorch, or its older format."""
    with file.open("rb") as opened:
        head = opened.read(2)
    return zipfile.is_zipfile(file) or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05")
