"""Probes and metrics on a port of their own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from flask import Flask

from server.app import create_app, runtime_of
from server.app import runtime as runtime_module
from server.domain.errors import RetryLater
from server.domain.keeping import Space
from server.monitoring.metrics import Metrics
from server.settings import ServerSettings
from server.web.probes import AdminPort
from tests.server.doors import free_port
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app


class Monotonic:
    """In the place of `time`: its clock goes when it is told to."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Flask, str]]:
    """A started server with an admin port, and the port's address."""
    port = free_port()
    app = make_app(tmp_path, BrightnessEnsemble(), admin_port=port)
    runtime = runtime_of(app)
    failures: list[Exception] = []
    runtime.start(on_failure=failures.append)
    assert failures == []
    yield app, f"http://127.0.0.1:{port}"
    runtime.stop()


def test_the_admin_port_answers_probes_and_metrics_and_nothing_else(served: tuple[Flask, str]):
    _, url = served
    assert requests.get(f"{url}/livez", timeout=5).json() == {"status": "alive"}
    assert requests.get(f"{url}/readyz", timeout=5).json()["status"] == "ready"
    assert "sectorwatch_build_info" in requests.get(f"{url}/metrics", timeout=5).text
    elsewhere = requests.get(f"{url}/v1/events", timeout=5)
    assert (elsewhere.status_code, elsewhere.headers["Content-Type"]) == (404, "application/problem+json")


def test_the_admin_port_answers_under_full_load_and_beside_a_silent_client(
    served: tuple[Flask, str],
):
    app, url = served
    runtime = runtime_of(app)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))), runtime.admission.admitted("me"):
        assert requests.get(f"{url}/readyz", timeout=5).status_code == 200


def test_of_many_connections_to_the_admin_port_that_ask_nothing_the_oldest_end_and_probes_are_answered(
    served: tuple[Flask, str],
):
    _, url = served
    host, port = url.removeprefix("http://").split(":")
    with ExitStack() as clients:
        idle = [clients.enter_context(socket.create_connection((host, int(port)), 20)) for _ in range(50)]
        assert requests.get(f"{url}/livez", timeout=20).status_code == 200
        assert idle[0].recv(1) == b""
        idle[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            idle[-1].recv(1)


def test_the_admin_port_asks_for_no_token(served: tuple[Flask, str]):
    app, url = served
    runtime_of(app).store.add_token("id", "test", "north-yard", "gate", "hash")
    assert app.test_client().get("/metrics").status_code == 401
    assert requests.get(f"{url}/metrics", timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost:9"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
    ],
)
def test_on_loopback_the_admin_port_refuses_requests_of_foreign_web_pages(
    served: tuple[Flask, str], headers: dict[str, str], status: int
):
    _, url = served
    assert requests.get(f"{url}/metrics", headers=headers, timeout=5).status_code == status


def test_a_port_that_is_taken_is_reported_and_nothing_starts(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        app = make_app(tmp_path, BrightnessEnsemble(), admin_port=port)
        failures: list[Exception] = []
        runtime_of(app).start(on_failure=failures.append)
        runtime_of(app).stop()
    assert [str(port) in str(failure) for failure in failures] == [True]
    assert isinstance(failures[0], RetryLater)


def test_while_the_ensemble_loads_the_server_is_alive_but_not_ready(tmp_path: Path):
    client = create_app(ServerSettings(data_dir=tmp_path), channels=[]).test_client()
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")


def test_without_the_setting_no_port_is_opened(tmp_path: Path):
    ports = runtime_of(make_app(tmp_path, BrightnessEnsemble())).ports
    assert not any(isinstance(port, AdminPort) for port in ports)


def test_a_running_server_deletes_what_is_too_old_and_tells_its_room(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble(), keep_observations_days=0.0001)
    runtime = runtime_of(app)
    frames = [jpeg(9), jpeg(250)]
    for minute in range(3):
        sent = envelope(frames, burst_id=f"0197-burst-{minute}", captured_at=f"2027-01-15T07:0{minute}:00.000Z")
        assert app.test_client().post("/v1/bursts", data=body(sent, frames)).status_code == 201
    tell, known = runtime.metrics.space_known, threading.Event()

    def told(space: Space) -> None:
        tell(space)
        known.set()

    runtime.metrics.space_known = told  # type: ignore[method-assign]
    failures: list[Exception] = []
    runtime.start(on_failure=failures.append)
    assert known.wait(60)
    runtime.stop()
    assert failures == []
    assert runtime.store.counts()["bursts"] == 1
    assert b"sectorwatch_database_bytes NaN" not in runtime.metrics.text()[0]


def test_a_server_that_is_given_the_upkeep_later_does_not_wait_for_the_next_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "_REPEAT_S", 0.02)
    app = make_app(tmp_path, BrightnessEnsemble(), keep_observations_days=0.0001)
    runtime = runtime_of(app)
    frames = [jpeg(9), jpeg(250)]
    for minute in range(3):
        sent = envelope(frames, burst_id=f"0197-burst-{minute}", captured_at=f"2027-01-15T07:0{minute}:00.000Z")
        assert app.test_client().post("/v1/bursts", data=body(sent, frames)).status_code == 201
    retain, is_given, looked, swept = runtime.upkeep.retain, threading.Event(), threading.Event(), threading.Event()

    def retained(stopping: threading.Event) -> bool:
        is_done = retain(stopping)
        swept.set()
        return is_done

    monkeypatch.setattr(runtime.upkeep, "is_mine", is_given.is_set)
    monkeypatch.setattr(runtime.upkeep, "retain", retained)
    monkeypatch.setattr(runtime.metrics, "space_known", lambda _space: looked.set())
    runtime.start(on_failure=lambda _error: None)
    assert looked.wait(60)
    assert runtime.store.counts()["bursts"] == 3
    is_given.set()
    assert swept.wait(60)
    runtime.stop()
    assert runtime.store.counts()["bursts"] == 1


def test_a_sweep_that_the_database_refuses_is_tried_again_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = runtime_of(make_app(tmp_path, BrightnessEnsemble()))
    clock, tries = Monotonic(), list[float]()

    def refused(_stopping: threading.Event) -> bool:
        tries.append(clock.now_s)
        raise RetryLater("the disk is full")

    monkeypatch.setattr(runtime_module, "time", clock)
    monkeypatch.setattr(runtime.upkeep, "retain", refused)
    for _ in range(13):
        runtime._retain()
        clock.now_s += 10
    assert tries == [0, 60, 120]
    runtime.stop()


def test_the_metrics_tell_the_room_that_is_left_once_it_is_known() -> None:
    metrics = Metrics(lambda: 0, "1")
    assert b"sectorwatch_disk_full_in_seconds NaN" in metrics.text()[0]
    metrics.space_known(Space(100, 0, 86_400, 100_000, 1.0, gives_back=True))
    text = metrics.text()[0]
    assert b"sectorwatch_database_bytes 100.0" in text
    assert b"sectorwatch_disk_full_in_seconds 7.46496e+09" in text
