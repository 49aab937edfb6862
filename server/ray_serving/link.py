"""The server's end of the process that is connected to Ray (`driver`). It is replaced when it hangs."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from server.ray_serving import messages
from server.ray_serving.messages import Called, Came, Lost

log = logging.getLogger(__name__)

_CONNECTED_S = 120.0
_GRACE_S = 2.0
"""The process keeps the time limit of a call itself; its answer needs a moment to come back."""

_ENVIRONMENT = {
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",  # else Ray ends the process after a minute without the head
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else a call without a connection starts a cluster here
    "RAY_USAGE_STATS_ENABLED": "0",
}


class Link:
    """Calls methods of `driver.Driver` in a process of its own. Constructing starts nothing. Threads may share it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Came]] = {}
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._opening = threading.Lock()

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def open(self, address: str) -> bool:
        """Start the process and connect it to the cluster; False where it is open already.

        Raises what `Driver.connect` raises, Lost when the process ends and TimeoutError when it does not answer.
        """
        with self._opening:
            if self.is_open:
                return False
            self._start()
            try:
                self.call("connect", address, within_s=_CONNECTED_S)
            except BaseException:
                self.close()
                raise
            return True

    def call(self, method: str, *given: Any, within_s: float) -> Any:
        """What the method returns. Raises what it raises, Lost when the process has ended, and TimeoutError."""
        number, future = next(self._numbers), Future[Came]()
        with self._lock:
            connection, sending, waiting = self._connection, self._sending, self._waiting
            if connection is None:
                raise Lost("this server is not connected to the Ray cluster")
            waiting[number] = future
        try:
            with sending:
                connection.send_bytes(messages.encode(Called(number, method, list(given))))
            result = future.result(within_s + _GRACE_S)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"Ray does not answer within {within_s:.0f} s ({method})") from None
            raise Lost("the process that is connected to Ray has ended") from error
        finally:
            waiting.pop(number, None)
        if result.kind:
            raise messages.error_of(result)
        return result.value

    def close(self) -> None:
        """End the process. What waits raises Lost. Applications stay on the cluster."""
        with self._lock:
            self._connection = None
            process, self._process = self._process, None
        if process is not None:
            process.kill()  # its reader sees that, closes the connection, and waits for it

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = os.environ | _ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            process = subprocess.Popen(
                [sys.executable, "-m", "server.ray_serving.driver", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        connection, sending, waiting = Connection(ours.detach()), threading.Lock(), dict[int, Future[Came]]()
        with self._lock:
            self._process, self._connection, self._sending, self._waiting = process, connection, sending, waiting
        reading = partial(self._read, process, connection, sending, waiting)
        threading.Thread(target=reading, name="sectorwatch-ray-link", daemon=True).start()

    def _read(
        self,
        process: subprocess.Popen[bytes],
        connection: Connection,
        sending: threading.Lock,
        waiting: dict[int, Future[Came]],
    ) -> None:
        """Give results to those who wait, until the process ends."""
        while True:
            try:
                result = messages.came(connection.recv_bytes())
            except (EOFError, OSError):
                break
            if (future := waiting.get(result.number)) is not None:
                future.set_result(result)
        code = process.wait()
        with self._lock:
            if self._connection is connection:
                self._connection = self._process = None
                log.warning("the process that is connected to Ray has ended", extra={"code": code})
            left = dict(waiting)
        with sending:  # else a thread in the middle of its message writes to no file, or to the next of this number
            connection.close()
        for number, future in left.items():
            if not future.done():
                future.set_result(Came(number, None, "Lost", "the connection to the Ray cluster has ended"))
