"""`sectorwatch frames`: which pictures are kept, and those of an event as files that anybody can check."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from server.__main__ import command
from server.app import runtime_of
from tests.server.web.test_openapi import eventful
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app


@pytest.fixture
def event(tmp_path: Path) -> str:
    """The id of an event whose pictures are kept."""
    app = make_app(tmp_path, BrightnessEnsemble())
    app.test_client().post("/v1/bursts", data=eventful("0197-frames-1"))
    runtime_of(app).keeper.drain()
    found = next(iter(runtime_of(app).store.events())).event.id
    runtime_of(app).store.close()
    return found


def asked(folder: Path, *arguments: str) -> Any:
    return CliRunner().invoke(command, [*arguments, "--data-dir", str(folder)])


def test_the_pictures_of_an_event_are_written_under_their_sha256(event: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = asked(tmp_path, "frames", "export", event[:8], str(out))
    assert answer.exit_code == 0, answer.output
    files = sorted(out.iterdir())
    assert len(files) == 9, "up to two seconds after its confirmation"
    assert f"{len(files)} of {len(files)} frames" in answer.output
    for number, file in enumerate(files, 1):
        assert file.name == f"{number:03}-{hashlib.sha256(file.read_bytes()).hexdigest()}.jpg"


def test_pictures_that_are_gone_are_named(event: str, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "frames")
    answer = asked(tmp_path, "frames", "export", event, str(tmp_path / "out"))
    assert answer.exit_code == 1
    assert "no picture of event" in answer.output


def test_what_is_kept_is_listed_and_checked_by_doctor(event: str, tmp_path: Path) -> None:
    assert "north-yard/gate  events  14 " in asked(tmp_path, "frames", "list").output
    assert "14 pictures are kept" in asked(tmp_path, "doctor").output
    assert "pictures in" in asked(tmp_path, "db", "backup", str(tmp_path / "backup.sqlite")).output


def test_an_erasure_says_how_many_pictures_went(tmp_path: Path) -> None:
    frames = [jpeg(grey) for grey in (1, 2, *range(200, 212))]
    app = make_app(tmp_path, BrightnessEnsemble())
    sent = envelope(frames, captured_at="2026-01-15T07:59:00.000Z")
    assert app.test_client().post("/v1/bursts", data=body(sent, frames)).status_code == 201
    runtime_of(app).keeper.drain()
    runtime_of(app).store.close()
    stretch = ("--since", "2026-01-15T07:00:00Z", "--until", "2026-01-15T08:00:00Z")
    answer = asked(tmp_path, "erase", "--site", "north-yard", *stretch)
    assert answer.exit_code == 0, answer.output
    assert "14 pictures erased" in answer.output
    assert [file.name for file in (tmp_path / "frames").rglob("*") if file.is_file()] == ["owner"]


def test_a_copy_of_a_database_is_named_by_doctor_until_it_owns_the_pictures(
    event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, backup = tmp_path / "copy", str(tmp_path / "backup.sqlite")
    assert asked(tmp_path, "db", "backup", backup).exit_code == 0
    monkeypatch.setenv("SECTORWATCH_FRAMES_URL", str(tmp_path / "frames"))
    assert "kept by the database" in asked(copy, "db", "restore", backup).output
    assert "kept by the database" in " ".join(asked(copy, "doctor").output.split())
    assert asked(copy, "frames", "own").exit_code == 0
    assert "kept by the database" not in " ".join(asked(copy, "doctor").output.split())
