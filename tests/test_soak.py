"""The soak test's day has every fault and is the same again for a seed; its proofs fail where something is wrong."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.soak.day import BEGIN_US, DAY_S, ENDING, KINDS, Fault, bursts_of, faults
from tests.benchmarks.soak.proof import all_events, soak
from tests.benchmarks.soak.storm import SITES, Plan
from tests.benchmarks.soak.verdict import (
    Followed,
    Sample,
    differences,
    followed_differences,
    gaps,
    growths,
    longest_life,
    trends,
    unplanned_ends,
)
from tests.benchmarks.soak.watched import Watched

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


def test_an_announcement_that_says_the_same_as_the_one_before_it_is_counted() -> None:
    followed = Followed()
    for each in (event(1), event(2), event(1), event(1, score=0.8), event(1), event(1)):
        followed.hear(each)
    assert followed.again == 2
    assert followed.events == {"event-1": event(1), "event-2": event(2)}


PLANNED = {"kill": 1, "orphan": 1, "stop": 2, "disk": 1}


@pytest.mark.parametrize(
    ("ends", "log", "found"),
    [
        ({"-9": 2, "0": 1, "-15": 1, "1": 2}, {"warning: request refused": 9}, None),
        ({}, {"error: Worker (pid:N) exited with code 4.": 1, "error: Worker (pid:N) exited with code 3.": 1}, None),
        ({"-9": 3}, {}, "the server ends 3 times with -9, and 2 of them are planned"),
        ({"0": 3}, {}, "the server ends 3 times with 0 or -15, and 2 of them are planned"),
        ({"1": 6}, {}, "the server ends 6 times with 1, and 5 of them are planned"),
        ({"78": 1}, {}, "the server ends 1 times with 78"),
        ({}, {"error: Worker (pid:N) was sent SIGKILL! Perhaps out of memory?": 1}, "SIGKILL"),
        ({}, {"error: Worker (pid:N) exited with code 255.": 2}, "2 times in the server's log: error: Worker"),
    ],
)
def test_an_end_that_no_fault_brings_about_is_named(
    ends: dict[str, int], log: dict[str, int], found: str | None
) -> None:
    named = list(unplanned_ends(ends, log, PLANNED))
    assert len(named) == (found is not None)
    assert all(found in each for each in named if found)


def test_the_code_with_which_a_worker_ends_is_counted_with_the_line_of_the_log(tmp_path: Path) -> None:
    server = Watched(tmp_path, 1)
    server._count(b'{"level": "error", "event": "Worker (pid:71) exited with code 255."}')
    assert server.log == {"traceback": 0, "error: Worker (pid:N) exited with code 255.": 1}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"dropped": 11}, "full spools dropped 11 of 100"),
        ({"acknowledged": 89}, "only 89 of 100"),
        ({"events": 9}, "the clean run has 9 events for 10 cameras"),
        ({"found": {}}, "no process lives for 40 s"),
    ],
)
def test_a_run_that_shows_too_little_is_named(change: dict[str, Any], what: str) -> None:
    enough: dict[str, Any] = {"found": trends([sample(at_s) for at_s in range(100)]), "bursts": 100}
    enough |= {"acknowledged": 90, "dropped": 10, "cameras": 10, "events": 10}
    assert list(gaps(**enough)) == list(gaps(**enough | {"found": None})) == []
    (found,) = gaps(**enough | change)
    assert found.startswith(what)


class Pages(BaseHTTPRequestHandler):
    """Two pages of a log, of which the second does not come at first."""

    refusals = 1

    def do_GET(self) -> None:
        after = int(self.path.partition("after=")[2].partition("&")[0])
        is_refused = after == 2 and Pages.refusals > 0
        Pages.refusals -= is_refused
        listed = LOG[after : after + 2] if after < 4 else []
        body = b"" if is_refused else json.dumps({"events": listed, "next": after + len(listed)}).encode()
        self.send_response(503 if is_refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_line: object) -> None:
        pass


def test_a_page_of_the_log_that_does_not_come_is_asked_for_again() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert all_events(server.server_port, "token") == LOG[:4]
        server.shutdown()
    assert Pages.refusals == 0


def test_a_day_of_three_cameras_with_a_kill_and_a_full_disk_ends_with_the_log_of_a_clean_run(tmp_path: Path) -> None:
    """It takes some ten seconds: three starts of a server are most of it."""
    planned = [
        Fault("disk", 1.0, 2.0),
        Fault("link", 1.0, 3.0, site=SITES[1]),
        Fault("kill", 3.0, 3.0),
        Fault("clock", 3.0, 4.0, step_s=-600),
        Fault("greedy", 3.0, 4.0),
    ]
    outcome = soak(Plan(6.0, 3, 20, 1, planned, is_replayed=False, is_long=False), tmp_path)
    assert outcome.wrong == []
    assert outcome.lives >= 2
    assert outcome.ends["-9"] == 1
    assert len(outcome.ledger.acknowledged) >= 60 - outcome.ledger.dropped
    assert 20 < outcome.events <= outcome.clean_events  # one site keeps a part of the day, and has its events compared
    assert sum(outcome.greedy.values()) > 0
