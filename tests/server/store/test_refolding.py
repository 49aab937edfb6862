"""Late bursts that take long are folded in beside turns, and the log is that of a clean run in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.events import Event
from server.domain.burst import Burst
from server.domain.folding.refold import steps
from server.pipeline import advancing
from server.store import Store, open_store
from server.store.refolding import refold
from tests.server.scenes import Yard, across, burst, there_and_back
from tests.stand_ins import ManualClock


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    return Yard(tmp_path / "sites", store, clock)


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """No late burst is folded in its turn, a slice is three frames, and a commit folds two at most."""
    monkeypatch.setattr(advancing, "_MOST_WORK", 0)
    monkeypatch.setattr(refold, "_SLICE", 3)
    monkeypatch.setattr(refold, "_TAIL", 2)


def told(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def folded_anew(store: Store, camera: str = "gate") -> list[Event]:
    """The events of one fold of all that is in the fold, from the first frame; no checkpoint is used."""
    start = store.checkpoint("yard", camera, 0)
    return [event for step in steps(store.history("yard", camera), start, store.policy) for event in step.events]


def in_order(yard: Yard, bursts: Sequence[Burst], new_sqlite: Callable[[], str]) -> list[Event]:
    """The log of a clean run on a database of its own."""
    store = open_store(new_sqlite(), yard.clock)
    clean = Yard(yard.folder, store, yard.clock)
    clean.pipeline._ensemble = yard.ensemble
    for one in sorted(bursts, key=lambda b: b.frames[0].at_us):
        clean.pipeline.process(one)
    events = told(store)
    store.close()
    return events


def test_a_late_burst_waits_and_the_log_stays_until_the_refold_is_committed(
    yard: Yard, new_sqlite: Callable[[], str]
) -> None:
    bursts = yard.walked(across, 26)
    for one in [*bursts[:4], *bursts[5:]]:
        yard.pipeline.process(one)
    before = yard.store.events()
    kept = yard.pipeline.process(bursts[4]).burst
    assert (kept.status, kept.cause, kept.late) == ("held", "refold", True)
    assert yard.store.events() == before
    assert yard.store.refolds.run() == 1
    assert yard.store.kept(bursts[4].burst_id).status == "folded"
    assert told(yard.store) == in_order(yard, bursts, new_sqlite)
    assert told(yard.store) != [logged.event for logged in before]
    assert yard.store.refolds.run() == 0


def test_the_refold_finishes_while_its_camera_goes_on_uploading_in_order_and_late(
    yard: Yard, new_sqlite: Callable[[], str]
) -> None:
    bursts = yard.walked(there_and_back, 60)
    missing = [bursts[2], bursts[5], bursts[9]]
    rest = [one for one in bursts if one not in missing]
    for one in [*rest[:12], missing[2]]:
        yard.pipeline.process(one)
    coming = iter([*rest[12:20], missing[0], *rest[20:], missing[1]])

    def meanwhile(_seconds: float) -> None:
        if (one := next(coming, None)) is not None:
            yard.pipeline.process(one)

    assert yard.store.refolds.run(wait=meanwhile) >= 2
    assert next(coming, None) is None
    assert told(yard.store) == in_order(yard, bursts, new_sqlite)
    assert yard.store.marked() == []


@st.composite
def comings(draw: st.DrawFn) -> tuple[list[tuple[float, float, list[float | None]]], list[int], list[bool]]:
    """Bursts (start, spacing, where somebody stands in each frame), the order of their coming, and whether the refolds
    make a step after each.
    """
    places = st.sampled_from([None, None, 0.1, 0.3, 0.45, 0.55, 0.7, 0.9])
    bursts = draw(
        st.lists(
            st.tuples(
                st.integers(0, 60).map(lambda half_s: half_s / 2),
                st.sampled_from([0.25, 0.5, 1.0, 3.0]),
                st.lists(places, min_size=1, max_size=5),
            ),
            min_size=2,
            max_size=10,
        )
    )
    order = draw(st.permutations(range(len(bursts))))
    return bursts, order, [draw(st.booleans()) for _ in order]


@given(comings())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_before_between_and_after_the_slices_the_log_is_that_of_one_fold(
    tmp_path: Path,
    new_sqlite: Callable[[], str],
    clock: ManualClock,
    coming: tuple[list[tuple[float, float, list[float | None]]], list[int], list[bool]],
) -> None:
    drawn, order, is_stepped = coming
    store = open_store(new_sqlite(), clock)
    yard = Yard(tmp_path / "sites", store, clock)
    bursts = [
        burst(
            n,
            [yard.picture(at_s=n + i) if x is None else yard.picture(x, at_s=n + i) for i, x in enumerate(places)],
            at_s,
            every_s,
        )
        for n, (at_s, every_s, places) in enumerate(drawn)
    ]
    left = list(zip(order, is_stepped, strict=True))

    def upload(_seconds: float = 0.0) -> None:
        while left:
            n, is_step = left.pop(0)
            yard.pipeline.process(bursts[n])
            if is_step:
                return

    try:
        upload()
        for _ in range(10 * len(bursts)):
            if not (left or store.marked()):
                break
            store.refolds.run(wait=upload)
            upload()
        assert not left
        assert not store.marked()
        assert told(store) == folded_anew(store)
        known = {logged.event.id for logged in store.events(after_seq=0)}
        assert all(known.issuperset(logged.supersedes) for logged in store.events(after_seq=0))
        assert store.counts()["observations"] == sum(len(one.frames) for one in bursts)
    finally:
        store.close()
