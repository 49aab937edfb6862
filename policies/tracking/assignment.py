"""The cheapest one-to-one assignment of a small cost matrix (Hungarian method, O(n²m))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

INFINITY = float("inf")


def assign(costs: Sequence[Sequence[float]]) -> list[int | None]:
    """For each row its column, or None: the assignment whose summed cost is least.

    Negative costs are worth taking, costs of zero or more never are: leaving a row or a column alone is free.
    Deterministic: the same matrix always gives the same answer. After Kuhn (1955) in the shortest augmenting
    path form with potentials, each contest for itself.
    """
    rows = len(costs)
    if not rows or not costs[0]:
        return [None] * rows
    if rows == 1:  # one thing is followed in most frames that show any
        return [_cheapest(costs[0])]
    column_of: list[int | None] = [None] * rows
    for contest in _contests(costs):
        if len(contest.rows) == 1:
            (row,) = contest.rows
            column_of[row] = _cheapest(costs[row])
            continue
        columns = sorted(contest.columns)
        # A private column of cost 0 for every row makes "alone" an ordinary choice and the problem always feasible.
        alone = [0.0] * len(contest.rows)
        small = [[min(costs[row][j], 0.0) for j in columns] + alone for row in contest.rows]
        taken = _augment(small, len(columns) + len(alone))
        for place, row in enumerate(contest.rows):
            if taken[place] < len(columns) and small[place][taken[place]] < 0:
                column_of[row] = columns[taken[place]]
    return column_of


class _Contest(NamedTuple):
    """Rows, in order, and the columns that they want. No other row wants any of these."""

    rows: list[int]
    columns: set[int]


def _contests(costs: Sequence[Sequence[float]]) -> list[_Contest]:
    """The rows that want a column at all, by what they contend for: most things have nothing else near them.

    Where two costs are equal, all is one contest: there may be several best assignments, and which of them is given
    must not depend on who contends with whom, so that logs stay as they are.
    """
    wanted = [[j for j, cost in enumerate(row) if cost < 0] for row in costs]
    paid = [row[j] for row, columns in zip(costs, wanted, strict=True) for j in columns]
    if len(set(paid)) < len(paid):
        return [_Contest(list(range(len(costs))), set(range(len(costs[0]))))]
    contests: list[_Contest] = []
    for row, columns in enumerate(wanted):
        rivals = [contest for contest in contests if not contest.columns.isdisjoint(columns)]
        if rivals:
            contests = [contest for contest in contests if contest not in rivals]
        rows = sorted([row, *(each for rival in rivals for each in rival.rows)])
        if columns:
            contests.append(_Contest(rows, set(columns).union(*(rival.columns for rival in rivals))))
    return contests


def _cheapest(costs: Sequence[float]) -> int | None:
    least = min(costs)
    return costs.index(least) if least < 0 else None


def _augment(costs: Sequence[Sequence[float]], columns: int) -> dict[int, int]:
    """The column of each row. Column `columns` is the root from which every search starts."""
    row_of = [-1] * (columns + 1)
    u, v = [0.0] * len(costs), [0.0] * (columns + 1)
    for start in range(len(costs)):
        row_of[columns], column = start, columns
        least, before = [INFINITY] * columns, [columns] * columns
        done: list[int] = []
        free = list(range(columns))
        while (row := row_of[column]) >= 0:
            done.append(column)
            for j in free:
                cost = costs[row][j] - u[row] - v[j]
                if cost < least[j]:
                    least[j], before[j] = cost, column
            column = min(free, key=least.__getitem__)
            step = least[column]
            for j in done:
                u[row_of[j]] += step
                v[j] -= step
            for j in free:
                least[j] -= step
            free.remove(column)
        while column != columns:
            row_of[column] = row_of[before[column]]
            column = before[column]
    return {row: column for column, row in enumerate(row_of[:-1]) if row >= 0}
