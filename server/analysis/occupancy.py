"""How a camera's sectors stood over a stretch of the past: occupied, clear, or unobserved, and from when to when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import groupby
from typing import Protocol

from policies.fold import decode_state, initial_state
from policies.occupancy import Span, Standing, timeline
from policies.site.site_policy import SitePolicy
from server.domain.clock import SECOND_US
from server.domain.records import Checkpoint, Recorded
from server.domain.refold import steps

AROUND_US = 120 * SECOND_US
"""So much on either side is folded as well: a presence is known only once it is confirmed, and a gap by its ends."""


class Store(Protocol):
    def policy(self, digest: str) -> SitePolicy: ...
    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint: ...
    def history(
        self, site: str, camera: str, since_us: int | None = ..., until_us: int | None = ...
    ) -> Iterator[Recorded]: ...


def stood(
    store: Store, site: str, camera: str, since_us: int, until_us: int, now_us: int | None = None
) -> tuple[Span, ...]:
    """Each sector's spans within the stretch, as far as it lies before `now_us`, in order; none without frames near it.

    Facts are those of the policies in force; where a policy changed in the stretch, its sectors are the last one's.
    """
    end_us = until_us + AROUND_US
    if now_us is not None:
        until_us, end_us = min(until_us, now_us), min(end_us, now_us)
    around = list(store.history(site, camera, since_us - AROUND_US, end_us))
    if not around:
        return ()
    policy = store.policy(around[-1].policy).camera(camera)
    start = store.checkpoint(site, camera, since_us - AROUND_US)
    after_us = None if start.at_us is None else start.at_us + 1
    before = steps(store.history(site, camera, after_us, since_us - AROUND_US), start, store.policy)
    last = deque(before, maxlen=1)
    first = initial_state() if start.state is None else decode_state(start.state)
    state = last[0].state if last else first
    policies = {digest: store.policy(digest).camera(camera) for digest in {one.policy for one in around}}
    frames = ((policies[one.policy], one.observation) for one in around)
    spans = timeline(policy, state, frames, end_us)
    found = sorted(_within(spans, since_us, until_us), key=lambda s: (s.sector, s.target, s.from_us))
    return tuple(span for _, mine in groupby(found, _place) for span in _from(since_us, list(mine)))


def _place(span: Span) -> tuple[str, str]:
    return span.sector, span.target


def _from(since_us: int, spans: list[Span]) -> list[Span]:
    """A sector's spans, and, before the first frame there is, that it was not observed."""
    first = spans[0]
    if first.from_us == since_us:
        return spans
    return [Span(first.target, first.sector, Standing.UNOBSERVED, since_us, first.from_us), *spans]


def _within(spans: Iterator[Span], since_us: int, until_us: int) -> Iterator[Span]:
    for span in spans:
        from_us, to_us = max(span.from_us, since_us), min(span.until_us, until_us)
        if from_us < to_us:
            yield Span(span.target, span.sector, span.standing, from_us, to_us)
