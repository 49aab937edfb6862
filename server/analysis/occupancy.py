"""The occupancy of a camera's sectors over a stretch of the past: occupied, clear or unobserved, with times."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from policies.fold import decode_state, initial_state
from policies.occupancy import Occupancy, Span, timeline
from policies.site.rules import Rules
from policies.site.site_policy import CameraPolicy
from server.analysis.stored import Store
from server.domain.folding.refold import steps
from server.domain.records import Recorded
from server.domain.times.clock import SECOND_US

AROUND_US = 120 * SECOND_US
"""Time on either side that is folded as well: a presence is known once confirmed, a gap by both its ends."""
_STOOD = 4
"""A track that stood still is remembered so many times as long."""


def around_us(policy: CameraPolicy) -> int:
    """AROUND_US, or more where a policy lets more time pass from what happens to the frame that settles it."""
    return max([AROUND_US, *(round(_settles_s(sector.rules) * SECOND_US) for sector in policy.sectors)])


def _settles_s(rules: Rules) -> float:
    presence, movement = rules.presence, rules.movement
    return presence.blind_s + presence.confirm_s + presence.clear_s + _STOOD * movement.hidden_s + movement.stopped_s


def occupancy(
    store: Store, site: str, camera: str, since_us: int, until_us: int, now_us: int | None = None
) -> tuple[Span, ...]:
    """Each sector's spans within the part of the stretch before `now_us`, in order; none without frames near it.

    Spans follow from the policies in force. Where the policy changed in the stretch, the sectors are those of the last.
    """
    until_us = until_us if now_us is None else min(until_us, now_us)

    def near(reach_us: int) -> tuple[list[Recorded], int]:
        end_us = until_us + reach_us if now_us is None else min(until_us + reach_us, now_us)
        return list(store.history(site, camera, since_us - reach_us, end_us)), end_us

    reach_us = AROUND_US
    around, end_us = near(reach_us)
    if not around:
        return ()
    policy = store.policy(around[-1].policy).camera(camera)
    if (wider_us := around_us(policy)) > reach_us:
        reach_us = wider_us
        around, end_us = near(reach_us)
    start = store.checkpoint(site, camera, since_us - reach_us)
    after_us = None if start.at_us is None else start.at_us + 1
    state = initial_state() if start.state is None else decode_state(start.state)
    for step in steps(store.history(site, camera, after_us, since_us - reach_us), start, store.policy):
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
