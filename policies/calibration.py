"""What the scores of a model are worth: of the sightings with such a score, how many are right.

A calibration is a table of rows `(score, right)`: from this score on, `right` of 1 sightings are right, until the next
row. The first row has the score 0 and is for what the model did not see, where another one did. The table stands on the
model's card and is stored with the ensemble.

`ln(right / (1 - right))` are the log-odds of a sighting. Those of independent models add up (naive Bayes, with even
odds before anything is seen). They are whole thousandths here, so that a sum depends neither on the order of the models
nor on the machine. A share has three decimals, and the log-odds of all 999 shares are so far from the border between
two thousandths (0.001 of one) that no machine's logarithm rounds them to the other one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

Row = tuple[float, float]
"""A score, and how many of 1 sightings are right from there on."""

LEAST_RIGHT, MOST_RIGHT = 0.001, 0.999
_MOST_ROWS = 20


def log_odds(right: float) -> int:
    """The log-odds of a share that lies between LEAST_RIGHT and MOST_RIGHT, in thousandths."""
    share = round(right, 3)
    return round(1000 * math.log(share / (1 - share)))


def share_of(thousandths: float) -> float:
    """The share with these log-odds, to three decimals. For people: no decision depends on it."""
    return round(1 / (1 + math.exp(-thousandths / 1000)), 3)


class Part(NamedTuple):
    """What a model says of one candidate, in thousandths of log-odds: `given` by its score, `unseen` if it had none,
    `most` by the best score there is.
    """

    given: int
    unseen: int
    most: int


class Calibration:
    """A table, ready for use. `levels` are its scores from the second row on; `even` is the score from which a sighting
    is rather right than wrong.
    """

    __slots__ = ("_log_odds", "even", "levels")

    def __init__(self, rows: Sequence[Row]) -> None:
        self._log_odds = tuple(log_odds(right) for _, right in rows)
        self.levels = tuple(score for score, _ in rows[1:])
        self.even = min([score for (score, _), part in zip(rows, self._log_odds, strict=True) if part > 0], default=1.0)

    def part(self, score: float) -> Part:
        """What this score says; 0 is for no sighting."""
        steps = self._log_odds
        return Part(steps[bisect_right(self.levels, score)], steps[0], steps[-1])


def fault_of(rows: Sequence[Row]) -> str | None:
    """Why the rows are no calibration; None if they are one."""
    scores, shares = [score for score, _ in rows], [right for _, right in rows]
    checks = (
        (2 <= len(rows) <= _MOST_ROWS, f"has 2 to {_MOST_ROWS} rows [score, right]"),
        (scores[:1] == [0] and scores[-1:] <= [1], "begins with the score 0, and no score is above 1"),
        (_rises(scores, strictly=True), "has each score above the one before"),
        (_rises(shares), "has no share below the one before: a higher score is never worth less"),
        (
            all(LEAST_RIGHT <= right <= MOST_RIGHT and right == round(right, 3) for right in shares),
            f"has shares between {LEAST_RIGHT} and {MOST_RIGHT} with three decimals at most",
        ),
        (shares[:1] <= [0.5], "begins with 0.5 at most: what a model did not see is no evidence for it"),
        (shares[-1:] > [0.5], "ends above 0.5: a model whose best score is rather wrong than right shows nothing"),
    )
    return next((what for holds, what in checks if not holds), None)


def _rises(numbers: Iterable[float], *, strictly: bool = False) -> bool:
    return all(a < b or (a == b and not strictly) for a, b in pairwise(numbers))
