"""Replays both policies on a stretch, and says how they differ: as far as it is done, however far that is."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode

from policies.events import Event, instant
from policies.site.site_policy import SitePolicy
from server.analysis.annotations import place_of
from server.analysis.explain.text import shortfall
from server.analysis.explain.votes import Weighing
from server.analysis.tuning.candidates import Candidate, Place
from server.analysis.tuning.differing import Differing, Edge, differing, edge_of
from server.analysis.tuning.figures import TriedFigures, figures, until_now
from server.analysis.tuning.past import (
    AllGone,
    annotated,
    confirmed_in,
    has_events_of,
    logged_events,
    with_bursts,
)
from server.analysis.tuning.scoring import Truth, truth_of
from server.console.context import Context
from server.console.tuning.page import Strip, TuneBallot, TunePicture
from server.delivery.event_text import VERBS
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import LocalTime
from server.replays import Hour, HourByHour, Hours, Tried, hours_of

SHOWN = 12
"""Happenings with their pictures."""
_WEIGHED = 60
"""The newest happenings, of which the nearest to the edge are shown."""
_PICTURES = 4
_EDGES_S = 0.4
_MOST_EDGES = 2000
WAIT_S = 0.6


@dataclass(frozen=True, slots=True)
class Asked:
    """A place of a camera, a stretch (us), and both policies; `head_us` is the camera's newest frame."""

    site: str
    camera: str
    place: Place
    since_us: int
    until_us: int
    head_us: int
    today: SitePolicy
    today_text: str
    candidate: Candidate

    @property
    def is_changed(self) -> bool:
        return self.candidate.policy.digest != self.today.digest


@dataclass(frozen=True, slots=True)
class Known:
    """What people and the log say of the stretch: `truth`, the events of the log, how many annotated facts are no
    longer kept.
    """

    truth: Truth
    logged: tuple[Event, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Result:
    """What is known so far: the hours that are done, of so many, and the differing happenings."""

    hours: tuple[Hour, ...]
    left: int
    why: str
    figures: TriedFigures | None
    differ: int
    strips: tuple[Strip, ...]
    is_complete: bool


class Trials:
    """Tries changed policies of one process. Safe to use from several threads."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hours = HourByHour(context.replays)
        self._edges: OrderedDict[tuple[str, str], Edge] = OrderedDict()
        self._log: tuple[object, tuple[Event, ...]] = None, ()
        self._lock = threading.Lock()

    def known(self, site: str, camera: str, since_us: int, until_us: int) -> Known:
        """The annotations and the log of a camera's stretch. The log is read again when it has another event."""
        store = self._context.store
        gone = store.retention.gone(site, camera)
        by_name: AllGone = {(site, camera): gone}
        facts = [each for each in annotated(store, site, [camera]) if since_us <= each.at_us < until_us]
        kept = with_bursts(facts, by_name)
        key = (site, camera, since_us, until_us, store.last_seq(), gone)
        with self._lock:
            at, logged = self._log
        if at != key:
            logged = tuple(logged_events(store, site, camera, by_name, since_us, until_us))
            with self._lock:
                self._log = key, logged
        return Known(truth_of(kept, logged, since_us, until_us), logged, len(facts) - len(kept))

    def result(self, asked: Asked, known: Known, local: LocalTime, owner: str) -> Result:
        """What is there after some tenths of a second: ask again until it is complete."""
        wanted = hours_of(
            asked.since_us,
            min(asked.until_us, asked.head_us + 1),
            (at_us for instants in known.truth.instants() for at_us in instants),
        )
        is_logged = has_events_of(
            self._context.store, asked.site, asked.camera, asked.today, asked.since_us, asked.until_us
        )
        policies = [] if is_logged and asked.is_changed else [Tried(asked.today.digest, asked.today_text)]
        if asked.is_changed:
            policies.append(Tried(asked.candidate.policy.digest, asked.candidate.text))
        edition = partial(self._edition, asked, self._past(asked))
        hours = self._hours.ask(asked.site, asked.camera, policies, wanted, edition, owner, WAIT_S)
        done = tuple(each.hour for each in hours.folded[0])
        if not done:
            at_once = figures(known.truth, known.logged, known.logged, asked.place, 0) if is_logged else None
            return Result((), hours.left, hours.why, None if asked.is_changed else at_once, 0, (), not wanted)
        before = confirmed_in(known.logged, done) if is_logged else hours.events(0)
        after = hours.events(len(policies) - 1) if asked.is_changed else before
        differ = differing(before, after) if asked.is_changed and not hours.left else []
        strips, is_weighed = self._strips(asked, known, differ, local)
        measured = self._figures(asked, known, hours, before, after)
        return Result(done, hours.left, hours.why, measured, len(differ), strips, not hours.left and is_weighed)

    def _past(self, asked: Asked) -> tuple[int, AllGone]:
        store = self._context.store
        gone = store.retention.gone(asked.site, asked.camera)
        return store.past.edition(asked.site, asked.camera), {(asked.site, asked.camera): gone}

    def _edition(self, asked: Asked, past: tuple[int, AllGone], hour: Hour) -> str:
        """What is stored of an hour, in one word: another one after a late burst, and when some of it is gone."""
        number, gone = past
        part = gone[asked.site, asked.camera].within(*hour)
        return str(number) if part.is_nothing else f"{number} {part!r}"

    def _figures(
        self, asked: Asked, known: Known, hours: Hours, before: Sequence[Event], after: Sequence[Event]
    ) -> TriedFigures:
        blind_us = int(asked.today.camera(asked.camera).rules.presence.blind_s * SECOND_US)
        done = [each.hour for each in hours.folded[0]]
        truth = until_now(known.truth, done) if hours.left else known.truth
        return figures(truth, before, after, asked.place, hours.observed_us(blind_us))

    def _strips(
        self, asked: Asked, known: Known, differ: Sequence[Differing], local: LocalTime
    ) -> tuple[tuple[Strip, ...], bool]:
        """The happenings nearest to the edge, and whether all were weighed that are to be."""
        until_s = time.monotonic() + _EDGES_S
        weighed: list[tuple[Differing, Edge]] = []
        for each in differ[:_WEIGHED]:
            edge = self._edge(asked, each, is_known_only=time.monotonic() > until_s)
            if edge is not None:
                weighed.append((each, edge))
        weighed.sort(key=lambda pair: pair[1].order())
        chosen = weighed[:SHOWN]
        kept = self._kept(asked, [each for each, _ in chosen])
        logged = {event.id for event in known.logged}
        strips = tuple(_strip(asked, each, edge, kept, logged, local) for each, edge in chosen)
        return strips, len(weighed) == min(len(differ), _WEIGHED)

    def _edge(self, asked: Asked, each: Differing, *, is_known_only: bool) -> Edge | None:
        """How near a happening is to the edge of the policy that does not report it; None where time is over."""
        policy = asked.candidate.policy if each.side == "today" else asked.today
        key = (each.events[0].id, policy.digest)
        with self._lock:
            known = self._edges.get(key)
        if known is not None or is_known_only:
            return known
        frames = partial(self._context.store.observations, asked.site, asked.camera)
        edge = edge_of(each, policy.camera(asked.camera), frames)
        with self._lock:
            self._edges[key] = edge
            while len(self._edges) > _MOST_EDGES:
                self._edges.popitem(last=False)
        return edge

    def _kept(self, asked: Asked, shown: Sequence[Differing]) -> set[str]:
        """Which of the frames of these happenings are kept as pictures."""
        wanted = [sha256 for each in shown for sha256 in _frames_of(each)]
        fates = self._context.store.frames.fates(asked.site, asked.camera, wanted) if wanted else {}
        return {sha256 for sha256, fate in fates.items() if fate == "kept"}


def _frames_of(each: Differing) -> list[str]:
    """The frames that its events name, in their order, each once."""
    return list(dict.fromkeys(sha256 for event in each.events for sha256 in event.provenance.frame_sha256))


def _strip(asked: Asked, each: Differing, edge: Edge, kept: set[str], logged: set[str], local: LocalTime) -> Strip:
    first = each.events[0]
    at_local = local.dated(each.since_us)
    what = f"{first.label} {VERBS[first.kind]} {place_of(first)}"
    pictures = [sha256 for sha256 in _frames_of(each) if sha256 in kept]
    step = max(1, -(-len(pictures) // _PICTURES))
    known = next((event.id for event in each.events if event.id in logged), None)
    camera = {"site": asked.site, "camera": asked.camera}
    at = local.written(each.since_us)
    return Strip(
        each.side,
        instant(each.since_us),
        at_local,
        what,
        _why(each, edge),
        () if edge.best is None else _ballots(edge.best),
        tuple(dict.fromkeys(event.kind for event in each.events)),
        tuple(TunePicture(sha256, f"{what} at {at_local}") for sha256 in pictures[::step]),
        f"/why?{urlencode({**camera, 'at': at})}" if known is None else f"/events/{known}?{urlencode(camera)}",
    )


def _why(each: Differing, edge: Edge) -> str:
    """What the policy that does not report a happening made of it."""
    policy = "the changed policy" if each.side == "today" else "today's policy"
    if edge.best is None:
        return f"{policy} has no model that saw it"
    if edge.is_present:
        return f"{policy} sees it too, and not for long or not often enough to confirm it"
    if edge.best.suppressed:
        return f"{policy} takes it for the known nuisance `{edge.best.suppressed}`"
    return f"under {policy}: {shortfall(edge.best)}"


def _ballots(weighing: Weighing) -> tuple[TuneBallot, ...]:
    return tuple(TuneBallot(b.model, b.vote, b.score, b.least) for b in weighing.ballots if b.vote != "abstain")
