"""How it stands with a camera and its sectors, from what is known at one instant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.events import Evidence, instant
from policies.fold import State
from policies.occupancy import Occupancy
from policies.presence import Presence
from policies.site.site_policy import parse_site_policy
from server.camera_status.heartbeat import Heartbeat, HeartbeatAgent, HeartbeatClock, Waiting
from server.camera_status.status import Condition, StatusThresholds, condition_of, sectors_of
from server.domain.records import BurstSpan, CameraActivity, StoredHeartbeat

S = 1_000_000
NOW = 1_800_000_000 * S
PATIENCE = StatusThresholds(late_s=30, silent_s=120)
POLICY = parse_site_policy('site = "yard"').camera("gate")
EVIDENCE = Evidence("b", "0" * 64, 0.9, {}, None)


def spans(*ago_s: float, every_s: float = 10.0) -> tuple[BurstSpan, ...]:
    """Bursts whose last frames are so long ago, newest first; each came at once."""
    return tuple(
        BurstSpan(f"b{ago}", int(NOW - (ago + every_s) * S), int(NOW - ago * S), int(NOW - ago * S)) for ago in ago_s
    )


def heartbeat(ago_s: float, *, next_in_s: float | None = None, clock_off_s: float = 0.0, **more: Any) -> Heartbeat:
    """A heartbeat sent so long ago, by a clock that is so far behind, promising a burst so long after it."""
    sent_us = int(NOW - (ago_s + clock_off_s) * S)
    told: dict[str, Any] = {
        "site": "yard",
        "camera": "gate",
        "agent": HeartbeatAgent(instant(sent_us), instant(sent_us - 3600 * S), every_s=60),
        "state": "watching",
        "since": instant(sent_us - 1800 * S),
        "next_burst_by": None if next_in_s is None else instant(int(sent_us + next_in_s * S)),
        "clock": HeartbeatClock(synced=clock_off_s == 0),
    }
    return Heartbeat(**told | more)


def activity(
    recent: tuple[BurstSpan, ...], ago_s: float | None = None, off_s: float = 0.0, *, ahead: bool = False
) -> CameraActivity:
    sent_us = 0 if ago_s is None else int(NOW - (ago_s + off_s) * S)
    kept = None if ago_s is None else StoredHeartbeat("yard", "gate", 0, sent_us, int(NOW - ago_s * S), "")
    return CameraActivity("yard", "gate", kept, recent, None, ahead)


def stands(
    recent: tuple[BurstSpan, ...], told: Heartbeat | None = None, ago_s: float | None = None, **more: Any
) -> Condition:
    return condition_of(activity(recent, ago_s, **more), told, NOW, PATIENCE)


@pytest.mark.parametrize(("ago_s", "state"), [(5, "ok"), (39, "ok"), (41, "late"), (131, "silent")])
def test_without_heartbeats_the_usual_distance_of_bursts_says_when_the_next_is_due(ago_s: float, state: str):
    assert stands(spans(ago_s, ago_s + 10, ago_s + 20)).state == state


def test_one_long_pause_in_the_past_does_not_make_the_server_patient():
    assert stands(spans(200, 210, 4000, 4010, 4020)).state == "silent"


def test_a_camera_that_sent_one_burst_only_is_given_a_minute():
    assert stands(spans(85)).state == "ok"
    assert stands(spans(95)).state == "late"


def test_an_agent_may_promise_its_next_burst_for_later():
    told = heartbeat(50, next_in_s=600)
    assert stands(spans(60, 70), told, 50) == Condition("ok", next_burst_by=told.next_burst_by)


def test_a_burst_after_the_promise_renews_it():
    assert stands(spans(20, 600), heartbeat(700, next_in_s=300), 700).state == "ok"


def test_a_camera_is_late_since_its_burst_was_due():
    told = stands(spans(60, 70))
    assert (told.state, told.cause, told.since) == ("late", "no_bursts", instant(NOW - 50 * S))


@pytest.mark.parametrize(
    ("heard_s", "more", "cause"),
    [
        (10, {}, "no_bursts"),
        (10, {"waiting": Waiting(bursts=3)}, "backlog"),
        (130, {}, "agent_silent"),
        (130, {"waiting": Waiting(bursts=3)}, "agent_silent"),
    ],
)
def test_the_cause_is_said_as_far_as_it_is_known(heard_s: float, more: dict[str, Any], cause: str):
    told = heartbeat(heard_s, next_in_s=-100, **more)
    assert stands(spans(300, 310), told, heard_s).cause == cause


def test_old_bursts_that_arrive_now_are_a_backlog():
    arriving = tuple(replace(span, received_at_us=NOW - S) for span in spans(3600, 3610))
    assert stands(arriving) == Condition("silent", "backlog", instant(NOW - 3590 * S), instant(NOW - 3590 * S))


def test_bursts_from_the_future_are_a_clock_that_is_ahead():
    assert stands(spans(300, 310), ahead=True).cause == "clock_ahead"


@pytest.mark.parametrize(
    ("state", "cause", "said"),
    [("blind", "camera_stuck", "camera_stuck"), ("stopped", "stopped", "stopped"), ("finished", None, "finished")],
)
def test_an_agent_that_says_it_does_not_see_is_silent_at_once_since_it_says(state: str, cause: str | None, said: str):
    told = heartbeat(1, state=state, cause=cause)
    assert stands(spans(2, 12), told, 1) == Condition("silent", said, told.since)


def test_what_an_agent_said_before_its_newest_burst_is_over():
    assert stands(spans(5, 15), heartbeat(60, state="blind", cause="camera_failed"), 60).state == "ok"


@pytest.mark.parametrize(("heard_s", "state"), [(119, "ok"), (121, "silent")])
def test_an_agent_that_misses_two_heartbeats_is_silent_whenever_its_next_burst_is_due(heard_s: float, state: str):
    told = stands(spans(300, 310), heartbeat(heard_s, next_in_s=3600), heard_s)
    assert told.state == state
    if state == "silent":
        assert (told.cause, told.since) == ("agent_silent", instant(NOW - 121 * S))


def test_an_agent_whose_bursts_come_is_heard_without_heartbeats():
    assert stands(spans(5, 15), heartbeat(500, next_in_s=3600), 500).state == "ok"


def test_a_pause_that_is_over_excuses_no_longer():
    within = stands(spans(3600), heartbeat(3500, state="paused", cause="outside_hours", next_in_s=3490), 3500)
    over = stands(spans(3600), heartbeat(3500, state="paused", cause="outside_hours", next_in_s=3000), 3500)
    assert (within.state, within.cause) == ("silent", "outside_hours")
    assert (over.state, over.cause) == ("silent", "agent_silent")


def test_a_camera_that_never_sent_a_burst_is_starting_or_silent():
    assert stands((), heartbeat(1, state="starting"), 1).state == "late"
    assert stands((), heartbeat(1), 1) == Condition("silent", "no_burst_yet", heartbeat(1).since)
    assert stands((), ahead=True).cause == "no_burst_yet"


def test_a_clock_that_was_never_set_is_corrected_by_the_heartbeats_own_delay():
    off_s = 86_400.0
    recent = tuple(
        BurstSpan(s.burst_id, s.first_at_us - int(off_s * S), s.last_at_us - int(off_s * S), s.received_at_us)
        for s in spans(10, 20)
    )
    assert stands(recent, heartbeat(5, next_in_s=10, clock_off_s=off_s), 5, off_s=off_s).state == "ok"


def seen(ago_s: float, *, occupied: bool) -> State:
    at = int(NOW - ago_s * S)
    here = (Presence("person", "view", at - 60 * S, EVIDENCE),) if occupied else ()
    return State(last_at_us=at, seen_us=at, presences=here)


OK, LATE, SILENT = Condition("ok"), Condition("late", "no_bursts"), Condition("silent", "camera_stuck")


@pytest.mark.parametrize("occupied", [True, False])
@pytest.mark.parametrize(
    ("condition", "ago_s", "known"),
    [(OK, 5, True), (OK, 600, True), (LATE, 20, True), (LATE, 40, False), (SILENT, 1, False)],
)
def test_a_sector_stands_as_it_was_seen_until_that_is_too_long_ago(
    condition: Condition, ago_s: float, known: bool, occupied: bool
):
    [told] = sectors_of(POLICY, seen(ago_s, occupied=occupied), condition, NOW)
    as_seen = Occupancy.OCCUPIED if occupied else Occupancy.CLEAR
    assert told.state is (as_seen if known else Occupancy.UNOBSERVED)
    assert told.cause == (None if known else condition.cause)
    if not known:
        assert told.since == instant(NOW - int(ago_s * S))


def test_frames_that_tell_nothing_leave_a_sector_unobserved_though_bursts_come_in_time():
    state = msgspec.structs.replace(seen(5, occupied=False), seen_us=NOW - 600 * S)
    [told] = sectors_of(POLICY, state, OK, NOW)
    assert (told.state, told.cause) == (Occupancy.UNOBSERVED, "the frames repeat, or no model answers")


def test_a_camera_without_a_frame_has_no_sectors_yet():
    assert sectors_of(None, None, SILENT, NOW) == ()


@given(ago_s=st.floats(0, 1e6), occupied=st.booleans(), cause=st.sampled_from(["agent_silent", "backlog"]))
def test_a_silent_camera_never_shows_a_clear_sector(ago_s: float, occupied: bool, cause: str):
    told = sectors_of(POLICY, seen(ago_s, occupied=occupied), Condition("silent", cause), NOW)
    assert [(one.state, one.cause) for one in told] == [(Occupancy.UNOBSERVED, cause)]
