"""The labels of an answer are FlexServe's, and the same on every endpoint."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.observation import Seat, Sighting
from server import ensemble, receipt

SIGHTINGS = st.builds(
    Sighting,
    st.sampled_from(["person", "car", "road"]),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.none() | st.just((0.1, 0.1, 0.2, 0.2)),
    st.none() | st.just("west"),
)


@given(st.none() | st.lists(SIGHTINGS, max_size=5).map(tuple), st.booleans())
def test_a_burst_s_labels_are_those_that_the_ensemble_gives(
    sightings: tuple[Sighting, ...] | None, boxes: bool
) -> None:
    seat = Seat("model", frozenset({"person", "car", "road"}), boxes)
    assert receipt.top_label(seat, sightings) == ensemble.top_label(seat, sightings)
