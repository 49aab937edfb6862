"""The day of `soak` on a real server: clients, faults, and measurements."""

from __future__ import annotations

import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from server.store import Store, open_store
from server.store.bursts import SET_ASIDE
from server.web.auth import ANY_SITE, new_token
from tests.benchmarks.soak.cameras import Camera, Follower, Greedy, Ledger, run
from tests.benchmarks.soak.day import BEGIN_US, DAY_S, Fault, bursts_of
from tests.benchmarks.soak.server import Pace, write_pace
from tests.benchmarks.soak.verdict import Sample
from tests.benchmarks.soak.watched import DATABASE, Watched
from tests.camera_agent.chaos import BAD, Proxy
from tests.camera_agent.chaos import Fault as LinkFault

SITES = ("yard-0", "yard-1", "yard-2", "yard-3")
BOUNDED = ("yard-2", "yard-3")
GREEDY = "greedy"
_SPOOL = 150
_PATIENCE_S = 8.0
_STEP_S = 0.1
_SETTLED_WITHIN_S = 300.0
KEPT_S = DAY_S // 4
"""Of bursts of `yard-1` and `yard-2`, and of events of `yard-2`."""
BURST_BYTES = 700
"""About what a burst and its events take, for the bound of `yard-3`."""

_POLICY = """
site = "{site}"
targets = ["person"]
"""
_CAMERA = """
[cameras.{camera}.sectors.west]
polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
[cameras.{camera}.sectors.east]
polygon = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
[cameras.{camera}.lines.middle]
a = [0.5, 0]
b = [0.5, 1]
directions = ["eastward", "westward"]
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. `seconds` of the machine are the whole day."""

    seconds: float
    cameras: int
    bursts_each: int
    seed: int
    faults: Sequence[Fault]
    is_replayed: bool = True
    """Whether `replay --check` is run as well."""
    is_long: bool = True
    """Whether a process lives long enough to show whether anything grows."""

    @property
    def speed(self) -> float:
        return DAY_S / self.seconds

    @property
    def most_bytes(self) -> int:
        """The bound of `yard-3`."""
        return max(20_000, self.cameras // len(SITES) * self.bursts_each * BURST_BYTES // 4)

    def site_of(self, camera: int) -> str:
        return SITES[camera % len(SITES)]


@dataclass
class Outcome:
    """The result. Each entry of `wrong` is a sentence."""

    ledger: Ledger = field(default_factory=Ledger)
    greedy: dict[int, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    lives: int = 0
    ends: dict[str, int] = field(default_factory=dict)
    heard_again: int = 0
    told_again: int = 0
    """Announcements that a reader, and the log channel, got twice in a row."""
    log: dict[str, int] = field(default_factory=dict)
    events: int = 0
    kept_bursts: int = 0
    deleted_bursts: int = 0
    clean_events: int = 0
    late_events: int = 0
    settled_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stormed:
    """The server of the day, and who followed its log."""

    server: Watched
    follower: Follower


def prepare(folder: Path, plan: Plan, *, is_bounded: bool) -> dict[str, str]:
    """A data folder with settings, sites, database and clock; the token of each client."""
    (folder / "sites").mkdir(parents=True)
    names = [f"camera-{number:02d}" for number in range(plan.cameras)]
    for site in SITES:
        mine = [name for number, name in enumerate(names) if plan.site_of(number) == site]
        mine += [GREEDY] if site == SITES[0] else []
        text = _POLICY.format(site=site) + "".join(_CAMERA.format(camera=name) for name in mine)
        (folder / "sites" / f"{site}.toml").write_text(text, encoding="utf-8")
    retention = (
        f"[retention.yard-1]\nkeep_observations_days = {KEPT_S / DAY_S}\n"
        f"[retention.yard-2]\nkeep_observations_days = {KEPT_S / DAY_S}\nkeep_events_days = {KEPT_S / DAY_S}\n"
        f"[retention.yard-3]\nmax_bytes = {plan.most_bytes}\n"
    )
    (folder / "server.toml").write_text(
        f'data_dir = "{folder}"\nmodels = ["frame-change"]\nlog_style = "json"\ngolden_every_s = 0\n'
        'late_within = "12h"\nadmission_limit = 8\nthreads = 12\n'  # the threads of a few minutes are those of months
        + (f"client_images_per_minute = 3000\n{retention}" if is_bounded else ""),
        encoding="utf-8",
    )
    with closing(open_store(f"sqlite:///{folder / DATABASE}")) as store:
        store.upgrade()
        places = {name: plan.site_of(number) for number, name in enumerate(names)} | {GREEDY: SITES[0]}
        return {name: _add_token(store, name, place) for name, place in (places | {"reader": ANY_SITE}).items()}


def _add_token(store: Store, name: str, site: str) -> str:
    made = new_token()
    store.add_token(made.id, name, site, None if site == ANY_SITE else name, made.hash)
    return made.token


def storm(plan: Plan, folder: Path, tokens: dict[str, str], outcome: Outcome, say: Callable[[str], None]) -> Stormed:
    port, over = free_port(), threading.Event()
    links: dict[str, LinkFault] = dict.fromkeys(SITES, "none")
    server = Watched(folder, port)
    with ExitStack() as stack:
        proxies = {
            site: stack.enter_context(
                Proxy(f"http://127.0.0.1:{port}", iter(lambda site=site: links[site], None), plan.seed)  # type: ignore[misc]
            )
            for site in SITES
        }
        pace = Pace(BEGIN_US, time.monotonic(), plan.speed)
        write_pace(folder, pace)
        cameras = list(_cameras(plan, tokens, proxies, outcome.ledger))
        greedy = Greedy(GREEDY, SITES[0], tokens[GREEDY], port, outcome.ledger)
        follower = Follower(port, tokens["reader"], outcome.wrong)
        clients = threading.Thread(
            target=run, args=(cameras, greedy, follower, pace.now_us, over.is_set, _PATIENCE_S), daemon=True
        )
        hand = _Hand(server, proxies, links, greedy, folder, pace, random.Random(f"{plan.seed} links"))
        try:
            server.keep_up()
            clients.start()
            _live(plan, hand, cameras, pace, outcome, say)
            _settle(server, cameras, follower, folder, outcome)
        finally:
            over.set()
            clients.join(_PATIENCE_S + 5.0)
            code = server.end()
    if code != 0:
        outcome.wrong.append(f"the last server ended with {code} after SIGTERM")
    if clients.is_alive():
        outcome.wrong.append("the clients do not end")
    outcome.greedy, outcome.lives = dict(greedy.statuses), server.lives
    outcome.ends, outcome.log = dict(server.ends), dict(server.log)
    return Stormed(server, follower)


def _cameras(plan: Plan, tokens: dict[str, str], proxies: dict[str, Proxy], ledger: Ledger) -> Iterator[Camera]:
    for number in range(plan.cameras):
        name, site = f"camera-{number:02d}", plan.site_of(number)
        day = bursts_of(name, plan.bursts_each, plan.seed)
        port = int(proxies[site].url.rpartition(":")[2])
        yield Camera(site, tokens[name], port, day, _SPOOL, ledger, random.Random(f"{plan.seed} {name} sends"))


class _Hand:
    """Begins and ends faults."""

    def __init__(
        self,
        server: Watched,
        proxies: dict[str, Proxy],
        links: dict[str, LinkFault],
        greedy: Greedy,
        folder: Path,
        pace: Pace,
        chance: random.Random,
    ) -> None:
        self.server = server
        self._proxies, self._links, self._greedy = proxies, links, greedy
        self._folder, self._pace, self._chance = folder, pace, chance

    def begin(self, fault: Fault) -> None:
        if fault.kind in ("kill", "orphan"):
            self.server.kill(with_worker=fault.kind == "kill")
        elif fault.kind == "stop":
            self.server.stop()
        elif fault.kind == "link":
            self._links[fault.site] = self._chance.choice(BAD)
            self._chance.choice((self._proxies[fault.site].break_off, self._proxies[fault.site].freeze))()
        elif fault.kind == "disk":
            self.server.fill_disk(True)
        elif fault.kind == "clock":
            self._set_clock(fault.step_s)
        else:
            self._greedy.is_on = True

    def end(self, fault: Fault) -> None:
        if fault.kind == "link":
            self._links[fault.site] = "none"
        elif fault.kind == "disk":
            self.server.fill_disk(False)
        elif fault.kind == "clock":
            self._set_clock(0)
        elif fault.kind == "greedy":
            self._greedy.is_on = False

    def _set_clock(self, step_s: int) -> None:
        at_us = self._pace.at_us + step_s * 1_000_000
        write_pace(self._folder, Pace(at_us, self._pace.monotonic_s, self._pace.speed))


def _live(
    plan: Plan,
    hand: _Hand,
    cameras: Sequence[Camera],
    pace: Pace,
    outcome: Outcome,
    say: Callable[[str], None],
) -> None:
    """The day: begin and end the faults, keep the server up, and measure it."""
    begins = sorted(plan.faults, key=lambda fault: fault.begin_s, reverse=True)
    lasting: list[Fault] = []
    every_s = max(0.5, plan.seconds / 400)
    sampled_s, told_s, wait = 0.0, 0.0, threading.Event().wait
    while (now_s := time.monotonic() - pace.monotonic_s) < plan.seconds:
        while begins and begins[-1].begin_s <= now_s:
            lasting.append(begins.pop())
            hand.begin(lasting[-1])
        for fault in [fault for fault in lasting if fault.end_s <= now_s]:
            lasting.remove(fault)
            if not any(other.kind == fault.kind and other.site == fault.site for other in lasting):
                hand.end(fault)
        hand.server.keep_up()
        if now_s - sampled_s >= every_s:
            sampled_s = now_s
            outcome.samples += filter(None, [hand.server.sample(now_s, BOUNDED)])
        if now_s - told_s >= max(10.0, plan.seconds / 20):
            told_s = now_s
            waiting = sum(camera.waiting for camera in cameras)
            say(f"{now_s:.0f} s: {len(outcome.ledger.acknowledged)} acknowledged, {waiting} waiting")
        wait(_STEP_S)
    for fault in lasting:
        hand.end(fault)


def _settle(server: Watched, cameras: Sequence[Camera], follower: Follower, folder: Path, outcome: Outcome) -> None:
    """Wait until the server has all bursts, and all of them are folded and told."""
    began_s, wait = time.monotonic(), threading.Event().wait
    with closing(open_store(f"sqlite:///{folder / DATABASE}")) as store:

        def left() -> str | None:
            if busy := sum(not camera.is_done for camera in cameras):
                return f"bursts wait at {busy} cameras"
            if marked := [each for each in store.marked() if each.late != SET_ASIDE]:
                return f"bursts wait outside of the fold: {marked}"
            if follower.after < store.last_seq():
                return "the follower is behind the log"
            return "the log channel is behind the log" if _delivered_seq(folder) < store.last_seq() else None

        while (why := left()) and time.monotonic() - began_s < _SETTLED_WITHIN_S:
            server.keep_up()
            wait(_STEP_S)
        if why:
            outcome.wrong.append(f"{_SETTLED_WITHIN_S:g} s after the day, {why}")
    outcome.settled_s = time.monotonic() - began_s


def _delivered_seq(folder: Path) -> int:
    """How far the log channel has got."""
    with closing(sqlite3.connect(f"file:{folder / DATABASE}?mode=ro", uri=True, timeout=10)) as connection:
        row = connection.execute("SELECT delivered_seq FROM channels WHERE name = 'log'").fetchone()
        return 0 if row is None else int(row[0])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
