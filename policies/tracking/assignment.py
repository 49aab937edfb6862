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
    padded = [[min(c, 0.0) for c in row] + [0.0] * rows for row in costs]
    taken = _augment(padded, rows, columns + rows)
    return [j if j < columns and costs[i][j] < 0 else None for i, j in enumerate(taken)]


def _augment(costs: list[list[float]], rows: int, columns: int) -> list[int]:
    row_of = [-1] * columns
    u, v = [0.0] * rows, [0.0] * columns
    for start in range(rows):
        least, before = [INFINITY] * columns, [-1] * columns
        done = [False] * columns
        row, column = start, -1
        while True:
            column, row = _nearest(costs, row, column, (u, v), (least, before, done), row_of, start)
            if row < 0:
                break
        while column >= 0:
            previous = before[column]
            row_of[column] = row_of[previous] if previous >= 0 else start
            column = previous
    answer = [-1] * rows
    for column, row in enumerate(row_of):
        if row >= 0:
            answer[row] = column
    return answer


def _nearest(
    costs: list[list[float]],
    row: int,
    column: int,
    potentials: tuple[list[float], list[float]],
    search: tuple[list[float], list[int], list[bool]],
    row_of: list[int],
    start: int,
) -> tuple[int, int]:
    """One step of the search from `row`, reached by `column`: the next column and the row holding it (or -1)."""
    (u, v), (least, before, done) = potentials, search
    if column >= 0:
        done[column] = True
    best, step = -1, INFINITY
    for j in range(len(v)):
        if done[j]:
            continue
        cost = costs[row][j] - u[row] - v[j]
        if cost < least[j]:
            least[j], before[j] = cost, column
        if least[j] < step:
            best, step = j, least[j]
    u[start] += step
    for j in range(len(v)):
        if done[j]:
            u[row_of[j]] += step
            v[j] -= step
        else:
            least[j] -= step
    return best, row_of[best]
