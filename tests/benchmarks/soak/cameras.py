"""The clients of `soak`: cameras with a spool each, a greedy one, and a reader who follows the log.

All of them live in one thread (`Traffic`). A camera sends a burst until the server has it. It waits as `Retry-After`
says, or longer each time; now and then it sends a later burst first, or one again.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image

from policies.events import instant
from tests.benchmarks.serving.traffic import Answer, Traffic
from tests.benchmarks.soak.day import BURST_US, FRAME_MS, FRAMES, Taken
from tests.benchmarks.soak.verdict import Followed

_TICK_S = 0.05
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.3, 4.0
_OUT_OF_ORDER, _AGAIN = 0.05, 0.02
MOST_LATE_S = 6 * 3600
"""How much later a burst may be that is sent before the oldest that waits. The server's bound is twice as long."""
_GREEDY_CONNECTIONS = 8
_GREEDY_EVERY_S = 0.1
_READ_EVERY_S = 0.5
_SIZE = (64, 48)
_SOMEBODY = (4, 14)
_FOOT = 40

Now = Callable[[], int]
"""The true instant of data (us)."""


@dataclass
class Ledger:
    """What the clients know. Each entry of `wrong` is a sentence."""

    acknowledged: dict[str, Taken] = field(default_factory=dict)
    given_up: dict[str, Taken] = field(default_factory=dict)
    """Sent, and never acknowledged: the server may have them."""
    places: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Site and token of each camera."""
    statuses: Counter[str] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    dropped: int = 0
    most_waiting: int = 0


def request(taken: Taken, site: str, token: str) -> bytes:
    """A whole HTTP request with a burst; the same bytes each time."""
    pictures = [picture(taken, index) for index in range(len(taken.feet))]
    envelope = {
        "burst_id": taken.burst_id,
        "site": site,
        "camera": taken.camera,
        "captured_at": instant(taken.captured_us).isoformat(),
        "offsets_ms": [FRAME_MS * index for index in range(len(pictures))],
        "clock": {"synced": True, "boot_id": taken.camera, "monotonic_ms": taken.due_us // 1000},
        "frame_sha256": [hashlib.sha256(one).hexdigest() for one in pictures],
    }
    head = b'--x\r\nContent-Disposition: form-data; name="burst"\r\nContent-Type: application/json\r\n\r\n'
    file = b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="f.jpg"\r\n\r\n'
    body = head + json.dumps(envelope).encode() + b"".join(file + one for one in pictures) + b"\r\n--x--\r\n"
    return (
        f"POST /v1/bursts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def picture(taken: Taken, index: int) -> bytes:
    """Dark noise, no two alike, with a bright upright patch where somebody stands."""
    noise = random.Random(f"{taken.burst_id} {index}").randbytes(_SIZE[0] * _SIZE[1] // 16)
    image = Image.frombytes("L", (_SIZE[0] // 4, _SIZE[1] // 4), noise).point(lambda level: level // 3).resize(_SIZE)
    foot = taken.feet[index]
    if foot is not None:
        left = round(foot * _SIZE[0]) - _SOMEBODY[0] // 2
        image.paste(250, (left, _FOOT - _SOMEBODY[1], left + _SOMEBODY[0], _FOOT))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


class Camera:
    """One camera: `step` often. `port` is where it sends, its site's link."""

    def __init__(
        self, site: str, token: str, port: int, day: Sequence[Taken], spool: int, ledger: Ledger, chance: random.Random
    ) -> None:
        self._site, self._token, self._port = site, token, port
        self._day, self._most, self._ledger, self._chance = list(reversed(day)), spool, ledger, chance
        self._spool: list[Taken] = []
        self._sending: Taken | None = None
        self._failures = 0
        self._until_s = 0.0
        for taken in day[:1]:
            ledger.places[taken.camera] = (site, token)

    @property
    def waiting(self) -> int:
        """Its bursts that the server does not have yet, so far as they are taken."""
        return len(self._spool)

    @property
    def is_done(self) -> bool:
        return not self._day and not self._spool

    def step(self, traffic: Traffic, now_us: int) -> None:
        """Take what is due, and send."""
        while self._day and self._day[-1].due_us <= now_us:
            self._spool.append(self._day.pop())
        while len(self._spool) > self._most:
            oldest = next(taken for taken in self._spool if taken is not self._sending)
            self._spool.remove(oldest)
            self._ledger.given_up[oldest.burst_id] = oldest
            self._ledger.dropped += 1
        self._ledger.most_waiting = max(self._ledger.most_waiting, len(self._spool))
        if self._spool and self._sending is None and time.perf_counter() >= self._until_s:
            self._send(traffic)

    def _send(self, traffic: Traffic) -> None:
        taken = self._spool[0]
        if self._chance.random() < _OUT_OF_ORDER:
            latest_us = taken.captured_us + MOST_LATE_S * 1_000_000
            taken = self._chance.choice([each for each in self._spool if each.captured_us <= latest_us])
        self._sending, began_s = taken, time.perf_counter()

        def heard(answer: Answer) -> None:
            self._sending = None
            self._ledger.statuses[str(answer.status or answer.error)] += 1
            if answer.status in (200, 201):
                self._ledger.took_s.append(answer.at - began_s)
                self._accepted(taken, answer)
            elif answer.status in (0, 429) or answer.status >= 500:
                if answer.status not in (0, 429, 503) and answer.body:  # the faulty link's own have no body
                    self._ledger.wrong.append(f"{taken.burst_id}: {answer.status} {answer.body[:300]!r}")
                self._failures += 1
                wait_s = min(_FIRST_WAIT_S * 2 ** (self._failures - 1), _LONGEST_WAIT_S)
                self._until_s = answer.at + max(wait_s, answer.retry_after_s) * self._chance.uniform(0.8, 1.2)
            else:
                self._spool.remove(taken)
                self._ledger.wrong.append(f"{taken.burst_id} is refused: {answer.status} {answer.body[:300]!r}")

        traffic.ask(self._port, request(taken, self._site, self._token), heard)

    def _accepted(self, taken: Taken, answer: Answer) -> None:
        if json.loads(answer.body)["burst_id"] != taken.burst_id:
            self._ledger.wrong.append(f"{taken.burst_id} gets the answer of another burst")
        if answer.status == 201 and taken.burst_id in self._ledger.acknowledged:
            self._ledger.wrong.append(
                f"{taken.burst_id} was acknowledged, and is new to the server when it is repeated"
            )
        self._failures = 0
        self._ledger.acknowledged[taken.burst_id] = taken
        if self._chance.random() >= _AGAIN:
            self._spool.remove(taken)


class Greedy:
    """A client that sends new bursts on all its connections at once, and takes no notice of `Retry-After`."""

    def __init__(self, camera: str, site: str, token: str, port: int, ledger: Ledger) -> None:
        self._camera, self._site, self._token, self._port, self._ledger = camera, site, token, port, ledger
        self._count = 0
        self._captured_us = 0
        self.statuses: Counter[int] = Counter()
        self.is_on = False
        ledger.places[camera] = (site, token)

    def begin(self, traffic: Traffic, now: Now, until: Callable[[], bool]) -> None:
        """On each connection: send whenever it `is_on`, until it is over."""

        def again() -> None:
            if until():
                return
            if self.is_on:
                self._send(traffic, now(), lambda: traffic.at(time.perf_counter() + _GREEDY_EVERY_S, again))
            else:
                traffic.at(time.perf_counter() + _GREEDY_EVERY_S, again)

        for _ in range(_GREEDY_CONNECTIONS):
            again()

    def _send(self, traffic: Traffic, now_us: int, then: Callable[[], None]) -> None:
        self._count += 1
        self._captured_us = max(now_us // 1000 * 1000, self._captured_us + BURST_US)
        foot = 0.1 + self._count % 8 / 10
        taken = Taken(self._camera, self._count, now_us, self._captured_us, (foot,) * FRAMES)

        def heard(answer: Answer) -> None:
            self.statuses[answer.status] += 1
            known = self._ledger.acknowledged if answer.status in (200, 201) else self._ledger.given_up
            known[taken.burst_id] = taken
            then()

        traffic.ask(self._port, request(taken, self._site, self._token), heard)


class Follower:
    """A reader who asks again and again for what is new in the log."""

    def __init__(self, port: int, token: str, wrong: list[str]) -> None:
        self._port, self._token, self._wrong = port, token, wrong
        self.after = 0
        self.followed = Followed()

    def begin(self, traffic: Traffic, until: Callable[[], bool]) -> None:
        def again() -> None:
            if not until():
                traffic.ask(self._port, get(f"/v1/events?after={self.after}&limit=500", self._token), heard)

        def heard(answer: Answer) -> None:
            self.hear(answer)
            traffic.at(time.perf_counter() + _READ_EVERY_S, again)

        again()

    def hear(self, answer: Answer) -> None:
        """Take in a page. No answer, and a server that is busy or ends, is asked again."""
        if answer.status == 200:
            page = json.loads(answer.body)
            for event in page["events"]:
                self.followed.hear(event)
            self.after = page["next"]
        elif answer.status not in (0, 429, 503):
            self._wrong.append(f"the follower is refused: {answer.status} {answer.body[:300]!r}")


def run(
    cameras: Sequence[Camera],
    greedy: Greedy,
    follower: Follower,
    now: Now,
    is_over: Callable[[], bool],
    patience_s: float,
) -> None:
    """All clients, until it is over."""
    traffic = Traffic(patience_s)

    def tick() -> None:
        for camera in cameras:
            camera.step(traffic, now())
        if not is_over():
            traffic.at(time.perf_counter() + _TICK_S, tick)

    tick()
    greedy.begin(traffic, now, is_over)
    follower.begin(traffic, is_over)
    traffic.run()


def get(path: str, token: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()
