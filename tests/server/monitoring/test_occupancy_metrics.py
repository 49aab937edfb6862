"""The metrics show what is observed: blind is not clear, and what the server does not know it does not show."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient

from policies.occupancy import Occupancy
from server.app import create_app, runtime_of
from server.camera_status.status import Condition, SectorState
from server.monitoring import metrics, occupancy_metrics
from server.monitoring.metrics import MAX_CAMERAS, Metrics
from server.settings import ServerSettings
from tests.server import new_sqlite
from tests.server.monitoring.test_metrics import numbers, read
from tests.server.test_runtime import without_table
from tests.server.web.test_cameras import heartbeat, post, send
from tests.server.web_client import NOW_US, SITE, BrightnessEnsemble
from tests.stand_ins import ManualClock

_PATIENCE_S = 30.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_US)


@pytest.fixture
def app(tmp_path: Path, clock: ManualClock) -> Iterator[Flask]:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "north-yard.toml").write_text(SITE, encoding="utf-8")
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    app = create_app(ServerSettings(data_dir=tmp_path), ensemble=BrightnessEnsemble(), channels=[], clock=clock)
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


class Camera(NamedTuple):
    site: str = "yard"
    camera: str = "gate"
    condition: Condition = Condition("ok")
    sectors: tuple[SectorState, ...] = ()


def sector(name: str, state: Occupancy = Occupancy.CLEAR) -> SectorState:
    return SectorState(name, "person", state, None, None)


def look(app: Flask, elapsed_s: float) -> None:
    runtime = runtime_of(app)
    runtime.metrics.cameras_known(runtime.reports.all(None), elapsed_s)


def states(samples: dict[str, float]) -> dict[str, float]:
    """Of sector `view` of camera `gate` and target `person`: state -> value."""
    name = "sectorwatch_sector_occupancy{camera=gate,sector=view,site=north-yard,state=%s,target=person}"
    return {state: samples[name % state] for state in Occupancy if name % state in samples}


def unobserved_s(samples: dict[str, float]) -> float:
    return samples["sectorwatch_unobserved_seconds_total{camera=gate,site=north-yard}"]


def test_a_sector_has_exactly_one_of_its_three_states(app: Flask, client: FlaskClient) -> None:
    send(client, 5, [1, 2, 3, *range(200, 212)])
    post(client, heartbeat())
    look(app, 10)
    assert states(read(client)) == {"occupied": 1, "clear": 0, "unobserved": 0}
    assert unobserved_s(read(client)) == 0


def test_a_silent_camera_leaves_its_sectors_unobserved_and_the_time_counts(
    app: Flask, client: FlaskClient, clock: ManualClock
) -> None:
    send(client, 5, [1, 2, 3])
    post(client, heartbeat())
    look(app, 10)
    clock.advance(600)
    look(app, 30)
    look(app, 12.5)
    assert states(read(client)) == {"occupied": 0, "clear": 0, "unobserved": 1}
    assert unobserved_s(read(client)) == 42.5


def test_a_camera_that_never_sent_a_burst_is_unobserved_once_it_is_silent(client: FlaskClient, app: Flask) -> None:
    post(client, heartbeat(state="blind", cause="no_signal"))
    look(app, 10)
    assert unobserved_s(read(client)) == 10


def test_the_events_of_a_sector_begin_with_0_so_that_the_first_is_an_increase(app: Flask, client: FlaskClient) -> None:
    send(client, 100, [1, 2, 3])
    look(app, 10)
    before = read(client)
    send(client, 5, [*range(200, 212), *range(4, 44)], burst_id="0197-burst-0002")
    after = {name: value for name, value in read(client).items() if name.startswith("sectorwatch_events_total{")}
    assert sum(after.values()) >= 4
    assert {name: before[name] for name in after} == dict.fromkeys(after, 0)


def test_series_of_events_begin_for_so_many_sectors_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "MAX_SECTORS", 2)
    counted = Metrics(lambda: NOW_US, "1.2.3")
    counted.cameras_known([Camera(sectors=tuple(sector(str(number)) for number in range(5)))], 10)
    begun = [name for name in numbers(counted.text()[0].decode()) if name.startswith("sectorwatch_events_total{")]
    assert {name for name in begun if "kind=entered" in name} == {
        f"sectorwatch_events_total{{camera=gate,kind=entered,label=person,sector={number},site=yard}}"
        for number in (0, 1)
    }
    assert len([name for name in begun if "kind=crossed" in name]) == 1


def test_states_that_cannot_be_read_are_not_shown_and_their_time_counts_as_unobserved(
    app: Flask, client: FlaskClient
) -> None:
    send(client, 5, [1, 2, 3])
    post(client, heartbeat())
    look(app, 10)
    runtime_of(app).metrics.cameras_known(None, 7)
    assert states(read(client)) == {}
    assert unobserved_s(read(client)) == 7


def test_a_scrape_reads_no_database(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    send(client, 5, [1, 2, 3])
    post(client, heartbeat())
    look(app, 10)
    with without_table(tmp_path, "camera_states"):
        assert states(read(client)) == {"occupied": 0, "clear": 1, "unobserved": 0}


def test_sectors_and_cameras_beyond_the_bounds_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occupancy_metrics, "MAX_SECTORS", 2)
    counted = Metrics(lambda: NOW_US, "1.2.3")
    many = [sector(str(number), state) for number, state in enumerate((*[Occupancy.CLEAR] * 5, Occupancy.OCCUPIED))]
    counted.cameras_known([Camera(sectors=tuple(many))], 10)
    counted.cameras_known([Camera(sectors=tuple(many))], 10)
    samples = numbers(counted.text()[0].decode())
    other = "sectorwatch_sector_occupancy{camera=other,sector=other,site=other,state=%s,target=other}"
    assert (samples[other % "clear"], samples[other % "occupied"], samples[other % "unobserved"]) == (3, 1, 0)
    counted.cameras_known([Camera(camera=str(n), condition=Condition("silent")) for n in range(MAX_CAMERAS + 3)], 10)
    samples = numbers(counted.text()[0].decode())
    assert samples["sectorwatch_unobserved_seconds_total{camera=other,site=other}"] == 10


def test_a_running_server_shows_its_readiness_and_its_sectors_and_neither_once_its_database_is_silent(
    app: Flask, client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.app.runtime._REPEAT_S", 0.01)
    monkeypatch.setattr("server.app.runtime._WATCHED_SHARE", 0.0)
    send(client, 5, [1, 2, 3])
    runtime, known, lost, unready = runtime_of(app), threading.Event(), threading.Event(), threading.Event()
    counting, ready = runtime.metrics.cameras_known, runtime.metrics.readiness_known

    def counted(cameras: object, elapsed_s: float) -> None:
        counting(cameras, elapsed_s)  # type: ignore[arg-type]
        (lost if cameras is None else known).set()

    def looked(is_ready: bool) -> None:
        ready(is_ready)
        if not is_ready:
            unready.set()

    monkeypatch.setattr(runtime.metrics, "cameras_known", counted)
    monkeypatch.setattr(runtime.metrics, "readiness_known", looked)
    runtime.start(on_failure=pytest.fail)
    try:
        assert known.wait(_PATIENCE_S)
        samples = read(client)
        assert samples["sectorwatch_ready{}"] == 1
        assert states(samples) == {"occupied": 0, "clear": 1, "unobserved": 0}
        lost.clear()
        with without_table(tmp_path, "camera_states"):
            assert lost.wait(_PATIENCE_S)
            assert states(read(client)) == {}
        unready.clear()
        runtime.drain()
        assert unready.wait(_PATIENCE_S)
        assert read(client)["sectorwatch_ready{}"] == 0
    finally:
        runtime.stop()
