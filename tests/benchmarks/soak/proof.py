"""The proof of `soak`: a clean run of the acknowledged bursts, and everything that is compared with it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from policies.events import instant
from server.delivery.lines import json_line
from server.store import Store, open_store
from tests.benchmarks.serving.traffic import Answer, Traffic
from tests.benchmarks.soak.cameras import Follower, get, request
from tests.benchmarks.soak.day import BEGIN_US, DAY_S, Taken
from tests.benchmarks.soak.server import Pace, write_pace
from tests.benchmarks.soak.storm import (
    BURST_BYTES,
    GREEDY,
    KEPT_S,
    SITES,
    Outcome,
    Plan,
    Stormed,
    free_port,
    prepare,
    storm,
)
from tests.benchmarks.soak.verdict import (
    Wire,
    differences,
    followed_differences,
    gaps,
    growths,
    trends,
    unplanned_ends,
)
from tests.benchmarks.soak.watched import DATABASE, Watched, site_bytes

_SLACK_S, _SWEPT_S = 7200, 60
"""How much older than its bound a burst may be, in seconds of data and of the machine: sweeps leave time to others."""
_REFUSALS, _ASKED_AGAIN_S = 10, 0.2
_HOUR_BURSTS = 30
"""The most that a camera takes within an hour, visits of several people included."""


def soak(plan: Plan, folder: Path, say: Callable[[str], None] = lambda _line: None) -> Outcome:
    """Run the day and prove it, in `folder`."""
    outcome = Outcome()
    stormy, clean = folder / "stormy", folder / "clean"
    tokens = prepare(stormy, plan, is_bounded=True)
    stormed = storm(plan, stormy, tokens, outcome, say)
    say(f"the day is over; {len(outcome.ledger.acknowledged)} bursts are acknowledged")
    with closing(open_store(f"sqlite:///{stormy / DATABASE}")) as store:
        expected = _clean_run(plan, clean, _taken_in(store, outcome), outcome, say)
        _judge(store, outcome, expected, stormed)
        outcome.wrong += _beyond_bounds(store, stormy, plan)
    if plan.is_replayed:
        _check_replay(stormy, outcome)
    outcome.wrong += [*outcome.ledger.wrong, *_faults_in(plan, outcome), *_gaps(plan, outcome)]
    return outcome


def _faults_in(plan: Plan, outcome: Outcome) -> Iterator[str]:
    """Tracebacks, processes that ended by themselves, what was announced twice, and what grows."""
    if count := outcome.log.get("traceback"):
        yield f"{count} tracebacks are in the server's log"
    yield from unplanned_ends(outcome.ends, outcome.log, Counter(fault.kind for fault in plan.faults))
    if outcome.heard_again > outcome.late_events:  # a late burst may change an event and another change it back
        yield f"a follower of the log gets {outcome.heard_again} events twice in a row"
    yield from growths(trends(outcome.samples))


def _gaps(plan: Plan, outcome: Outcome) -> Iterator[str]:
    """What keeps the run from showing anything; in one that is not long, growth does not count."""
    return gaps(
        trends(outcome.samples) if plan.is_long else None,
        bursts=plan.cameras * plan.bursts_each,
        acknowledged=sum(taken.camera != GREEDY for taken in outcome.ledger.acknowledged.values()),
        dropped=outcome.ledger.dropped,
        cameras=plan.cameras,
        events=outcome.clean_events,
    )


def _taken_in(store: Store, outcome: Outcome) -> list[Taken]:
    """All acknowledged bursts, and those that the server has although its answer never came."""
    unheard = [taken for name, taken in outcome.ledger.given_up.items() if store.known(name) is not None]
    return list((outcome.ledger.acknowledged | {taken.burst_id: taken for taken in unheard}).values())


def _clean_run(
    plan: Plan, folder: Path, bursts: Sequence[Taken], outcome: Outcome, say: Callable[[str], None]
) -> list[Wire]:
    """The events of a server that takes the acknowledged bursts, each camera's in the order of their capture."""
    tokens = prepare(folder, plan, is_bounded=False)
    write_pace(folder, Pace(BEGIN_US + 3 * DAY_S * 1_000_000, time.monotonic(), 0.0))
    port = free_port()
    server = Watched(folder, port)
    server.keep_up()
    try:
        _wait_until_ready(server, port)
        _send_all(port, tokens, bursts, outcome, say)
        return all_events(port, tokens["reader"])
    finally:
        if server.end() != 0 or server.lives != 1:
            outcome.wrong.append("the clean server ended by itself, or was not stopped in order")
        if server.told.again:
            outcome.wrong.append(f"the clean server's log channel tells {server.told.again} events twice in a row")


def _wait_until_ready(server: Watched, port: int) -> None:
    wait, deadline_s = threading.Event().wait, time.monotonic() + 120.0
    while time.monotonic() < deadline_s:
        answers: list[Answer] = []
        traffic = Traffic()
        traffic.ask(port, get("/readyz", ""), answers.append)
        traffic.run()
        if answers[0].status == 200:
            return
        server.keep_up()
        wait(0.2)
    raise RuntimeError("the clean server did not become ready")


def _send_all(
    port: int, tokens: dict[str, str], bursts: Sequence[Taken], outcome: Outcome, say: Callable[[str], None]
) -> None:
    days: dict[str, list[Taken]] = {}
    for taken in bursts:
        days.setdefault(taken.camera, []).append(taken)
    queues = [sorted(day, key=lambda taken: (taken.captured_us, taken.burst_id), reverse=True) for day in days.values()]
    traffic = Traffic()

    def next_of(lane: list[list[Taken]]) -> None:
        lane[:] = [queue for queue in lane if queue]
        if not lane:
            return
        taken = lane[0].pop()
        site, _ = outcome.ledger.places[taken.camera]

        def heard(answer: Answer) -> None:
            if answer.status == 429 or answer.status == 503:
                lane[0].append(taken)
                traffic.at(answer.at + max(0.2, answer.retry_after_s), lambda: next_of(lane))
                return
            if answer.status != 201:
                outcome.wrong.append(f"the clean server answers {taken.burst_id} with {answer.status} {answer.error}")
            next_of(lane)

        traffic.ask(port, request(taken, site, tokens[taken.camera]), heard)

    lanes = [queues[number::8] for number in range(8)]
    for lane in lanes:
        next_of(lane)
    traffic.run()
    say("the clean run is done")


def all_events(port: int, token: str) -> list[Wire]:
    """All events that a reader gets, page by page. A page that does not come is asked for again, ten times in all."""
    follower, refusals, wait = Follower(port, token, []), 0, threading.Event().wait
    answers: list[Answer] = []
    while refusals <= _REFUSALS:
        before, traffic = follower.after, Traffic()
        traffic.ask(port, get(f"/v1/events?after={before}&limit=500", token), answers.append)
        traffic.run()
        if answers[-1].status != 200:
            refusals += 1
            wait(max(_ASKED_AGAIN_S, answers[-1].retry_after_s))
            continue
        follower.hear(answers[-1])
        if follower.after == before:
            return [event for event in follower.followed.events.values() if not event["withdrawn"]]
    raise RuntimeError(f"the clean server does not give its log: {answers[-1].status} {answers[-1].error}")


def _judge(store: Store, outcome: Outcome, expected: Sequence[Wire], stormed: Stormed) -> None:
    log = [msgspec.json.decode(json_line(logged)) for logged in store.events()]
    outcome.events, outcome.clean_events = len(log), len(expected)
    outcome.heard_again, outcome.told_again = stormed.follower.followed.again, stormed.server.told.again
    outcome.late_events = sum(event["late"] for event in log)
    gone = {(each.site, each.camera): each for each in store.retention.all_gone()}
    kept_from = {
        name: None if each.events_from_us is None else instant(each.events_from_us) for name, each in gone.items()
    }
    outcome.wrong += differences(log, expected, kept_from)
    outcome.wrong += followed_differences("a follower of the log", stormed.follower.followed.events, log, kept_from)
    outcome.wrong += followed_differences("the log channel", stormed.server.told.events, log, kept_from)
    outcome.wrong += [f"outside of the fold at the end: {marked}" for marked in store.marked()]
    lost = []
    for burst_id, taken in outcome.ledger.acknowledged.items():
        site, _ = outcome.ledger.places[taken.camera]
        if store.known(burst_id) is not None:
            outcome.kept_bursts += 1
        elif (site, taken.camera) in gone and gone[site, taken.camera].burst_at(taken.captured_us):
            outcome.deleted_bursts += 1
        else:
            lost.append(burst_id)
    if lost:
        outcome.wrong.append(f"{len(lost)} acknowledged bursts are lost: {', '.join(lost[:5])}")
    outcome.wrong += _frames_twice(store)
    if (found := store.integrity()) is not None and found.faults:
        outcome.wrong.append(f"the database is damaged: {', '.join(found.faults[:5])}")


def _frames_twice(store: Store) -> Iterator[str]:
    for head in store.cameras():
        frames = [(seen.burst_id, seen.index) for seen in store.observations(head.site, head.camera)]
        if len(frames) != len(set(frames)):
            yield f"{head.site}/{head.camera}: {len(frames) - len(set(frames))} frames are there twice"


def _beyond_bounds(store: Store, folder: Path, plan: Plan) -> Iterator[str]:
    """Which sites hold more than they should. A sweep comes some minutes late, and deletes whole bursts."""
    overdue: list[str] = []
    for head in store.cameras():
        if head.site in ("yard-1", "yard-2"):
            oldest_us = head.last_at_us - round((KEPT_S + _SLACK_S + _SWEPT_S * plan.speed) * 1_000_000)
            overdue += [one.burst_id for one in store.past.before(head.site, head.camera, oldest_us, 1)]
    if overdue:
        yield f"retention is behind: {len(overdue)} cameras keep what is too old, as {', '.join(overdue[:3])}"
    held = site_bytes(folder / DATABASE, ("yard-3",))
    newest_hour = plan.cameras // len(SITES) * _HOUR_BURSTS * BURST_BYTES
    if held > plan.most_bytes + newest_hour:
        yield f"yard-3 holds {held} bytes, of {plan.most_bytes} allowed"


def _check_replay(folder: Path, outcome: Outcome) -> None:
    command = [sys.executable, "-m", "server", "replay", "--check", "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        outcome.wrong.append(f"replay --check ends with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
