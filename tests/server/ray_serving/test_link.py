"""The process that is connected to Ray can end, or hang: what waits for it is told, and another one is started."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest

from server.ray_serving import link as of_link
from server.ray_serving.condition import Condition
from server.ray_serving.link import Link
from server.ray_serving.messages import Lost
from tests.server.ray_serving.clusters import wait_until
from tests.server.ray_serving.test_tally import Seconds
from tests.server.swaps import PATIENCE_S, Doing


def test_who_waits_for_a_process_that_is_killed_is_told_and_another_one_can_be_started() -> None:
    link = Link()
    for _ in range(2):
        opening = Doing(lambda: link.open("127.0.0.1:1"))
        wait_until(lambda: link.is_open, "a process is started")
        assert link._process is not None
        os.kill(link._process.pid, signal.SIGKILL)
        opening.join()
        assert isinstance(opening.outcome, Lost)
        assert not link.is_open


class Noted:
    """A lock that says when a thread has to wait for it."""

    waited = threading.Event()

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.waited.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_connection_is_not_closed_under_a_thread_in_the_middle_of_its_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def send(connection: Connection, part: bytes) -> None:
        written(connection, part)
        if len(part) == 4 and link._process is not None:  # the length of a long message, which itself comes next
            os.kill(link._process.pid, signal.SIGKILL)
            assert Noted.waited.wait(PATIENCE_S)

    def close(connection: Connection) -> None:
        closed(connection)
        Noted.waited.set()

    written, closed = Connection._send, Connection.close  # type: ignore[attr-defined]
    Noted.waited.clear()
    monkeypatch.setattr(of_link, "threading", SimpleNamespace(Lock=Noted, Thread=threading.Thread))
    link = Link()
    opening = Doing(lambda: link.open("127.0.0.1:1"))
    wait_until(lambda: link.is_open, "a process is started")
    monkeypatch.setattr(Connection, "_send", send)
    monkeypatch.setattr(Connection, "close", close)
    with pytest.raises(Lost):
        link.call("answer", b"a long message" * 10_000, within_s=PATIENCE_S)
    opening.join()
    assert not link.is_open


def test_without_a_connection_nothing_is_asked() -> None:
    with pytest.raises(Lost, match="not connected"):
        Link().call("applications", within_s=1)


def test_an_ensemble_that_is_away_for_a_moment_refuses_nobody() -> None:
    seconds = Seconds()
    condition = Condition(seconds)
    condition.failed("ens-1", "no head")
    seconds.now += 2.9
    assert condition.fault("ens-1") is None
    condition.failed("ens-1", "no replica")
    seconds.now += 0.2
    assert condition.fault("ens-1") == "the ensemble does not answer: no replica"
    condition.answered("ens-1")
    assert condition.fault("ens-1") is None
