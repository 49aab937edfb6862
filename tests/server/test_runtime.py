"""What a server does beside its requests goes on, in one line of the log, while its database does not answer."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from server.app import runtime_of
from server.domain.errors import DatabaseDamaged, DatabaseUnavailable
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app

_PATIENCE_S = 30.0


@contextmanager
def without_table(folder: Path, name: str) -> Iterator[None]:
    with closing(sqlite3.connect(folder / "sectorwatch.sqlite")) as database:
        database.execute(f"ALTER TABLE {name} RENAME TO away")
        yield
        database.execute(f"ALTER TABLE away RENAME TO {name}")


def test_cameras_are_recalled_for_the_metrics_once_the_database_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.app.runtime._REPEAT_S", 0.01)
    frames = [jpeg(grey) for grey in (9, 250)]
    app = make_app(tmp_path, BrightnessEnsemble())
    sent = app.test_client().post("/v1/bursts", data=body(envelope(frames), frames))
    assert sent.status_code == 201
    runtime_of(app).store.close()
    app = make_app(tmp_path, BrightnessEnsemble())
    runtime, recalled, tried = runtime_of(app), threading.Event(), threading.Event()
    cameras, seen = runtime.store.cameras, runtime.metrics.camera_seen

    def asked() -> object:
        try:
            return cameras()
        finally:
            tried.set()

    monkeypatch.setattr(runtime.store, "cameras", asked)
    monkeypatch.setattr(runtime.metrics, "camera_seen", lambda *of: (seen(*of), recalled.set()))
    try:
        with without_table(tmp_path, "camera_states"):
            runtime.start(on_failure=pytest.fail)
            assert tried.wait(_PATIENCE_S)
        assert recalled.wait(_PATIENCE_S)
    finally:
        runtime.stop()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_pictures_are_kept_although_older_sites_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime, ran = runtime_of(make_app(tmp_path, BrightnessEnsemble())), threading.Event()

    def damaged() -> None:
        raise DatabaseDamaged("page 7")

    monkeypatch.setattr(runtime.store.frames, "older_sites", damaged)
    monkeypatch.setattr(runtime.keeper, "run", lambda _stopping: ran.set())
    runtime._keep_frames()
    assert ran.is_set()
    assert [record.__dict__["cause"] for record in caplog.records if record.levelname == "ERROR"] == ["page 7"]
    runtime.store.close()


@pytest.mark.parametrize(
    ("error", "has_traceback"), [(DatabaseUnavailable("it is locked"), False), (KeyError(1), True)]
)
def test_a_failure_of_what_repeats_has_a_traceback_only_if_nobody_foresaw_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, has_traceback: bool
) -> None:
    runtime = runtime_of(make_app(tmp_path, BrightnessEnsemble()))

    def work() -> None:
        runtime._stopping.set()
        raise error

    with caplog.at_level(logging.ERROR):
        runtime._repeat(work, "work not done", 0.0)
    (record,) = (one for one in caplog.records if one.getMessage() == "work not done")
    assert bool(record.exc_info) == has_traceback
    assert has_traceback or record.__dict__["cause"] == "it is locked"
    runtime.store.close()
