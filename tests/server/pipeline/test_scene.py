"""What a camera's state remembers of its scene does not depend on the order in which its bursts come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.fold import decode_state
from policies.observation import Prediction
from server.domain.burst import Burst
from server.domain.folding.refold import steps
from server.store import open_store
from tests.policies.stories import CHANGE
from tests.policies.test_scene import home, turned
from tests.server.scenes import YARD, Yard, burst
from tests.stand_ins import ManualClock, ScriptedEnsemble

POLICY = YARD.replace('site = "yard"', 'site = "yard"\ntargets = ["moving"]')
BURSTS = 14
TURNED = 10


def shown(yard: Yard, number: int) -> Burst:
    """Burst `number`: a tree sways, and something goes through and stops; from TURNED on, the camera is turned."""
    images = []
    for i in range(5):
        at_s = number * 5.0 + i * 0.5
        regions = [Prediction("moving", 0.8, (0.8, 0.2, 0.84, 0.26))] if i == 1 else []
        if 20 <= at_s < 28:
            left = round(0.05 + 0.05 * (at_s - 20) * (2 - (at_s - 20) / 8), 4)
            regions.append(Prediction("moving", 0.9, (left, 0.6, round(left + 0.08, 4), 0.7)))
        first, *others = regions or [Prediction("still", 0.9)]
        if i == 0:
            evidence = turned(number) if number >= TURNED else home(number)
            first = Prediction(first.label, first.score, first.box, evidence=evidence)
        image = f"picture {at_s}".encode()
        images.append(yard.ensemble.teach(image, {CHANGE.model: (first, *others)}))
    return burst(number, images, number * 5.0)


@given(st.permutations(range(BURSTS)))
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_permutation_of_bursts_gives_the_log_and_the_state_of_a_run_in_order(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock, order: list[int]
) -> None:
    store = open_store(new_sqlite(), clock)
    yard = Yard(tmp_path / "sites", store, clock, POLICY)
    yard.ensemble = yard.pipeline._ensemble = ScriptedEnsemble([CHANGE])
    try:
        for number in order:
            yard.pipeline.process(shown(yard, number))
        start = store.checkpoint("yard", "gate", 0)
        every = list(steps(store.history("yard", "gate"), start, store.policy))
        assert [logged.event for logged in store.events()] == [event for step in every for event in step.events]
        [head] = store.cameras()
        assert head.state is not None
        assert decode_state(head.state) == every[-1].state
        scene = every[-1].state.scene
        assert scene
        assert scene.turned_us is not None
        assert scene.places
        assert {step.recorded.observation.index for step in every} == {0, 1, 2, 3, 4}
        assert any(step.events for step in every)
    finally:
        store.close()
