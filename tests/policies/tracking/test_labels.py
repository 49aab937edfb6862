"""Tracks from labels alone, beside tracks with boxes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.fold import initial_state
from policies.observation import Observation, Prediction
from tests.policies.stories import CLASSIFIER, DETECTOR, fold, lines, observation, person_at, policy

ANY = policy(extra='sensitivity = { rule = "any" }')


def seen_at(at_s: float, boxes: tuple[float, ...], named: tuple[str, ...]) -> Observation:
    """A frame with people's feet at these places, and the sectors in which the classifier says that somebody is."""
    labels = [Prediction("person" if name in named else "road", 0.8, sector=name) for name in ("west", "east")]
    return observation(at_s, {"eye": [person_at(x) for x in boxes], "namer": labels}, [DETECTOR, CLASSIFIER])


def test_a_presence_by_labels_ends_although_a_new_box_shows_in_the_frame_in_which_the_labels_stop():
    frames = [seen_at(i * 0.5, boxes=(0.25,) if i == 6 else (), named=("east",) if i < 6 else ()) for i in range(60)]
    state, events = fold(ANY, initial_state(), frames)
    assert lines(events) == [
        "0 entered east unknown",
        "0 presence_started east",
        "2.75 left east unknown",
        "2.75 presence_ended east",
    ]
    assert state.is_empty


shown = st.tuples(
    st.lists(st.sampled_from([0.25, 0.75]), max_size=2, unique=True).map(tuple),
    st.lists(st.sampled_from(["west", "east"]), max_size=2, unique=True).map(tuple),
)


@settings(max_examples=80)
@given(st.lists(shown, min_size=1, max_size=20), st.sampled_from([0.5, 1.0]))
def test_whatever_boxes_and_labels_show_all_has_ended_a_while_after_they_stop(story, every_s):
    frames = [seen_at(i * every_s, boxes, named) for i, (boxes, named) in enumerate(story)]
    frames += [seen_at(100 + i, (), ()) for i in range(40)]
    state, events = fold(ANY, initial_state(), frames)
    assert state.is_empty
    begun = [e.sector for e in events if e.kind == "presence_started"]
    assert sorted(begun) == sorted(e.sector for e in events if e.kind == "presence_ended")
