"""Histories, rules and frames that Hypothesis draws."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from policies.observation import Observation, Prediction
from tests.policies.stories import (
    DETECTOR,
    SECOND,
    observation,
    person_at,
)

# Nobody stands on the very border of the two sectors: a point on it belongs to one of them, mirrored or not.
walkers = st.tuples(
    st.floats(0.02, 0.98).filter(lambda x: abs(x - 0.5) > 0.02),
    st.floats(-0.15, 0.15),
    st.floats(0.4, 0.95),
    st.floats(0, 10),
    st.floats(2, 20),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Observation]:
    """Up to three people crossing at their own speeds, frames missing here and there, two detectors."""
    people = draw(st.lists(walkers, max_size=3))
    every_s = draw(st.sampled_from([0.2, 0.5, 1.0]))
    frames = []
    for i in range(draw(st.integers(1, 40))):
        at_s = i * every_s
        seen: dict[str, list[Prediction]] = {"eye": [], "eye.2": []}
        for x, speed, y, born_s, life_s in people:
            foot = x + speed * (at_s - born_s)
            if born_s <= at_s <= born_s + life_s and 0.04 < foot < 0.96:
                for model, answers in seen.items():
                    if draw(st.integers(0, 9)) < (8 if model == "eye" else 6):
                        answers.append(person_at(foot, y, score=draw(st.sampled_from([0.2, 0.45, 0.9]))))
        frames.append(observation(at_s, dict(seen), [DETECTOR, SECOND]))
    return frames


bounded = settings(max_examples=80)
