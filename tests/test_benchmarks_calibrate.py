"""Tables of what scores are worth, fitted to sightings of which it is known whether they are right."""

from __future__ import annotations

import random

from policies.calibration import fault_of
from tests.benchmarks.events.calibrate import Thing, fit, isotonic


def test_the_shares_of_a_table_are_those_of_the_sightings_and_never_fall() -> None:
    chance = random.Random(1)
    scores = [chance.random() for _ in range(20_000)]
    rows = isotonic((score, chance.random() < score**2) for score in scores)
    shares = [right for _, right in rows]
    assert shares == sorted(set(shares))
    for score, right in rows[1:]:
        assert abs(right - score**2) < 0.1


def test_bands_whose_shares_fall_are_pooled() -> None:
    sightings = [(0.1 + i / 1000, i % 2 == 0) for i in range(200)] + [(0.5 + i / 1000, i % 4 == 0) for i in range(200)]
    assert isotonic(sightings) == [(0.1, 0.38)]


def test_each_clip_has_an_equal_say_and_silence_counts_only_where_another_model_is_sure() -> None:
    names = frozenset({"a", "b"})

    def seen(count: int, right: int, clip: str, **scores: float) -> list[Thing]:
        return [Thing(scores, names, i * right // count != (i - 1) * right // count, clip, i % 5) for i in range(count)]

    things = seen(1000, 1000, "large", a=0.8, b=0.8) + seen(100, 50, "small", a=0.8)
    things += seen(200, 20, "large", b=0.9) + seen(500, 0, "large", b=0.1)
    tables = fit(things, ["a", "b"])
    assert tables["a"] == [(0.0, 0.1), (0.8, 0.74)]
    assert tables["b"][0] == (0.0, 0.5)
    assert all(fault_of(rows) is None for rows in tables.values())
