"""Where folding may begin so that what is told from an instant on is what a fold from the first frame tells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from policies.fold import REMEMBERED
from policies.observation import Observation
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.analysis.refold_many import EventsSince, exact_start, fold_history
from server.domain.records import Recorded
from tests.policies.stories import START_US, TWO_HALVES, observation, person_at

CHANGES = ("", "presence = { clear_s = 6 }", 'sensitivity = { rule = "any" }', 'min_score = { "*" = 0.2 }')
POLICIES = [parse_site_policy(TWO_HALVES.replace('"yard"\n', f'"yard"\n{change}\n', 1)) for change in CHANGES]


def recorded(frames: Iterable[Observation], since_us: int | None = None) -> list[Recorded]:
    return [Recorded("", seen) for seen in frames if since_us is None or seen.at_us >= since_us]


def begin(frames: Sequence[Observation], since_us: int, policies: Sequence[SitePolicy] = POLICIES) -> int | None:
    before = [seen for seen in frames if seen.at_us < since_us]
    return exact_start(lambda from_us: recorded(before, from_us), "gate", policies, since_us)


def visits(*spans: tuple[float, float], until_s: float, score: float = 0.9) -> list[Observation]:
    """A frame a second; somebody stands there in each span."""
    return [
        observation(t, {"eye": [person_at(0.2, score=score)] if any(a <= t <= b for a, b in spans) else []})
        for t in range(round(until_s))
    ]


def test_folding_begins_in_the_last_quiet_before_the_stretch_that_is_asked_for():
    frames = visits((10, 20), (60, 70), (100, 110), until_s=130)
    assert begin(frames, START_US + 95_000_000) == START_US + (71 - REMEMBERED) * 1_000_000


def test_only_a_fold_for_moving_begins_with_the_first_frame_since_a_scene_is_remembered_for_longer():
    frames = visits((10, 20), (60, 70), (100, 110), until_s=130)
    at_night = '[[schedule]]\nname = "night"\nbetween = ["22:00", "06:00"]\ntargets = ["moving"]\n'
    since_us = START_US + 95_000_000
    for text in ('site = "yard"\ntargets = ["person", "moving"]', f'site = "yard"\n{at_night}'):
        moving = parse_site_policy(text)
        assert begin(frames, since_us, [moving]) is None
        assert begin(frames, since_us, [*POLICIES, moving]) is None
    assert begin(frames, since_us, POLICIES) is not None


def test_policies_that_are_folded_together_give_the_events_of_each_alone():
    by_night = '[[schedule]]\nname = "morning"\nbetween = ["07:00", "07:01"]\nmovement = { sights = 1 }\n'
    scheduled = parse_site_policy(f"{TWO_HALVES}\n{by_night}")
    boxes = [[person_at(0.2, score=0.9 if t < 40 else 0.25)] if t % 30 < 12 else [] for t in range(90)]
    frames = [observation(t, {"eye": seen}) for t, seen in enumerate(boxes)]
    together = fold_history(recorded(frames), "gate", [*POLICIES, scheduled])
    alone = [fold_history(recorded(frames), "gate", [policy]).events[0] for policy in [*POLICIES, scheduled]]
    assert list(together.events) == alone
    assert len({len(events) for events in alone}) > 1


def test_without_a_quiet_that_is_long_enough_folding_begins_with_the_first_frame():
    frames = visits(*((t, t + 6) for t in range(0, 100, 10)), until_s=100)
    assert begin(frames, START_US + 95_000_000) is None


def test_a_frame_that_no_model_answered_is_no_quiet():
    frames = [observation(t, {"eye": None}) for t in range(100)]
    assert begin(frames, START_US + 95_000_000) is None


def test_frames_that_repeat_are_no_quiet():
    frames = [observation(t, {"eye": []}, number=7) for t in range(100)]
    assert begin(frames, START_US + 95_000_000) is None


def test_folding_begins_early_enough_to_know_frames_that_come_again_in_the_quiet():
    frames = visits((10, 70), until_s=120)
    for place in range(72, 79):
        frames[place] = replace(frames[place - 8], at_us=frames[place].at_us, index=frames[place].index)
    since_us = START_US + 91_000_000
    start_us = begin(frames, since_us)
    assert start_us is not None
    whole = fold_history(recorded(frames), "gate", POLICIES, since_us)
    assert fold_history(recorded(frames, start_us), "gate", POLICIES, since_us) == whole


def test_what_one_of_the_policies_sees_is_no_quiet():
    frames = visits((0, 200), until_s=100, score=0.25)
    loose = parse_site_policy('site = "yard"\nmin_score = { "*" = 0.2 }')
    strict = parse_site_policy('site = "yard"\nmin_score = { "*" = 0.9 }')
    assert begin(frames, START_US + 95_000_000, [strict]) is not None
    assert begin(frames, START_US + 95_000_000, [strict, loose]) is None


stays = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 15)).map(lambda p: (p[0], p[0] + p[1])), max_size=8)


again = st.lists(st.tuples(st.integers(0, 329), st.integers(1, REMEMBERED)), max_size=12)


@settings(max_examples=60)
@given(stays, again, st.integers(100, 320), st.sampled_from([0.3, 0.9]))
def test_what_is_told_from_an_instant_on_is_what_a_fold_from_the_first_frame_tells(spans, stuck, since_s, score):
    frames = visits(*spans, until_s=330, score=score)
    for place, back in stuck:
        known = frames[max(0, place - back)].frame_sha256
        frames[place] = replace(frames[place], frame_sha256=known, answers={"eye": (person_at(0.3),)})
    since_us = START_US + since_s * 1_000_000
    start_us = begin(frames, since_us)
    whole = fold_history(recorded(frames), "gate", POLICIES, since_us)
    assert fold_history(recorded(frames, start_us), "gate", POLICIES, since_us) == whole


def test_an_event_that_was_told_before_an_instant_is_not_told_again_after_it():
    first, second = fold_history(recorded(visits((10, 20), until_s=40)), "gate", POLICIES[:1]).events[0][:2]
    collected = EventsSince(since_us=100)
    collected.add(99, [first])
    collected.add(100, [first, second])
    collected.add(101, [replace(second, score=0.1)])
    assert collected.events() == [second]
