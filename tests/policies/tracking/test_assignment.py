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
