"""The log of a camera whose ensemble was swapped in the middle is that of one clean run over what was stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.events import Event
from policies.observation import ModelInfo
from server.analysis.verify import verify
from server.domain.folding.refold import steps
from server.pipeline.pipeline import Pipeline
from server.store import Store, open_store
from tests.server.scenes import EYE, Yard, across, burst, person_at, there_and_back
from tests.stand_ins import ManualClock, ScriptedEnsemble

SECOND = ModelInfo("second-eye", frozenset({"person"}), boxes=True)


class SwappedYard(Yard):
    """A yard with two ensembles: `old` has one model, `new` that one and another, which sees what the first sees."""

    def __init__(self, folder: Path, store: Store, clock: ManualClock) -> None:
        super().__init__(folder, store, clock)
        self.second = ScriptedEnsemble([EYE, SECOND], "ensemble-2")
        self.old = self.pipeline
        self.new = Pipeline(self.second, store, self.sites, clock)

    def picture(self, *feet: float, at_s: float = 0.0) -> bytes:
        image = super().picture(*feet, at_s=at_s)
        seen = tuple(person_at(x) for x in feet)
        return self.second.teach(image, {"eye": seen, "second-eye": seen})


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> SwappedYard:
    return SwappedYard(tmp_path / "sites", store, clock)


def told(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def refolded(store: Store) -> list[Event]:
    """The events of one clean fold over everything stored, from the first frame."""
    start = store.checkpoint("yard", "gate", 0)
    assert start.at_us is None
    return [event for step in steps(store.history("yard", "gate"), start, store.policy) for event in step.events]


def test_someone_who_stays_over_a_swap_is_one_presence_and_one_visit(yard: SwappedYard) -> None:
    bursts = yard.walked(lambda t: 0.25 if 2 <= t < 20 else None, 40)
    for number, one in enumerate(bursts):
        (yard.old if number < 5 else yard.new).process(one)
    assert [event.kind for event in told(yard.store)] == ["entered", "presence_started", "left", "presence_ended"]
    assert told(yard.store) == refolded(yard.store)


def test_each_event_names_the_ensemble_that_judged_its_frame(yard: SwappedYard) -> None:
    bursts = yard.walked(across, 26)
    for number, one in enumerate(bursts):
        (yard.old if number < 5 else yard.new).process(one)
    by_burst = {one.burst_id: one.ensemble_info.ensemble for one in yard.store.observations("yard", "gate")}
    assert set(by_burst.values()) == {"ensemble-1", "ensemble-2"}
    for logged in yard.store.events():
        assert logged.event.provenance.ensemble == by_burst[logged.burst_id]


def test_events_under_an_older_name_of_the_ensemble_are_verified_beside_those_under_the_new_one(
    yard: SwappedYard,
) -> None:
    bursts = yard.walked(across, 26)
    for number, one in enumerate(bursts):
        (yard.old if number < 5 else yard.new).process(one)
    names = set()
    for record in yard.store.past.events_like("", 100):
        checks = list(verify(yard.store, record, from_start=True))
        assert [check for check in checks if not check.holds] == []
        names.add(record.logged.event.provenance.ensemble)
    assert names == {"ensemble-1", "ensemble-2"}


def test_a_burst_from_before_the_swap_that_comes_late_is_judged_by_the_new_ensemble_and_says_so(
    yard: SwappedYard,
) -> None:
    bursts = yard.walked(there_and_back, 30)
    for number, one in enumerate(bursts):
        if number != 3:
            (yard.old if number < 8 else yard.new).process(one)
    receipt = yard.new.process(bursts[3])
    assert (receipt.burst.late, receipt.burst.ensemble_info.ensemble) == (True, "ensemble-2")
    assert told(yard.store) == refolded(yard.store)


def test_a_known_burst_keeps_the_answer_of_the_ensemble_that_judged_it(yard: SwappedYard) -> None:
    one = yard.walk(1, across, 4)
    first = yard.old.process(one).as_wire()
    assert yard.new.process(one).as_wire() == first


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40).map(lambda half_s: half_s / 2),
            st.sampled_from([0.25, 0.5, 1.0]),
            st.lists(st.sampled_from([None, 0.1, 0.3, 0.45, 0.55, 0.9]), min_size=1, max_size=5),
            st.booleans(),
        ),
        min_size=2,
        max_size=8,
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bursts_of_two_ensembles_in_any_order_give_the_log_that_replay_gives(
    tmp_path: Path,
    new_sqlite: Callable[[], str],
    clock: ManualClock,
    drawn: list[tuple[float, float, list[float | None], bool]],
) -> None:
    store = open_store(new_sqlite(), clock)
    yard = SwappedYard(tmp_path / "sites", store, clock)
    try:
        for number, (at_s, every_s, places, is_new) in enumerate(drawn):
            pictures = [yard.picture() if x is None else yard.picture(x) for x in places]
            (yard.new if is_new else yard.old).process(burst(number, pictures, at_s, every_s))
        assert told(store) == refolded(store)
    finally:
        store.close()
