"""What a late burst changes is shown, by default and everywhere; `late` lists, folds in and sets aside."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from server.__main__ import command
from server.domain.times.clock import now_us
from server.domain.times.lateness import read_lateness
from server.pipeline.pipeline import Pipeline
from server.store import open_store
from tests.server.scenes import START_US, YARD, Yard
from tests.stand_ins import ManualClock

pytestmark = pytest.mark.usefixtures("own_folder")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def gone_for_long(t: float) -> float | None:
    return 0.25 if t < 4 or t >= 20 else None


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A yard in UTC in which somebody seems to be gone from 4 s to 20 s; a bound of 60 s."""
    clock = ManualClock(START_US + 3_600_000_000)
    store = open_store(f"sqlite:///{tmp_path}/sectorwatch.sqlite", clock)
    store.upgrade()
    yard = Yard(tmp_path / "sites", store, clock, YARD.replace('site = "yard"', 'site = "yard"\ntimezone = "UTC"'))
    within_us = read_lateness("60s").within_us
    yard.pipeline = Pipeline(yard.ensemble, store, yard.sites, clock, late_within_us=within_us)
    for n in range(12):
        yard.pipeline.process(yard.walk(n, gone_for_long, n * 2.0))
    return yard


def test_events_that_a_late_burst_disproves_stay_in_the_default_view_and_say_so(yard: Yard) -> None:
    shown = [msgspec.json.decode(line) for line in run("events", "--json").stdout.splitlines()]
    assert not any(event["withdrawn"] for event in shown)
    yard.pipeline.process(yard.walk(13, lambda t: 0.25, 4.2, frames=12))
    late = "superseded by a late burst of 2026-11-22 07:00:04: "
    assert f" {late}person" in run("events").stdout
    assert "superseded_by=burst-00013" in run("events", "--full").stdout
    now = {event["id"]: event for event in map(msgspec.json.decode, run("events", "--json").stdout.splitlines())}
    gone = [now[event["id"]] for event in shown if now[event["id"]]["withdrawn"]]
    assert (
        [event["superseded_by"] for event in gone]
        == [{"burst_id": "burst-00013", "at": "2026-11-22T07:00:04.200000Z"}] * len(gone)
        != []
    )
    assert len(now) >= len(shown), "no event went without a trace"
    assert late not in run("events", "--no-withdrawn").stdout


def test_explain_tells_which_event_was_superseded_and_which_burst_came_too_late(yard: Yard) -> None:
    yard.pipeline.process(yard.walk(13, lambda t: 0.25, 4.2, frames=12))
    assert ", superseded by a late burst of 2026-11-22 07:00:04" in run("explain", "--at", "2026-11-22 07:00").stdout
    yard.pipeline.process(yard.walk(14, lambda t: 0.25, 90))
    yard.pipeline.process(yard.walk(15, lambda t: 0.25, 1.1))
    explained = run("explain", "--at", "2026-11-22 07:00").stdout
    assert "late, set aside (older than `late_within`, or by a person): it changes no event" in explained


def test_late_lists_what_is_outside_of_the_log_folds_it_in_and_takes_it_out(yard: Yard) -> None:
    assert run("late", "list").stdout == "The log includes all bursts.\n"
    yard.pipeline.process(yard.walk(14, lambda t: None, 90))
    yard.pipeline.process(yard.walk(13, lambda t: 0.25, 4.2, frames=12))
    listed = run("late", "list").stdout.splitlines()
    assert listed[0].split() == ["camera", "bursts", "are", "from", "to"]
    assert listed[1].split()[:4] == ["yard/gate", "1", "set", "aside"]
    assert run("replay", "--check").exit_code == 0, "a replay obeys the mark"
    assert run("late", "fold-in").stdout.startswith("1 burst of yard/gate folded in; ")
    assert run("late", "list").stdout == "The log includes all bursts.\n"
    assert run("replay", "--check").exit_code == 0
    aside = run("late", "set-aside", "--since", "2026-11-22T07:01:00Z")
    assert aside.stdout.startswith("1 burst of yard/gate set aside; ")
    assert run("replay", "--check").exit_code == 0


def test_set_aside_without_a_time_is_refused(yard: Yard) -> None:
    refused = run("late", "set-aside")
    assert (refused.exit_code, "--since or --until" in refused.stderr) == (2, True)


def test_doctor_has_one_row_for_a_camera_that_comes_too_late_and_names_a_misspelt_site(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no burst comes too late (late_within = 7d)" in run("doctor").stdout
    yard.clock.now_us = now_us()  # the row is of what was received lately
    for n in range(5):
        yard.pipeline.process(yard.walk(20 + n, lambda t: 0.3, -900.0 - n * 2))
    monkeypatch.setenv("SECTORWATCH_LATE_WITHIN", "7d, yrd=1d")
    found = [line for line in run("doctor").stdout.splitlines() if "times" in line[:16]]
    assert found == [
        "warn  times      `late_within` names sites without a policy: yrd",
        "warn  times      yard/gate: 5 bursts of 2026-11-22 came too late or were set aside, and change no event",
    ]


def test_commands_that_change_the_past_are_in_the_audit(yard: Yard) -> None:
    event = yard.store.events()[0].event
    when = ("--since", "2026-11-22T07:00:04Z", "--until", "2026-11-22T07:00:06Z")
    for words in (
        ("annotate", event.id, "true", "--author", "ada"),
        ("late", "set-aside", "--site", "yard", "--camera", "gate", *when),
        ("late", "fold-in", "--site", "yard", "--camera", "gate"),
        ("erase", "--site", "yard", "--camera", "gate", *when, "--author", "ada"),
    ):
        assert run(*words).exit_code == 0
    lines = yard.store.audit.page()
    assert [line.what for line in lines] == ["erased", "folded_in", "set_aside", "annotation_added"]
    assert {(line.author, line.site) for line in lines} == {("command line", "yard")}
    assert lines[-1].subject == event.id
    assert "by ada" in (lines[0].detail or "")
