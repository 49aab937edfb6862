"""The assignment is the cheapest one there is."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from policies.tracking.assignment import INFINITY, assign

matrices = st.integers(1, 4).flatmap(
    lambda columns: st.lists(
        st.lists(st.one_of(st.integers(-9, 9), st.just(INFINITY)), min_size=columns, max_size=columns),
        min_size=1,
        max_size=4,
    )
)


@given(matrices)
def test_no_other_assignment_costs_less(costs):
    columns = assign(costs)
    taken = [j for j in columns if j is not None]
    assert len(taken) == len(set(taken))
    best = 0.0
    for choice in itertools.product([None, *range(len(costs[0]))], repeat=len(costs)):
        used = [j for j in choice if j is not None]
        if len(used) == len(set(used)):
            best = min(best, sum(costs[i][j] for i, j in enumerate(choice) if j is not None))
    assert sum(costs[i][j] for i, j in enumerate(columns) if j is not None) == best


def test_what_costs_nothing_or_more_is_left_alone():
    assert assign([[0.0, 2.0]]) == [None]


def test_no_rows_or_no_columns_is_no_assignment():
    assert assign([]) == []
    assert assign([[], []]) == [None, None]


@given(st.lists(matrices.filter(lambda costs: len({c for row in costs for c in row}) > 1), min_size=2, max_size=4))
def test_who_contends_with_nobody_else_is_assigned_as_if_alone(parts):
    """No two costs are equal."""
    distinct = [
        [[cost + (number * 100 + i * 10 + j + 1) / 1e4 for j, cost in enumerate(row)] for i, row in enumerate(costs)]
        for number, costs in enumerate(parts)
    ]
    width = sum(len(costs[0]) for costs in distinct)
    whole, expected, left = [], [], 0
    for costs in distinct:
        for row, column in zip(costs, assign(costs), strict=True):
            whole.append([1.0] * left + row + [1.0] * (width - left - len(row)))
            expected.append(None if column is None else left + column)
        left += len(costs[0])
    assert assign(whole) == expected


def test_of_equally_good_assignments_the_one_of_all_rows_together_is_given():
    """Logs of earlier versions hold it."""
    costs = [[1.0, 1.0, 1.0, 0.0], [-3, 0, 0.5, -4], [1.0, -3, 0, -2], [0, -3, -1, -1], [-2, -4, 0, 0.5]]
    assert assign(costs) == [None, 3, 1, 2, 0]
