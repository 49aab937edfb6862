"""A burst is streamed: from memory without a copy, from the disk a piece at a time."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from camera_agent.config.settings import ServerSettings
from camera_agent.spool.spool import Spool
from camera_agent.uplink.http_client import Accepted, HttpClient
from camera_agent.wall_clock import WallClock
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.spool.test_memory_first import make_spool
from tests.camera_agent.spool.test_spool import burst, spool_in

FRAME_BYTES = 8_000_000
MOST_BYTES = FRAME_BYTES // 10


@pytest.fixture
def sink() -> Iterator[str]:
    """A server in this process that discards bodies, so that the agent's memory alone is measured."""
    receipt = json.dumps({"burst_id": "burst-0001"}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            left, piece = int(self.headers["Content-Length"]), bytearray(4096)
            while left:
                left -= self.rfile.readinto(memoryview(piece)[: min(left, len(piece))])
            self.send_response(201)
            self.send_header("Content-Length", str(len(receipt)))
            self.end_headers()
            self.wfile.write(receipt)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def in_memory(folder: Path) -> Spool:
    return make_spool(folder, HandClock(), max_bytes=100_000_000)


def on_disk(folder: Path) -> Spool:
    return spool_in(folder, max_bytes=100_000_000)


@pytest.mark.parametrize("spool_at", [in_memory, on_disk])
def test_sending_a_burst_takes_less_than_a_tenth_of_its_size_in_memory(
    tmp_path: Path, sink: str, spool_at: Callable[[Path], Spool]
) -> None:
    spool = spool_at(tmp_path)
    spool.put(burst(1, size_bytes=FRAME_BYTES))
    waiting = spool.next()
    assert waiting is not None
    client = HttpClient(ServerSettings(url=sink), WallClock(HandClock()))
    tracemalloc.start()
    try:
        outcome = client.send_burst(waiting, None)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        client.close()
    assert isinstance(outcome, Accepted)
    assert client.take_traffic()[0] > FRAME_BYTES
    assert most_bytes < MOST_BYTES
