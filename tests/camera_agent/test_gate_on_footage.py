"""The gate on real people: a fifth of the bytes at most, and not one event less. Models and policy are real."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from policies.events import Event
from policies.fold import fold, initial_state
from policies.observation import Observation, Sighting
from policies.site_policy import parse_site_policy
from server.ensemble import Ensemble, load_ensemble
from tests.benchmarks.agent_gate import Scene, played, scene, sent_bytes
from tests.camera_agent.conftest import CHECKOUT

Answers = dict[str, tuple[Sighting, ...] | None]
POLICY = parse_site_policy((CHECKOUT / "deploy/sites/pets.toml").read_text()).camera("view1")
NEAR_S = 6.0


@pytest.fixture(scope="module")
def passage(vtest: str) -> Scene:
    """400 s, somebody there in the last 20."""
    return scene(Path(vtest), passages=1)


class Judge:
    """The ensemble and the fold; a picture that comes again is not looked at again."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._ensemble = ensemble
        self._known: dict[str, Answers] = {}

    def events(self, made: Scene, *, is_gated: bool) -> list[Event]:
        observations = [
            Observation(
                "pets",
                "view1",
                f"burst-{cut.number:04d}",
                index,
                round(look.at_s * 1e6),
                self._ensemble.panel,
                self._answers(look.jpeg),
                hashlib.sha256(look.jpeg).hexdigest(),
                size=(768, 576),
            )
            for cut in played(made, is_gated=is_gated)
            for index, look in enumerate(cut.looks)
        ]
        return list(fold(POLICY, initial_state(), observations)[1])

    def _answers(self, jpeg: bytes) -> Answers:
        name = hashlib.sha256(jpeg).hexdigest()
        if name not in self._known:
            self._known[name] = self._ensemble.answer([jpeg])[0]
        return self._known[name]


def test_at_five_per_cent_activity_the_gate_sends_less_than_a_fifth_of_the_bytes(passage: Scene) -> None:
    assert passage.activity == pytest.approx(0.05)
    assert sent_bytes(played(passage, is_gated=True)) <= sent_bytes(played(passage, is_gated=False)) / 5


def test_every_event_of_the_ungated_schedule_is_found_with_the_gate(passage: Scene) -> None:
    judge = Judge(load_ensemble(["yolov3-tiny"]))
    even, gated = judge.events(passage, is_gated=False), judge.events(passage, is_gated=True)
    assert len(even) > 10
    lost = []
    for event in even:
        near = [
            other
            for other in gated
            if facts(other) == facts(event) and abs((other.started_at - event.started_at).total_seconds()) <= NEAR_S
        ]
        if near:
            gated.remove(near[0])
        else:
            lost.append(event)
    assert not lost, [(one.kind, one.sector, one.from_sector, one.to_sector, str(one.started_at)) for one in lost]


def facts(event: Event) -> tuple[object, ...]:
    return event.kind, event.sector, event.from_sector, event.to_sector, event.line, event.label
