"""A server that version 0.1 left behind goes on under the new name of its ensemble, or says in one line what to do."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.__main__ import command
from server.app import create_app, runtime_of
from server.catalogue import read_lock
from server.domain.errors import ConfigurationError, Conflict
from server.ensemble import load_ensemble
from server.serving.loading import load
from server.serving.service import Swap
from server.settings import ServerSettings
from tests.server.swaps import joined

OLD = Path(__file__).parent / "recorded" / "format-1.lock"
"""`sectorwatch models lock hog-people-small frame-change` of commit dac475d."""
OLD_NAME = "32aa76bf5c175317bf34555350f14bcf932d9de994e723dd1dcbd08cef7d4081"
SWAPPED_IN = ("hog-people-small", "frame-change")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ServerSettings:
    """Of a server whose settings name one model, and that was swapped to two before it was upgraded."""
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    (tmp_path / "ensemble.json").write_text(
        '{"models":["hog-people-small","frame-change"],"instead_of":["frame-change"]}'
    )
    (tmp_path / "sites").mkdir()
    return ServerSettings(data_dir=tmp_path, models=("frame-change",), golden_every_s=0)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lock of that server, as version 0.1 wrote it."""
    path = tmp_path / "ensemble.lock"
    path.write_bytes(OLD.read_bytes())
    monkeypatch.setenv("SECTORWATCH_LOCK", str(path))
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_a_server_that_was_swapped_goes_on_with_the_same_models_under_their_new_name(settings: ServerSettings) -> None:
    runtime = runtime_of(create_app(settings, channels=[]))
    runtime.store.upgrade()
    runtime.store.notices.add("serves", OLD_NAME, SWAPPED_IN, "swapped in instead of another")
    failed: list[Exception] = []
    runtime.start(on_failure=failed.append)
    try:
        joined(runtime, "sectorwatch-loading")
        assert failed == []
        served, _before = runtime.service.in_service()
        assert served is not None
        assert (served.models, served.ensemble) == (SWAPPED_IN, load_ensemble(SWAPPED_IN).lock.digest)
        last = runtime.store.notices.all()[-1]
        assert (last.what, last.models) == ("serves", SWAPPED_IN)
        assert last.detail.endswith(f", instead of {OLD_NAME} before the restart")
        assert served.ensemble != OLD_NAME
    finally:
        runtime.stop()


@pytest.mark.parametrize("arguments", [("serve",), ("models", "check", *SWAPPED_IN)])
@pytest.mark.usefixtures("settings")
def test_an_old_lock_is_refused_in_one_line_with_the_command_that_renews_it(
    arguments: tuple[str, ...], lock: Path
) -> None:
    refused = run(*arguments)
    assert refused.exit_code == 78
    [line] = refused.stderr.strip().splitlines()
    assert f"the lock {lock} has format 1, and this version of Sectorwatch reads format 2" in line
    assert line.endswith("renew it with `sectorwatch models lock hog-people-small frame-change`")


def test_the_command_of_that_line_renews_the_lock(settings: ServerSettings, lock: Path) -> None:
    line = run("serve").stderr.strip()
    renew = shlex.split(line.split("`")[1])
    assert renew[0] == "sectorwatch"
    renewed = run(*renew[1:])
    assert renewed.exit_code == 0, renewed.output
    locked = ServerSettings(data_dir=settings.data_dir, models=settings.models, lock=lock)
    assert load(locked, SWAPPED_IN).ensemble.ensemble_info.ensemble == read_lock(lock).digest
    assert run("models", "check", *SWAPPED_IN).exit_code == 0


@pytest.mark.usefixtures("settings")
def test_doctor_finds_an_old_lock_and_says_how_to_renew_it(lock: Path) -> None:
    found = run("doctor")
    assert found.exit_code == 1
    assert f"fail  proofs     the lock {lock} has format 1" in found.stdout
    assert "-> sectorwatch models lock hog-people-small frame-change" in found.stdout


def test_a_swap_against_an_old_lock_is_refused_and_the_present_models_serve_on(
    settings: ServerSettings, lock: Path
) -> None:
    with_lock = ServerSettings(data_dir=settings.data_dir, models=settings.models, lock=lock, golden_every_s=0)
    lock.unlink()
    assert run("models", "lock", *SWAPPED_IN).exit_code == 0
    runtime = runtime_of(create_app(with_lock, channels=[]))
    runtime.store.upgrade()
    runtime.start(on_failure=lambda error: pytest.fail(str(error)))
    try:
        joined(runtime, "sectorwatch-loading")
        lock.write_bytes(OLD.read_bytes())
        with pytest.raises(Conflict, match=r"not swapped: the lock .* has format 1.*`sectorwatch models lock frame-"):
            runtime.service.swap(Swap(("frame-change",)))
        assert runtime.service.current().loaded.models == SWAPPED_IN
    finally:
        runtime.stop()


def test_the_history_keeps_the_old_name(settings: ServerSettings) -> None:
    runtime = runtime_of(create_app(settings, channels=[]))
    runtime.store.upgrade()
    runtime.store.notices.add("serves", OLD_NAME, SWAPPED_IN, "swapped in instead of another")
    runtime.stop()
    shown = run("models", "history").stdout
    assert f" serves {OLD_NAME} hog-people-small,frame-change: swapped in instead of another" in shown


def test_a_lock_of_a_later_format_is_refused_alike(tmp_path: Path) -> None:
    (tmp_path / "ensemble.lock").write_text('{"format": 3, "ensemble": "a", "unknown": 1}')
    with pytest.raises(ConfigurationError, match="has format 3, and this version of Sectorwatch reads format 2"):
        read_lock(tmp_path / "ensemble.lock")
