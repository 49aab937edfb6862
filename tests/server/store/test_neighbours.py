"""What is read of many cameras at once is what each alone would give: neighbours of stretches, heads, departures."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.events import microseconds
from server.domain.watching import CameraStretch, Departure
from server.store import Store
from server.store.bursts import heads
from tests.server.scenes import START_US, Yard, across, burst
from tests.server.store.test_conversion import age
from tests.server.store.test_spans import policy
from tests.stand_ins import ManualClock

S = 1_000_000
CAMERAS = ("gate", "door", "shed")


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock, request: pytest.FixtureRequest) -> Yard:
    """Somebody crosses the view of each camera; a minute later it is quiet. With `old`, it is the gate alone."""
    yard = Yard(tmp_path / "sites", store, clock, policy())
    is_old = bool(getattr(request.node, "callspec", None) and request.node.callspec.params.get("old"))
    for number, camera in enumerate(CAMERAS[:1] if is_old else CAMERAS):
        for step in [*range(13), 40 + number]:
            at_s = 2.0 * step
            places = [across(at_s + each / 2) for each in range(4)]
            images = [
                yard.picture(*([] if x is None else [x]), at_s=100 * number + at_s + each / 2)
                for each, x in enumerate(places)
            ]
            yard.pipeline.process(burst(100 * number + step, images, at_s, camera=camera))
    return yard


@pytest.mark.parametrize("old", [0, 2])
def test_the_neighbours_of_stretches_are_those_of_each_stretch(yard: Yard, old: int) -> None:
    if old:
        age(yard.store, old)
    past, stretches = yard.store.past, [CameraStretch("nobody", START_US, START_US + S)]
    for camera in CAMERAS:
        for from_s, until_s in ((-5, 0), (1.5, 2), (30, 60), (26, 84.1), (200, 300)):
            stretches.append(CameraStretch(camera, round(START_US + from_s * S), round(START_US + until_s * S)))
    expected = [
        (
            next(iter(past.before("yard", each.camera, each.from_us + 1, 1)), None),
            next(iter(past.after("yard", each.camera, each.until_us, 1)), None),
        )
        for each in stretches
    ]
    assert past.around("yard", stretches) == expected
    assert {tuple(side is None for side in pair) for pair in expected} == {
        (True, True),
        (True, False),
        (False, False),
        (False, True),
    }
    assert past.around("yard", []) == []


def test_the_heads_of_cameras_are_those_of_each_camera(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    together = Store(yard.store._engine, yard.clock).cameras()
    monkeypatch.setattr(heads, "frames_behind", lambda *_: {})
    assert Store(yard.store._engine, yard.clock).cameras() == together
    assert [head.camera for head in together] == sorted(CAMERAS)


def test_departures_are_the_events_that_say_so_with_those_of_an_earlier_version(yard: Yard) -> None:
    left = yard.store.begun(kind="left")
    expected = [
        Departure(
            e.event.site, e.event.camera, e.event.track, e.event.sector, microseconds(e.event.started_at), e.event.id
        )
        for e in left
    ]
    assert len({each.camera for each in expected}) == len(CAMERAS)
    assert [*yard.store.departures(START_US)] == expected
    assert [*yard.store.departures(START_US, {("yard", "door")})] == [e for e in expected if e.camera == "door"]
    assert [*yard.store.departures(expected[-1].at_us + 1)] == []
