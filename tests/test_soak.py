"""The soak test's day has every fault and is the same again for a seed; its proofs fail where something is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.soak_day import BEGIN_US, DAY_S, ENDING, KINDS, Fault, bursts_of, faults
from tests.benchmarks.soak_proof import soak
from tests.benchmarks.soak_storm import SITES, Plan
from tests.benchmarks.soak_verdict import (
    Sample,
    differences,
    followed_differences,
    growths,
    longest_life,
    trends,
)

MINUTES_20 = 1200.0


def event(number: int, **changes: Any) -> dict[str, Any]:
    told = {"id": f"event-{number}", "kind": "entered", "site": "yard-0", "camera": "camera-00", "score": 0.9}
    told |= {"confirmed_at": f"2026-11-22T{number:02d}:00:00Z", "late": False, "withdrawn": False, "supersedes": []}
    return told | changes


LOG = [event(number) for number in range(6)]
FROM_THREE = {("yard-0", "camera-00"): datetime.fromisoformat("2026-11-22T03:00:00Z")}


@pytest.mark.parametrize("seconds", [20.0, 120.0, MINUTES_20])
def test_every_fault_comes_and_none_ends_the_server_in_the_second_half(seconds: float) -> None:
    planned = faults(seconds, SITES, 1)
    assert {fault.kind for fault in planned} == set(KINDS)
    assert planned == faults(seconds, SITES, 1) != faults(seconds, SITES, 2)
    assert max(fault.begin_s for fault in planned if fault.kind in ENDING) < seconds / 2
    assert all(fault.site in SITES for fault in planned if fault.kind == "link")


def test_a_camera_takes_its_bursts_in_order_over_the_whole_day_and_some_clocks_step() -> None:
    days = [bursts_of(f"camera-{number:02d}", 120, 1) for number in range(20)]
    for day in days:
        due = [taken.due_us for taken in day]
        assert len(day) == len({taken.burst_id for taken in day}) == 120
        assert all(later - earlier >= 2_000_000 for earlier, later in pairwise(due))
        assert due[0] >= BEGIN_US
        assert due[-1] < BEGIN_US + DAY_S * 1_000_000
    steps = [{taken.captured_us - taken.due_us for taken in day} for day in days]
    assert sum(len(each) > 1 for each in steps) > 3
    assert all(abs(step) <= 900_000_000 for each in steps for step in each)
    feet = Counter(foot is None for day in days for taken in day for foot in taken.feet)
    assert 0.2 < feet[False] / feet.total() < 0.8


def test_logs_that_differ_in_their_history_alone_are_equal() -> None:
    late = [{**each, "late": True, "supersedes": ["event-9"], "superseded_by": {}} for each in LOG]
    assert list(differences(late, LOG, {})) == []


@pytest.mark.parametrize(
    ("log", "what"),
    [
        (LOG[:-1], "1 events are missing"),
        ([*LOG, event(7)], "1 events are only in the log"),
        ([*LOG[:-1], event(5, score=0.8)], "1 events are different"),
        ([*LOG, LOG[0]], "1 events are in the log twice"),
    ],
)
def test_a_log_that_is_not_that_of_the_clean_run_is_named(log: list[dict[str, Any]], what: str) -> None:
    (found,) = differences(log, LOG, {})
    assert found.startswith(what)


def test_deleted_events_may_be_missing_and_what_is_left_of_them_must_be_right() -> None:
    assert list(differences(LOG[3:], LOG, FROM_THREE)) == []
    assert list(differences(LOG[2:], LOG, FROM_THREE)) == []
    assert list(differences(LOG[4:], LOG, FROM_THREE)) != []
    assert list(differences([event(2, score=0.8), *LOG[3:]], LOG, FROM_THREE)) != []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda held: held.pop("event-5"), "misses"),
        (lambda held: held.update({"event-9": event(9)}), "still holds"),
        (lambda held: held.update({"event-5": event(5, score=0.8)}), "holds in another form"),
        (lambda held: held.update({"event-5": event(5, withdrawn=True)}), "misses"),
    ],
)
def test_who_followed_the_log_must_hold_what_it_ends_with(
    change: Callable[[dict[str, Any]], object], what: str
) -> None:
    held = {each["id"]: each for each in LOG} | {"event-8": event(8, withdrawn=True)}
    assert list(followed_differences("a reader", held, LOG, {})) == []
    change(held)
    (found,) = followed_differences("a reader", held, LOG, {})
    assert found.startswith(f"a reader {what} 1 events")


def sample(at_s: float, life: int = 1, **changes: float) -> Sample:
    usual: dict[str, Any] = {"own_mb": 150.0, "rss_mb": 200.0, "handles": 60, "threads": 30, "bounded_bytes": 9}
    return Sample(at_s, life, **(usual | changes), file_bytes=0, log_bytes=0)


def test_growth_of_the_longest_life_is_named_and_that_of_its_warm_up_is_not() -> None:
    short = [sample(at_s, life=1, own_mb=50.0 + at_s) for at_s in range(30)]
    flat = [sample(at_s, life=2, own_mb=min(150.0, at_s)) for at_s in range(100, 400)]
    growing = [sample(at_s, life=2, handles=at_s) for at_s in range(100, 400)]
    assert {each.life for each in longest_life([*short, *flat])} == {2}
    assert list(growths(trends([*short, *flat]))) == []
    (found,) = growths(trends([*short, *growing]))
    assert found.startswith("handles grows")
    assert trends(short) == {}, "too short a life shows nothing"


def test_a_day_of_three_cameras_with_a_kill_and_a_full_disk_ends_with_the_log_of_a_clean_run(tmp_path: Path) -> None:
    """It takes some ten seconds: three starts of a server are most of it."""
    planned = [
        Fault("disk", 1.0, 2.0),
        Fault("link", 1.0, 3.0, site=SITES[1]),
        Fault("kill", 3.0, 3.0),
        Fault("clock", 3.0, 4.0, step_s=-600),
        Fault("greedy", 3.0, 4.0),
    ]
    outcome = soak(Plan(6.0, 3, 20, 1, planned, is_replayed=False), tmp_path)
    assert outcome.wrong == []
    assert outcome.lives >= 2
    assert outcome.ends["-9"] == 1
    assert len(outcome.ledger.acknowledged) >= 60 - outcome.ledger.dropped
    assert outcome.events == outcome.clean_events > 20
    assert sum(outcome.greedy.values()) > 0
