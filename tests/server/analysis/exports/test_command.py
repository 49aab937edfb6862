"""`sectorwatch export` on a database with a past."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server.__main__ import command
from server.domain.keeping import DAY_US, Keep
from server.store import open_store
from tests.server.analysis.exports.reading import read
from tests.server.scenes import Yard, across, burst
from tests.stand_ins import ManualClock

S = 1_000_000


@pytest.fixture
def url(new_sqlite: Callable[[], str]) -> str:
    return new_sqlite()


@pytest.fixture
def yard(tmp_path: Path, url: str, clock: ManualClock) -> Yard:
    """A walk across the yard, and one frame at the door for which the model did not answer."""
    yard = Yard(tmp_path / "sites", open_store(url, clock), clock)
    for each in yard.walked(across, 26):
        yard.pipeline.process(each)
    yard.ensemble.teach(b"unanswered", {"eye": None})
    yard.pipeline.process(burst(900, [b"unanswered", b"nobody"], 5, camera="door"))
    return yard


@pytest.fixture
def export(yard: Yard, url: str) -> Callable[..., Result]:
    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(command, ["export", *arguments, "--database", url])

    return invoke


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_events_are_those_of_the_log_in_their_order(export: Callable[..., Result], yard: Yard, form: str) -> None:
    rows = read(export("events", "--format", form).stdout_bytes, form)
    assert [row["id"] for row in rows] == [each.event.id for each in yard.store.events()]


def test_a_window_and_a_camera_narrow_each_subject(export: Callable[..., Result], yard: Yard) -> None:
    stretch = ("--camera", "gate", "--since", "2026-11-22T07:00:02Z", "--until", "2026-11-22T07:00:06Z")
    at = {"events": "confirmed_at", "observations": "frame_at", "occupancy": "started_at"}
    for subject, column in at.items():
        rows = read(export(subject, *stretch, "--format", "jsonl").stdout_bytes, "jsonl")
        assert {row["camera"] for row in rows} == {"gate"}
        first = "2026-11-22T07:00:00Z" if subject == "occupancy" else "2026-11-22T07:00:02"
        assert all(first <= row[column] < "2026-11-22T07:00:06" for row in rows)
    assert [(row["seconds"], row["occupied_s"]) for row in rows] == [(4.0, 4.0), (4.0, 0.0)]


def test_no_answer_and_nothing_seen_are_two_things(export: Callable[..., Result]) -> None:
    unanswered, nobody = read(export("observations", "--camera", "door").stdout_bytes, "csv")
    assert (unanswered["model"], unanswered["answered"], unanswered["label"]) == ("eye", "false", "")
    assert (nobody["model"], nobody["answered"], nobody["label"]) == ("eye", "true", "")


def test_observations_are_all_labels_with_their_boxes(export: Callable[..., Result], yard: Yard) -> None:
    rows = read(export("observations", "--camera", "gate", "--format", "jsonl").stdout_bytes, "jsonl")
    seen = list(yard.store.observations("yard", "gate"))
    assert len({row["frame_at"] for row in rows}) == len(seen)
    boxes = [p.box for each in seen for p in each.answers["eye"] or ()]
    assert [(row["x1"], row["y1"], row["x2"], row["y2"]) for row in rows if row["label"] == "person"] == boxes


def test_the_seconds_of_an_interval_add_up_and_silence_is_not_clear(export: Callable[..., Result]) -> None:
    until = "2026-11-22T07:10:00Z"
    for every, intervals in (("1min", 10), ("5min", 2), ("1h", 1)):
        shown = export("occupancy", "--camera", "gate", "--every", every, "--until", until, "--format", "jsonl")
        rows = read(shown.stdout_bytes, "jsonl")
        west = [row for row in rows if row["sector"] == "west"]
        assert len(west) == intervals
        assert all(
            row["seconds"]
            == pytest.approx(row["occupied_s"] + row["clear_s"] + row["unobserved_s"] + row["not_kept_s"])
            for row in rows
        )
        assert sum(row["unobserved_s"] for row in west) == pytest.approx(600 - 25.5)


def test_a_camera_that_is_silent_while_others_are_watched_is_unobserved(export: Callable[..., Result]) -> None:
    rows = read(export("occupancy").stdout_bytes, "csv")
    [door] = [row for row in rows if row["camera"] == "door"]
    assert (door["seconds"], door["clear_s"], door["unobserved_s"]) == ("20.500001", "0.5", "20.000001")


def test_what_is_not_in_the_rows_is_said(export: Callable[..., Result], yard: Yard) -> None:
    yard.pipeline.process(yard.walk(300, lambda _t: None, 300))
    yard.store.retention.sweep(lambda _site: Keep(observations_days=60 * S / DAY_US, events_days=60 * S / DAY_US))
    shown = export("events", "--since", "2026-11-22T07:00Z")
    assert "yard/gate, events before" in shown.stderr
    assert "no longer kept" in shown.stderr
    assert "yard/gate was not watched for 0:05:00 (h:mm:ss) of that time" in shown.stderr
    rows = read(export("occupancy", "--camera", "gate", "--since", "2026-11-22T07:00Z").stdout_bytes, "csv")
    assert {row["started_at"]: row["not_kept_s"] for row in rows}["2026-11-22T07:00:00Z"] == "25.500001"


def test_parquet_goes_to_a_file_that_only_its_owner_can_read(
    export: Callable[..., Result], yard: Yard, tmp_path: Path
) -> None:
    out = tmp_path / "events.parquet"
    shown = export("events", "--format", "parquet", "--out", str(out))
    assert (shown.exit_code, shown.stdout) == (0, ""), shown.output
    assert len(read(out.read_bytes(), "parquet")) == len(yard.store.events())
    assert out.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.glob(".events*")] == []
    assert "name a file with --out" in export("events", "--format", "parquet").stderr


def test_a_pipe_gets_the_rows_and_a_link_stays_one(export: Callable[..., Result], yard: Yard, tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link.csv", tmp_path / "file.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert export("events", "--out", str(pipe)).exit_code == 0
    content = os.read(reader, 1 << 16)
    os.close(reader)
    assert pipe.is_fifo()
    assert len(read(content, "csv")) == len(yard.store.events())
    link.symlink_to(file)
    assert export("events", "--out", str(link)).exit_code == 0
    assert link.is_symlink()
    assert file.read_bytes() == content


def test_a_file_that_cannot_be_written_is_named(export: Callable[..., Result], tmp_path: Path) -> None:
    shown = export("events", "--out", str(tmp_path / "nowhere" / "events.csv"))
    assert shown.exit_code == 78
    assert "cannot write" in shown.stderr
    assert "No such file or directory" in shown.stderr


def test_a_camera_that_is_not_stored_is_named(export: Callable[..., Result]) -> None:
    shown = export("observations", "--camera", "gaet")
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "did you mean `gate`?" in shown.stderr
