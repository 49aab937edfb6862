"""The occupancy of a camera's sectors over a stretch of the past: occupied, clear or unobserved, with times."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from policies.fold import decode_state, initial_state
from policies.occupancy import Occupancy, Span, timeline
from server.analysis.stored import Store
from server.domain.clock import SECOND_US
from server.domain.refold import steps

AROUND_US = 120 * SECOND_US
"""Time on either side that is folded as well: a presence is known once confirmed, a gap by both its ends."""


def occupancy(
    store: Store, site: str, camera: str, since_us: int, until_us: int, now_us: int | None = None
) -> tuple[Span, ...]:
    """Each sector's spans within the part of the stretch before `now_us`, in order; none without frames near it.

    Spans follow from the policies in force. Where the policy changed in the stretch, the sectors are those of the last.
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
    state = initial_state() if start.state is None else decode_state(start.state)
    for step in steps(store.history(site, camera, after_us, since_us - AROUND_US), start, store.policy):
        state = step.state
    policies = {digest: store.policy(digest).camera(camera) for digest in {recorded.policy for recorded in around}}
    frames = ((policies[recorded.policy], recorded.observation) for recorded in around)
    spans = timeline(policy, state, frames, end_us)
    inside = sorted(_within(spans, since_us, until_us), key=lambda s: (s.sector, s.target, s.from_us))
    return tuple(
        span
        for _, mine in groupby(inside, lambda span: (span.sector, span.target))
        for span in _padded(since_us, list(mine))
    )


def _padded(since_us: int, spans: list[Span]) -> list[Span]:
    """A sector's spans, preceded by an unobserved one where the first frame lies after `since_us`."""
    first = spans[0]
    before = Span(first.target, first.sector, Occupancy.UNOBSERVED, since_us, first.from_us)
    return spans if first.from_us == since_us else [before, *spans]


def _within(spans: Iterator[Span], since_us: int, until_us: int) -> Iterator[Span]:
    for span in spans:
        from_us, to_us = max(span.from_us, since_us), min(span.until_us, until_us)
        if from_us < to_us:
            yield Span(span.target, span.sector, span.occupancy, from_us, to_us, span.cause)
