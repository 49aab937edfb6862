"""Reports of all cameras are made again of those that did something, and are what a look at each would give."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec
import pytest

from policies.events import instant
from server.camera_status import reports
from server.camera_status.duplicate_agents import DuplicateAgents
from server.camera_status.heartbeat import decode_heartbeat
from server.camera_status.reports import CameraReport, CameraReports
from server.camera_status.status import StatusThresholds
from server.domain.errors import Conflict, Unprocessable
from server.domain.keeping import Keep
from server.domain.records import StoredHeartbeat
from server.pipeline.advancing import Advancing
from server.store import Store, open_store
from tests.server.scenes import START_US, YARD, Yard, burst
from tests.server.store.test_spans import statements
from tests.stand_ins import ManualClock

CAMERAS = ("gate", "door", "shed")
SECOND_US = 1_000_000
_STEPS = 50


@pytest.fixture(autouse=True)
def _are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_FEW", 0)


@pytest.fixture
def yard(tmp_path: Path, database_url: str, store: Store, clock: ManualClock) -> Iterator[Yard]:
    """The yard with three cameras, whose bursts come to another server."""
    head, _, tables = YARD.strip().partition("\n")
    policy = "\n".join([head, *(tables.replace("cameras.gate", f"cameras.{name}") for name in CAMERAS)])
    with closing(open_store(database_url, clock)) as other:
        yield Yard(tmp_path / "sites", other, clock, policy)


def reports_of(store: Store, clock: ManualClock) -> CameraReports:
    return CameraReports(store.heartbeats, store.policy, clock, StatusThresholds(), DuplicateAgents())


def read_anew(store: Store, clock: ManualClock) -> list[CameraReport]:
    """By another process, which has remembered nothing."""
    with closing(open_store(store._engine.url.render_as_string(hide_password=False), clock)) as other:
        return reports_of(other, clock).all("yard")


def beat(store: Store, camera: str, now: ManualClock, **more: object) -> None:
    at = instant(now.now_us - 300_000).isoformat()
    told = {"sent_at": at, "started_at": instant(START_US).isoformat(), "every_s": 60.0}
    body = {"site": "yard", "camera": camera, "agent": told, "state": "watching", "since": at} | more
    store.heartbeats.keep(
        StoredHeartbeat("yard", camera, START_US, now.now_us - 300_000, 0, msgspec.json.encode(body).decode())
    )


class Life:
    """Things that happen to cameras, by chance."""

    def __init__(self, yard: Yard, chance: random.Random) -> None:
        self.yard, self.chance, self.number = yard, chance, 0
        self.at_s = dict.fromkeys(CAMERAS, 0.0)
        self.happenings: tuple[Callable[[str], None], ...] = (
            self.burst, self.burst, self.burst, self.late, self.ahead, self.beat, self.beat, self.pause, self.erase,
            self.set_aside, self.fold_in, self.release, self.refold, self.sweep, self.wait, self.wait, self.long_wait,
        )  # fmt: skip

    def step(self) -> str:
        self.yard.clock.now_us += 1000
        what = self.chance.choice(self.happenings)
        with suppress(Conflict, Unprocessable):
            what(self.chance.choice(CAMERAS))
        return what.__name__

    def now_s(self) -> float:
        return (self.yard.clock.now_us - START_US) / SECOND_US

    def send(self, camera: str, at_s: float) -> None:
        self.number += 1
        feet = [0.3] if self.chance.random() < 0.5 else []
        images = [self.yard.picture(*feet, at_s=at_s + each / 2 + self.number / 1000) for each in range(4)]
        self.yard.pipeline.process(burst(self.number, images, at_s, camera=camera))

    def burst(self, camera: str) -> None:
        self.at_s[camera] = max(self.at_s[camera] + 2, self.now_s() - 3)
        self.send(camera, self.at_s[camera])

    def late(self, camera: str) -> None:
        self.send(camera, self.at_s[camera] - self.chance.choice([1.0, 30.0, 4000.0, 9 * 86400.0]))

    def ahead(self, camera: str) -> None:
        self.send(camera, self.now_s() + self.chance.choice([100.0, 400.0, 1000.0]))

    def beat(self, camera: str) -> None:
        beat(self.yard.store, camera, self.yard.clock)

    def pause(self, camera: str) -> None:
        until = instant(self.yard.clock.now_us + 50 * SECOND_US).isoformat()
        state = self.chance.choice(["paused", "blind", "starting", "watching"])
        beat(self.yard.store, camera, self.yard.clock, state=state, next_burst_by=until, clock={"synced": False})

    def erase(self, camera: str) -> None:
        since_us = START_US + round(self.at_s[camera] * SECOND_US) - self.chance.choice([5, 500]) * SECOND_US
        self.yard.store.retention.erase("yard", camera, since_us, self.yard.clock.now_us, author="anna")

    def set_aside(self, camera: str) -> None:
        since_us = START_US + round((self.at_s[camera] - 2) * SECOND_US)
        self.yard.store.set_aside("yard", camera, since_us, None)

    def fold_in(self, camera: str) -> None:
        self.yard.store.fold_in("yard", camera, None, None)

    def release(self, _camera: str) -> None:
        Advancing(self.yard.store, self.yard.clock, committed=lambda: None).release_held()

    def refold(self, _camera: str) -> None:
        self.yard.store.refolds.run(lambda: False, lambda _seconds: None)

    def sweep(self, _camera: str) -> None:
        self.yard.store.retention.sweep(lambda _site: Keep(observations_days=0.002, events_days=0.002))

    def wait(self, _camera: str) -> None:
        self.yard.clock.now_us += round(self.chance.choice([0.5, 5.0, 29.0, 31.0, 61.0]) * SECOND_US)

    def long_wait(self, _camera: str) -> None:
        self.yard.clock.now_us += round(self.chance.choice([121.0, 400.0, 4000.0]) * SECOND_US)


@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_the_reports_are_those_of_a_look_at_each_camera(
    yard: Yard, store: Store, clock: ManualClock, seed: int
) -> None:
    held, life, happened = reports_of(store, clock), Life(yard, random.Random(seed)), list[str]()
    for _ in range(_STEPS):
        happened.append(life.step())
        assert held.all(None) == read_anew(store, clock), happened


@pytest.mark.parametrize("off_us", [-1, 0, 1])
def test_a_report_changes_at_the_instant_at_which_time_changes_it(
    yard: Yard, store: Store, clock: ManualClock, off_us: int
) -> None:
    life, held = Life(yard, random.Random(1)), reports_of(store, clock)
    life.burst("gate")
    beat(yard.store, "gate", clock, next_burst_by=instant(clock.now_us + 20 * SECOND_US).isoformat())
    beat(yard.store, "door", clock, state="paused", next_burst_by=instant(clock.now_us + 15 * SECOND_US).isoformat())
    begin_us, seen = clock.now_us, set[str]()
    for after_s in (0, 20, 30, 40, 45, 50, 60, 80, 110, 117, 120, 125, 140, 180, 200, 240, 400):
        clock.now_us = begin_us + after_s * SECOND_US + off_us
        assert held.all(None) == read_anew(store, clock), after_s
        seen |= {report.condition.state for report in held.all(None)}
    assert seen == {"ok", "late", "silent"}


def test_cameras_that_do_nothing_are_not_read_again_and_one_that_does_alone(
    yard: Yard, store: Store, clock: ManualClock
) -> None:
    held, read = reports_of(store, clock), list[list[tuple[str, str]]]()
    activities = store.heartbeats.activities

    def noted(which: list[tuple[str, str]]) -> object:
        read.append(which)
        return activities(which)

    store.heartbeats.activities = noted  # type: ignore[method-assign, assignment]
    life = Life(yard, random.Random(1))
    for camera in CAMERAS:
        life.burst(camera)
    held.all(None)
    clock.now_us += SECOND_US
    idle = statements(store, lambda: held.all(None))
    assert (len(read), idle <= 9) == (1, True)
    life.burst("door")
    held.all(None)
    assert read[1:] == [[("yard", "door")]]


def test_what_could_not_be_read_is_read_the_next_time(yard: Yard, store: Store, clock: ManualClock) -> None:
    held, life = reports_of(store, clock), Life(yard, random.Random(1))
    life.burst("gate")
    held.all(None)
    life.burst("door")
    activities = store.heartbeats.activities

    def failing(_which: object) -> object:
        raise Conflict("the database is away")

    store.heartbeats.activities = failing  # type: ignore[method-assign, assignment]
    with pytest.raises(Conflict):
        held.all(None)
    store.heartbeats.activities = activities  # type: ignore[method-assign]
    assert [report.camera for report in held.all(None)] == ["door", "gate"]


def test_two_agents_of_a_camera_show_though_nothing_else_changes(yard: Yard, store: Store, clock: ManualClock) -> None:
    held, life = reports_of(store, clock), Life(yard, random.Random(1))
    life.burst("gate")
    assert held.all(None)[0].condition.cause is None
    for minute in (1, 2, 1):
        at = instant(clock.now_us).isoformat()
        started = instant(START_US + minute * SECOND_US).isoformat()
        told = f'"sent_at": "{at}", "started_at": "{started}", "every_s": 60.0'
        body = f'{{"site": "yard", "camera": "gate", "agent": {{{told}}}, "state": "watching", "since": "{at}"}}'
        held.duplicate_agents.heard(decode_heartbeat(body), clock.now_us)
    assert held.all(None)[0].condition.cause == "two_agents"
    clock.now_us += 1000 * SECOND_US
    assert held.all(None)[0].condition.cause != "two_agents"
