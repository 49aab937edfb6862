"""Thirty open pages on a real server: they hold no thread and no memory, and bursts go on arriving."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from tests.server.launched import Running
from tests.server.web_client import envelope, jpeg

PAGES, ROUNDS = 30, 8
THREADS = 4


@contextmanager
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection that stays open between requests, as a browser keeps it."""
    opened = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        yield opened
    finally:
        opened.close()


def asked(page: http.client.HTTPConnection, after: str) -> tuple[str, int]:
    """The number that a page has got to, and how many news it was told."""
    page.request("GET", "/live", headers={"Last-Event-ID": after} if after else {})
    answer = page.getresponse()
    text = answer.read().decode()
    assert answer.status == 200
    return text.strip().rpartition("id: ")[2], text.count("data: ")


def sent(server: Running, port: int, number: int) -> int:
    """Upload a burst in which somebody comes or goes."""
    frames = [jpeg(240 if number % 2 else 20, (64 + 2 * number, 48 + 2 * each)) for each in range(8)]
    burst = envelope(frames, burst_id=f"0197-burst-{number:04}", captured_at=f"2027-01-15T07:{10 + number}:00.000Z")
    parts: list[tuple[str, tuple[str, str | bytes, str]]] = [
        ("burst", ("burst.json", json.dumps(burst), "application/json"))
    ]
    parts += [("file", (f"{each}.jpg", frame, "image/jpeg")) for each, frame in enumerate(frames)]
    server.say("\n")  # the ensemble answers
    return requests.post(f"http://127.0.0.1:{port}/v1/bursts", files=parts, timeout=120).status_code


@pytest.mark.usefixtures("own_folder")
def test_thirty_open_pages_hold_no_thread_and_no_memory_while_bursts_arrive(
    tmp_path: Path, running: list[Running]
) -> None:
    server = Running(["tests.server.hosted", str(tmp_path), json.dumps({"threads": THREADS})])
    running.append(server)
    port = int(server.line(r"port (\d+)")[1])
    told, sizes = [0] * PAGES, list[int]()
    with ExitStack() as stack:
        pages = [stack.enter_context(connection(port)) for _ in range(PAGES)]
        after = [asked(page, "")[0] for page in pages]
        for number in range(ROUNDS):
            assert sent(server, port, number) == 201
            for index, page in enumerate(pages):
                after[index], news = asked(page, after[index])
                told[index] += news
            family = [*psutil.Process(server.process.pid).children(recursive=True), psutil.Process(server.process.pid)]
            sizes.append(sum(each.memory_info().rss for each in family))
    assert len(set(after)) == 1
    assert min(told) == max(told) > 0
    assert sizes[-1] - sizes[1] < 8_000_000
