"""A worker whose master was killed gives its ports up at once, and answers what it has accepted."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.server.doors import Door, free_port
from tests.server.launched import Running
from tests.server.web_client import jpeg

WITHIN_S = 1.0


def seconds_until_free(*ports: int) -> float:
    """How long until another server can listen on all of them; 30 s at most."""
    began, pause = time.monotonic(), threading.Event()
    while time.monotonic() - began < 30:
        try:
            for port in ports:
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            pause.wait(0.01)
            continue
        break
    return time.monotonic() - began


@pytest.fixture
def orphan(tmp_path: Path, running: list[Running], scheme: str) -> tuple[Door, int, psutil.Process]:
    """A server with an admin port, and its worker; the test kills the master."""
    admin_port = free_port()
    server = Running(["tests.server.hosted", str(tmp_path), json.dumps({"admin_port": admin_port})])
    running.append(server)
    door = Door(int(server.line(r"^port (\d+)")[1]), tmp_path / "tls.crt" if scheme == "https" else None)
    server.line("admin port open")
    assert door.status() == 200
    [worker] = psutil.Process(server.process.pid).children()
    return door, admin_port, worker


def test_both_ports_are_free_within_a_second_although_a_request_is_in_work_which_is_still_answered(
    orphan: tuple[Door, int, psutil.Process], running: list[Running]
) -> None:
    door, admin_port, worker = orphan
    try:
        idle = door.asking()
        idle.request("GET", "/livez")
        assert idle.getresponse().read()
        asking = door.asking()
        body = (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.jpg"\r\n\r\n' + jpeg(9) + b"\r\n--x--\r\n"
        )
        asking.request("POST", "/batch", body, {"Content-Type": "multipart/form-data; boundary=x"})
        running[0].line("^asked")
        running[0].process.kill()
        assert seconds_until_free(door.port, admin_port) < WITHIN_S
        running[0].say("\n")
        assert asking.getresponse().status == 200
        worker.wait(30)
    finally:
        if worker.is_running():
            worker.kill()


def test_a_worker_that_is_still_starting_ends_with_its_master(tmp_path: Path, running: list[Running]) -> None:
    port = free_port()
    server = Running(["tests.server.hosting.slow_start", str(tmp_path), str(port)])
    running.append(server)
    server.line("loading")
    [worker] = psutil.Process(server.process.pid).children()
    server.process.kill()
    assert seconds_until_free(port) < WITHIN_S
    worker.wait(5)
