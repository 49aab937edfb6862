"""Something that moves and stops in view stays present; places where things go nowhere count for less."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from policies.events import Event
from policies.fold import State, initial_state
from policies.observation import Observation, Prediction
from policies.tracking.lifetime import has_stopped
from tests.policies.stories import CHANGE, START_US, events_of, fold, observation, policy

WHOLE = 'site = "yard"\n[cameras.gate]\n'
STOPS_S = 5.0


def region(x: float, y: float = 0.7) -> Prediction:
    return Prediction("moving", 0.9, (round(x - 0.05, 5), y, round(x + 0.05, 5), round(y + 0.08, 5)))


def stopping(at_s: float) -> Sequence[Prediction]:
    """Comes from the left, slows down and stands in the middle from STOPS_S on."""
    left_s = STOPS_S - at_s
    return [region(0.5 - 0.018 * left_s * left_s)] if 0 < left_s < 5 else []


def story(
    *shown: Callable[[float], Sequence[Prediction]], until_s: float = 90, every_s: float = 0.2
) -> list[Observation]:
    frames = []
    for i in range(round(until_s / every_s)):
        at_s = round(i * every_s, 3)
        regions = [each for part in shown for each in part(at_s)]
        frames.append(observation(at_s, {"frame-change": regions or [Prediction("still", 0.9)]}, [CHANGE]))
    return frames


def presences(frames: Sequence[Observation], extra: str = "") -> list[tuple[str, float]]:
    rules = policy(WHOLE, f'targets = ["moving"]\n{extra}')
    return [
        (event.kind, round((event.at.timestamp() * 1e6 - START_US) / 1e6))
        for event in events_of(rules, frames)
        if event.kind.startswith("presence")
    ]


@pytest.mark.parametrize(
    ("extra", "ends_s"), [("", 65), ("movement = { stopped_s = 20 }", 25), ("movement = { stopped_s = 0 }", 8)]
)
def test_what_stops_in_view_stays_present_for_a_stated_time(extra: str, ends_s: float) -> None:
    [started, (kind, at_s)] = presences(story(stopping), extra)
    assert started[0] == "presence_started"
    assert kind == "presence_ended"
    assert at_s == pytest.approx(ends_s, abs=3)


def test_what_stops_at_the_lower_edge_of_the_view_stays_present_too() -> None:
    [started, ended] = presences(story(lambda at_s: [lower(each) for each in stopping(at_s)]))
    assert started[0] == "presence_started"
    assert ended[0] == "presence_ended"
    assert ended[1] == pytest.approx(65, abs=3)


def lower(seen: Prediction) -> Prediction:
    assert seen.box is not None
    return replace(seen, box=(seen.box[0], 0.88, seen.box[2], 0.96))


def test_what_an_edge_cuts_off_while_it_leaves_has_not_stopped() -> None:
    def leaving(at_s: float) -> Sequence[Prediction]:
        left = (
            0.3 + 0.12 * min(at_s, 5) + 0.004 * max(0, at_s - 5)
        )  # at last only its shadow is seen, which lags behind
        return (
            [Prediction("moving", 0.9, (round(left, 5), 0.7, min(round(left + 0.14, 5), 1.0), 0.8))]
            if at_s < 6.6
            else []
        )

    assert ends_s(story(leaving, until_s=40)) < 12


def ends_s(frames: Sequence[Observation]) -> float:
    """When the one presence ends."""
    [started, (kind, at_s)] = presences(frames)
    assert (started[0], kind) == ("presence_started", "presence_ended")
    return at_s


def test_what_shows_much_less_than_before_is_hidden_and_has_not_stopped() -> None:
    [track] = state_of(story(stopping, until_s=6)).tracks
    assert has_stopped(track)
    assert track.box is not None
    left, top, right, bottom = track.box
    assert not has_stopped(replace(track, box=((left + 2 * right) / 3, top, right, bottom)))


def test_what_is_lost_where_another_thing_passes_at_that_time_has_not_stopped() -> None:
    def passing(at_s: float) -> Sequence[Prediction]:
        return [region(0.95 - 0.09 * at_s, 0.6)] if at_s < 10 else []

    assert ends_s(story(stopping, passing, until_s=40)) < 20


def test_what_stops_while_another_thing_passes_elsewhere_has_stopped() -> None:
    def elsewhere(at_s: float) -> Sequence[Prediction]:
        return [region(0.95 - 0.09 * at_s, 0.2)] if at_s < 10 else []

    assert ends_s(story(stopping, elsewhere)) > 60


def test_what_brakes_hard_has_stopped() -> None:
    def braking(at_s: float) -> Sequence[Prediction]:
        left_s = STOPS_S - at_s
        return [region(0.5 - 0.1 * left_s * min(1, 0.5 + left_s / 4))] if 0 < left_s < 5 else []

    assert ends_s(story(braking)) > 60


def test_what_stops_beside_another_thing_that_passes_has_stopped() -> None:
    def beside(at_s: float) -> Sequence[Prediction]:
        return [region(0.95 - 0.09 * at_s, 0.52)] if at_s < 10 else []

    assert ends_s(story(stopping, beside)) > 60


def test_what_went_at_full_speed_when_it_was_lost_has_not_stopped() -> None:
    def lost(at_s: float) -> Sequence[Prediction]:
        return [region(0.05 + 0.1 * at_s)] if at_s < 5 else []

    assert presences(story(lost, until_s=30))[-1][1] < 12


def briefly(at_s: float) -> Sequence[Prediction]:
    """Comes, stands for a second, and is not seen any more."""
    return [region(0.25 + 0.3 * min((at_s - 5) / 0.8, 1))] if 5 <= at_s <= 6.8 else []


def at_long_intervals(at_s: float) -> Sequence[Prediction]:
    places = {5.0: 0.2, 7.5: 0.35, 10.0: 0.47, 12.5: 0.5, 15.0: 0.5}
    return [region(places[at_s])] if at_s in places else []


@pytest.mark.parametrize(("shown", "every_s"), [(briefly, 0.2), (at_long_intervals, 2.5)])
def test_what_moved_too_briefly_or_was_seen_too_rarely_to_have_a_speed_has_not_stopped(
    shown: Callable[[float], Sequence[Prediction]], every_s: float
) -> None:
    [started, ended] = presences(story(shown, until_s=120, every_s=every_s), "movement = { hidden_s = 5 }")
    assert started[0] == "presence_started"
    assert ended[0] == "presence_ended"
    assert ended[1] <= 20


def test_what_goes_on_as_another_track_has_not_stopped() -> None:
    def ahead(at_s: float) -> Sequence[Prediction]:
        return [region(0.62 + 0.02 * (at_s - 4.6), 0.58)] if 4.6 <= at_s < 5.6 else []

    assert presences(story(stopping, ahead, until_s=40))[-1][1] < 15


def test_what_stopped_is_gone_once_another_thing_begins_there() -> None:
    def leaves(at_s: float) -> Sequence[Prediction]:
        return [region(0.5, 0.62 - 0.04 * (at_s - 20))] if 20 <= at_s < 30 else []

    assert presences(story(stopping, leaves, until_s=60))[-1][1] < 40


def test_what_stopped_and_goes_on_is_the_same_track() -> None:
    def goes_on(at_s: float) -> Sequence[Prediction]:
        gone_s = at_s - 20
        return [region(0.5 + 0.018 * gone_s * gone_s)] if 0 <= gone_s < 5 else []

    rules = policy(WHOLE, 'targets = ["moving"]')
    told: Sequence[Event] = events_of(rules, story(stopping, goes_on, until_s=40))
    assert [event.kind for event in told] == ["entered", "presence_started", "left", "presence_ended"]


def swaying(at_s: float) -> Sequence[Prediction]:
    """Every six seconds a branch moves for half a second."""
    into_s = at_s % 6
    return [region(0.5 + 0.02 * into_s)] if into_s < 0.5 else []


def jumping(length: float) -> Callable[[float], Sequence[Prediction]]:
    """What begins to move at the branch at 60 s, and how far it goes."""
    return lambda at_s: [region(0.5 + 0.1 * (at_s - 60.8))] if 60.8 <= at_s <= 60.8 + length * 10 else []


def state_of(frames: Sequence[Observation]) -> State:
    return fold(policy(WHOLE, 'targets = ["moving"]'), initial_state(), frames)[0]


def test_what_begins_where_things_went_nowhere_must_go_further_than_elsewhere() -> None:
    alone = presences(story(jumping(0.2), until_s=70))
    assert [kind for kind, _ in alone] == ["presence_started", "presence_ended"]
    assert presences(story(swaying, jumping(0.2), until_s=70)) == []
    assert presences(story(swaying, jumping(0.45), until_s=70)) != []


def test_a_thing_that_goes_through_such_a_place_counts() -> None:
    def through(at_s: float) -> Sequence[Prediction]:
        return [region(0.05 + 0.1 * (at_s - 62))] if 62 <= at_s < 71 else []

    assert [kind for kind, _ in presences(story(swaying, through, until_s=80))] == [
        "presence_started",
        "presence_ended",
    ]


def test_such_a_place_is_forgotten_half_an_hour_later() -> None:
    state = state_of(story(swaying, until_s=60))
    assert state.scene
    assert state.scene.places
    still = {"frame-change": [Prediction("still", 0.9)]}
    later, _ = fold(policy(WHOLE, 'targets = ["moving"]'), state, [observation(2400, still, [CHANGE])])
    assert later.scene
    assert later.scene.places == ()
