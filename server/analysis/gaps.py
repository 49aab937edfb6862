"""How often a camera's bursts come, and which of them did not: read from the bursts around a silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from server.domain.records import BurstFacts

LOOK = 30
"""How many bursts on each side of a stretch tell its rhythm."""

_MISSING_FROM = 1.5
"""So many periods between two bursts are a hole: below, a burst was merely late."""

_DUE_AFTER = 1.0
"""So many periods more a burst may take to be full and to come, before it is missing now."""

Causes = Callable[[int, int], Sequence[str]]
"""What is known of why nothing came between two instants (us): a heartbeat's word, say. Empty: nothing known."""


def no_causes(_since_us: int, _until_us: int) -> Sequence[str]:
    """For a server that nobody tells why."""
    return ()


@dataclass(frozen=True, slots=True)
class Silence:
    """A stretch in which bursts were expected and did not come. Instants in us.

    `missing` is how many by the camera's rhythm; 0 before its first one, when nothing was expected yet. `before` and
    `after` are the bursts around it, None at the end of what is stored. `causes` is what is known or follows from the
    bursts around.
    """

    since_us: int
    until_us: int
    missing: int
    before: BurstFacts | None
    after: BurstFacts | None
    causes: tuple[str, ...]


def period_us(bursts: Sequence[BurstFacts]) -> int | None:
    """The usual time from one burst's first frame to the next one's; None with fewer than three bursts."""
    starts = [burst.first_at_us for burst in bursts if burst.reason == "schedule"] or [b.first_at_us for b in bursts]
    if len(starts) < 3:
        return None
    return round(median(b - a for a, b in pairwise(starts)))


def silences(
    bursts: Sequence[BurstFacts],
    since_us: int,
    until_us: int,
    period: int | None,
    causes: Causes = no_causes,
    *,
    is_running: bool = False,
) -> Iterator[Silence]:
    """The holes between `bursts` (those in the stretch and their neighbours, in order) that touch the stretch.

    `is_running`: the stretch ends now, so that the next burst may be on its way.
    """
    if period is None:
        return
    ends: list[BurstFacts | None] = [None, *bursts, None]
    for before, after in pairwise(ends):
        start_us = since_us if before is None else before.first_at_us
        end_us = until_us if after is None else after.first_at_us
        if before is None and (after is None or after.first_at_us - since_us < _MISSING_FROM * period):
            continue
        least = _MISSING_FROM + (_DUE_AFTER if is_running and after is None else 0.0)
        if end_us - start_us < least * period or end_us <= since_us or start_us >= until_us:
            continue
        from_us = max(since_us, start_us if before is None else before.last_at_us)
        to_us = min(until_us, end_us)
        missing = _missing(before, after, from_us, to_us, period)
        if missing > 0 or before is None:
            known = (*causes(from_us, to_us), *_follows(before, after))
            yield Silence(from_us, to_us, missing, before, after, known)


def _missing(before: BurstFacts | None, after: BurstFacts | None, from_us: int, to_us: int, period: int) -> int:
    """Bursts expected to begin in the stretch, counted on from the last one, that are not there."""
    if before is None:
        return 0
    last_us = to_us - 1 if after is None else min(to_us - 1, after.first_at_us - period // 2)
    first = max(1, -(-(from_us - before.first_at_us) // period))
    return max(0, (last_us - before.first_at_us) // period - first + 1)


def _follows(before: BurstFacts | None, after: BurstFacts | None) -> Iterator[str]:
    """What the bursts around a silence say about it."""
    if before is None:
        yield "nothing of this camera is stored from before: it may not have been set up yet"
        return
    if after is None:
        yield "nothing came since: the agent, its link or this server was off, or still is"
        return
    if before.boot_id is not None and after.boot_id is not None:
        if before.boot_id != after.boot_id:
            yield "the agent's machine was started anew in between"
        else:
            yield "the agent's machine ran on (same boot): its camera, its spool or its agent was at fault"
    if before.ensemble != after.ensemble:
        yield "the server's ensemble was changed in between"
