"""What the pages bring with them."""

from __future__ import annotations

import hashlib

import pytest

from tests.documentation import ROOT

STATIC = ROOT / "server" / "console" / "static"
OF_OTHERS = {"htmx.min.js": ("2.0.11", "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717")}
"""File -> the version and the SHA-256 of what its authors publish."""


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_file_of_others_is_the_one_they_published_with_its_licence_beside_it(name: str) -> None:
    version, sha256 = OF_OTHERS[name]
    content = (STATIC / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha256
    assert version.encode() in content
    assert "BSD" in (STATIC / f"{name.partition('.')[0]}.LICENSE").read_text(encoding="utf-8")


def test_the_style_of_all_pages_is_small() -> None:
    assert (STATIC / "console.css").stat().st_size < 20_000
