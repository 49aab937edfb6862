"""How late a burst may be is bounded by site; what is older is kept, marked, and changes no event."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policies.events import Event
from server.camera_status.time_faults import time_faults
from server.domain.folding.refold import steps
from server.domain.records import StoredHeartbeat
from server.domain.times.lateness import read_lateness
from server.pipeline.advancing import Advancing
from server.pipeline.pipeline import Pipeline
from server.store import Store, open_store
from server.store import store as store_module
from tests.server.scenes import START_US, Yard, across
from tests.server.store.test_store import Interrupted, Interruption
from tests.stand_ins import ManualClock

MINUTE_US = 60_000_000
DAY_S = 86_400.0


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    return Yard(tmp_path / "sites", store, clock)


def bound(yard: Yard, late_within: str) -> None:
    """From now on, this is the setting."""
    within_us = read_lateness(late_within).within_us
    yard.pipeline = Pipeline(yard.ensemble, yard.store, yard.sites, yard.clock, late_within_us=within_us)


def told(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def folded_anew(store: Store) -> list[Event]:
    start = store.checkpoint("yard", "gate", 0)
    return [event for step in steps(store.history("yard", "gate"), start, store.policy) for event in step.events]


def test_a_burst_that_comes_too_late_is_kept_and_marked_and_changes_no_event(yard: Yard) -> None:
    bound(yard, "10s")
    bursts = yard.walked(across, 26)
    for one in [*bursts[:3], *bursts[4:]]:
        yard.pipeline.process(one)
    before = told(yard.store)
    receipt = yard.pipeline.process(bursts[3])
    assert (receipt.as_wire()["status"], receipt.as_wire()["late"], receipt.as_wire()["events"]) == (
        "set_aside",
        True,
        [],
    )
    assert yard.store.refolds.run() == 0
    assert told(yard.store) == before == folded_anew(yard.store)
    assert yard.store.counts()["observations"] == 13 * 4, "it is kept"
    assert [(each.late, each.bursts) for each in yard.store.marked()] == [(2, 1)]
    assert all(seen.burst_id != bursts[3].burst_id for seen in yard.store.observations("yard", "gate"))


def test_one_within_the_bound_is_folded_in(yard: Yard) -> None:
    bound(yard, "10s, yard=5min, other=1s")
    bursts = yard.walked(across, 26)
    for one in [*bursts[:3], *bursts[4:], bursts[3]]:
        yard.pipeline.process(one)
    assert yard.store.kept(bursts[3].burst_id).status == "folded"
    assert told(yard.store) == folded_anew(yard.store)


def test_a_recording_of_old_footage_is_not_late_by_the_server_s_clock(yard: Yard) -> None:
    yard.clock.advance(20 * 365 * DAY_S)
    bound(yard, "10s")
    for one in yard.walked(across, 26):
        assert yard.pipeline.process(one).burst.status == "folded"
    assert "crossed" in [event.kind for event in told(yard.store)]


def test_the_mark_stays_when_the_setting_is_changed(yard: Yard) -> None:
    bound(yard, "10s")
    bursts = yard.walked(across, 26)
    for one in [*bursts[:3], *bursts[4:], bursts[3]]:
        yard.pipeline.process(one)
    before = told(yard.store)
    bound(yard, "30d")
    receipt = yard.pipeline.process(bursts[3])
    assert (receipt.known, receipt.burst.status) == (True, "set_aside")
    yard.pipeline.process(yard.walk(90, lambda t: None, 30))
    assert told(yard.store) == folded_anew(yard.store)
    assert [event for event in told(yard.store) if event in before] == before


def test_what_was_set_aside_can_be_folded_in_and_the_log_is_that_of_a_clean_run(
    yard: Yard, new_sqlite: Callable[[], str]
) -> None:
    bound(yard, "10s")
    bursts = yard.walked(across, 26)
    for one in [*bursts[:3], *bursts[5:], bursts[3], bursts[4]]:
        yard.pipeline.process(one)
    assert yard.store.fold_in("yard", "gate", None, bursts[4].frames[0].at_us) == 1
    assert yard.store.fold_in("yard", "gate", None, None) == 1
    assert yard.store.marked() == []
    clean = open_store(new_sqlite(), yard.clock)
    other = Yard(yard.folder, clean, yard.clock)
    other.pipeline._ensemble = yard.ensemble
    for one in bursts:
        other.pipeline.process(one)
    assert told(yard.store) == told(clean)
    clean.close()


def test_bursts_that_somebody_else_folds_in_meanwhile_are_left_to_him(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(yard, "10s")
    bursts = yard.walked(across, 26)
    for one in [*bursts[:3], *bursts[5:], bursts[3], bursts[4]]:
        yard.pipeline.process(one)
    choose, others = store_module.aside_of, iter([yard.store.fold_in])

    def chosen(*asked: Any) -> list[int]:
        numbers = choose(*asked)
        for fold_in in others:
            fold_in("yard", "gate", None, None)
        return numbers

    monkeypatch.setattr(store_module, "aside_of", chosen)
    assert yard.store.fold_in("yard", "gate", None, None) == 0
    assert yard.store.marked() == []
    assert told(yard.store) == folded_anew(yard.store)


def test_bursts_are_set_aside_together_with_a_line_in_the_audit_or_not_at_all(yard: Yard) -> None:
    for one in yard.walked(across, 10):
        yard.pipeline.process(one)
    assert yard.store.set_aside("yard", "gate", yard.clock.now_us, None, by="anna") == 0
    assert yard.store.audit.page() == [], "nothing is changed"
    statement, is_done = 0, False
    while not is_done:
        statement += 4
        try:
            with Interruption(yard.store, statement):
                yard.store.set_aside("yard", "gate", None, START_US + 3_000_000, by="anna")
            is_done = True
        except Interrupted:
            assert (yard.store.marked(), yard.store.audit.page()) == ([], [])
    assert statement > 10
    assert yard.store.fold_in("yard", "gate", None, None, by="anna") == 2
    lines = [(line.author, line.what, line.site, line.subject, line.detail) for line in yard.store.audit.page()]
    assert lines == [("anna", what, "yard", "gate", "2 bursts") for what in ("folded_in", "set_aside")]


def test_a_camera_whose_clock_is_years_back_is_one_finding_and_no_storm(yard: Yard, clock: ManualClock) -> None:
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
    before, seq = told(yard.store), yard.store.last_seq()
    for n in range(20):
        back = yard.walk(100 + n, lambda t: 0.3, n * 2.0 - 3 * 365 * DAY_S)
        assert yard.pipeline.process(back).burst.status == "set_aside"
    sent_us = clock.now_us - round(3 * 365 * DAY_S * 1e6)
    yard.store.heartbeats.keep(StoredHeartbeat("yard", "gate", sent_us, sent_us, clock.now_us, "{}"))
    assert (told(yard.store), yard.store.last_seq()) == (before, seq)
    assert yard.store.refolds.run() == 0
    (fault,) = time_faults(yard.store.marked(), yard.store.heartbeats.activities(), clock.now_us)
    assert (fault.site, fault.camera) == ("yard", "gate")
    assert "its agent's clock is 3.0 years back; 20 bursts of 2023-11-23 came too late" in fault.what
    assert "set the clock of the agent's machine (NTP)" in fault.next_step


def test_after_a_clock_years_ahead_honest_bursts_count_and_one_command_mends_the_log(
    yard: Yard, clock: ManualClock, new_sqlite: Callable[[], str]
) -> None:
    bursts = yard.walked(across, 26)
    for one in bursts[:5]:
        yard.pipeline.process(one)
    years_us = round(10 * 365 * DAY_S * 1e6)
    clock.now_us += years_us  # the server's clock is ahead as well, or the bursts would wait
    ahead = [yard.walk(50 + n, lambda t: 0.7, 10 * 365 * DAY_S + n * 2.0) for n in range(3)]
    for one in ahead:
        assert yard.pipeline.process(one).burst.status == "folded"
    clock.now_us -= years_us
    for one in bursts[5:]:
        receipt = yard.pipeline.process(one)
        assert (receipt.burst.status, receipt.burst.late) == ("folded", True)
    (fault,) = time_faults(yard.store.marked(), yard.store.heartbeats.activities(), clock.now_us)
    assert "its newest frame is 10.0 years ahead of the server's clock, so all that comes now is late" in fault.what
    assert "sectorwatch late set-aside --site yard --camera gate --since 2026-11-22T08:05:00Z" in fault.next_step
    assert yard.store.set_aside("yard", "gate", clock.now_us, None) == 3
    clean = open_store(new_sqlite(), clock)
    other = Yard(yard.folder, clean, clock)
    other.pipeline._ensemble = yard.ensemble
    for one in bursts:
        other.pipeline.process(one)
    assert told(yard.store) == told(clean)
    assert [head.last_at_us for head in yard.store.cameras()] == [head.last_at_us for head in clean.cameras()]
    clean.close()
    following = yard.walk(99, lambda t: None, 30)
    assert yard.pipeline.process(following).burst.late is False, "the camera is back in the present"


def test_a_camera_of_which_all_is_set_aside_begins_anew(yard: Yard) -> None:
    bursts = yard.walked(across, 10)
    for one in bursts:
        yard.pipeline.process(one)
    assert yard.store.set_aside("yard", "gate", None, START_US + MINUTE_US) == len(bursts)
    assert (told(yard.store), yard.store.cameras()) == ([], [])
    assert yard.store.fold_in("yard", "gate", None, None) == len(bursts)
    assert told(yard.store) == folded_anew(yard.store) != []


def test_a_backlog_of_held_bursts_is_released_some_at_a_time_and_in_order(
    yard: Yard, clock: ManualClock, new_sqlite: Callable[[], str]
) -> None:
    bursts = yard.walked(across, 260)
    clock.now_us = START_US - 2 * 365 * round(DAY_S * 1e6)
    for one in bursts[:-1]:
        assert yard.pipeline.process(one).burst.status == "held"
    clock.now_us = START_US + 3_600_000_000
    assert yard.pipeline.process(bursts[-1]).burst.status == "held", "those before it come first"
    assert Advancing(yard.store, yard.clock).release_held() == 1
    assert [yard.store.kept(one.burst_id).late for one in bursts] == [False] * len(bursts)
    assert told(yard.store) == folded_anew(yard.store) != []


def test_a_heartbeat_after_the_agent_s_clock_was_set_back_is_kept(store: Store, clock: ManualClock) -> None:
    def beat(sent_us: int) -> bool:
        return store.heartbeats.keep(StoredHeartbeat("yard", "gate", START_US, sent_us, 0, "{}"))

    assert beat(START_US + 10 * 365 * round(DAY_S * 1e6))
    assert beat(START_US + MINUTE_US), "the clock was set right"
    assert not beat(START_US + MINUTE_US - 1), "it was overtaken"


@pytest.mark.parametrize("text", ["7", "7 weeks", "-1d", "yard=", "Yard=7d", "1.5d"])
def test_a_bound_that_is_no_span_of_time_is_refused_with_its_faulty_part(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        read_lateness(text)
