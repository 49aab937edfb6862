"""Several servers on one database: one sends on a channel, another takes over, and everybody sees all events."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from server.commands import events
from server.commands.options import Window
from server.domain.records import LoggedEvent
from server.store import Store
from tests.server.launched import Running
from tests.server.replica import STOP_S
from tests.server.web_client import envelope, files, jpeg

PATIENCE_S = 60.0


def started(running: list[Running], folder: Path, url: str, base_ns: int, *more: str) -> tuple[Running, str]:
    server = Running(["tests.server.replica", str(folder), url, str(base_ns), *more])
    running.append(server)
    port = server.line(r"^port (\d+)")[1]
    return server, f"http://127.0.0.1:{port}"


def send(address: str, number: int, camera: str) -> int:
    """Somebody comes to a camera; how many events came of it."""
    frames = [jpeg(grey) for grey in (number, number + 2, *range(180 + number, 192 + number))]
    burst = envelope(frames, burst_id=f"burst-{number:04}", camera=camera)
    parts = [("burst", ("burst.json", json.dumps(burst), "application/json"))]
    parts += [("file", (name, content.getvalue(), "image/jpeg")) for content, name in files(frames)]
    answer = requests.post(f"{address}/v1/bursts", files=parts, timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    count = len(answer.json()["events"])
    assert count > 0
    return count


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s, f"not yet: {what}"
        threading.Event().wait(0.05)


def sent(server: Running) -> list[int]:
    return [int(line.split()[1]) for line in server.output if line.startswith("sent ")]


def test_one_of_two_servers_sends_and_the_other_goes_on_when_it_is_killed(
    store: Store, database_url: str, tmp_path: Path, running: list[Running]
) -> None:
    base_ns = time.monotonic_ns()
    first, _ = started(running, tmp_path / "a", database_url, base_ns)
    first.line("^begin -")
    second, address = started(running, tmp_path / "b", database_url, base_ns)
    shown: list[LoggedEvent] = []
    stop = threading.Event()
    everything = Window(None, None, None, None)
    follower = threading.Thread(target=events.following, args=(store, shown.extend, 0, everything, None, stop))
    follower.start()
    try:
        count = send(address, 1, "gate")
        first.line(f"^sent {count}$")
        assert sent(first) == list(range(1, count + 1)), "what the other server was sent, in order"
        assert sent(second) == []
        wait_until(lambda: store.channel_states()[0].backlog == 0, "the position is saved")
        first.end()
        more = send(address, 20, "door")
        second.line(f"^begin {count}$")
        second.line(f"^sent {count + more}$")
        assert sent(second) == list(range(count + 1, count + more + 1))
        second.process.send_signal(signal.SIGTERM)
        second.line("^end")
        assert second.stopped() == 0
        wait_until(lambda: len(shown) == count + more, "everything is shown")
    finally:
        stop.set()
        follower.join(PATIENCE_S)
    assert [logged.seq for logged in shown] == list(range(1, count + more + 1)), (
        "`events --follow` reads what all servers keep"
    )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_channel_that_hangs_holds_up_neither_uploads_nor_others_nor_the_end_of_the_server(
    store: Store, database_url: str, tmp_path: Path, running: list[Running]
) -> None:
    server, address = started(running, tmp_path / "a", database_url, time.monotonic_ns(), "hung")
    server.line("^begin -")
    count = send(address, 1, "gate")
    server.line("^hung")
    more = send(address, 20, "door")
    server.line(f"^sent {count + more}$")
    asked_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.stopped() == 0
    assert time.monotonic() - asked_s < PATIENCE_S - STOP_S
    assert any("channel did not end" in line and "hangs" in line for line in server.output)


def test_the_live_stream_of_one_server_shows_what_another_one_keeps(
    store: Store, database_url: str, tmp_path: Path, running: list[Running]
) -> None:
    base_ns = time.monotonic_ns()
    _, first = started(running, tmp_path / "a", database_url, base_ns)
    _, second = started(running, tmp_path / "b", database_url, base_ns)
    for number, (one, other) in enumerate(((first, second), (second, first))):
        before = requests.get(f"{other}/live", timeout=PATIENCE_S).text.strip().rpartition("id: ")[2]
        send(one, 1 + 19 * number, f"camera-{number}")
        news = requests.get(f"{other}/live", headers={"Last-Event-ID": before}, timeout=PATIENCE_S)
        told = [json.loads(line[6:]) for line in news.text.splitlines() if line.startswith("data: ")]
        assert told, news.text
        assert {each["camera"] for each in told} == {f"camera-{number}"}
