"""The cheapest one-to-one assignment of a small cost matrix (Hungarian method, O(n²m))."""

from __future__ import annotations

from collections.abc import Sequence

INFINITY = float("inf")


def assign(costs: Sequence[Sequence[float]]) -> list[int | None]:
    """For each row its column, or None: the assignment whose summed cost is least.

    Negative costs are worth taking, costs of zero or more never are: leaving a row or a column alone is free.
    Deterministic: the same matrix always gives the same answer. After Kuhn (1955) in the shortest augmenting
    path form with potentials.
    """
    rows = len(costs)
    if not rows or not costs[0]:
        return [None] * rows
    columns = len(costs[0])
    if rows == 1:  # one thing is followed in most frames that show any
        least = min(costs[0])
        return [costs[0].index(least) if least < 0 else None]
    # A private column of cost 0 for every row makes "alone" an ordinary choice and the problem always feasible.
    taken = _augment([[min(c, 0.0) for c in row] + [0.0] * rows for row in costs], columns + rows)
    return [taken[i] if taken[i] < columns and costs[i][taken[i]] < 0 else None for i in range(rows)]


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
