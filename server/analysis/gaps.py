"""A camera's usual burst period, and the gaps in which due bursts did not come, from the bursts around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from server.domain.records import BurstFacts

LOOK = 30
"""How many bursts on each side of a stretch are read for its period."""

_MISSING_FROM = 1.5
"""Periods between two bursts from which there is a gap; below, a burst is merely late."""

_DUE_AFTER = 1.0
"""Periods more that a burst may take to fill and arrive, before the next burst counts as missing."""

Causes = Callable[[int, int], Sequence[str]]
"""Gives known causes of a gap between two instants (us), from heartbeats for example; empty: none known."""


def no_causes(_since_us: int, _until_us: int) -> Sequence[str]:
    """Knows no cause."""
    return ()


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which bursts were due and did not come. Instants in us.

    `missing` is the number of bursts due by the camera's period in the stretch: 0 before the camera's first burst, and
    in a short part of a longer gap. `before` and
    `after` are the bursts around the gap, None at the end of what is stored. `causes` are known, or follow from the
    bursts around it.
    """

    since_us: int
    until_us: int
    missing: int
    before: BurstFacts | None
    after: BurstFacts | None
    causes: tuple[str, ...]


def period_us(bursts: Sequence[BurstFacts]) -> int | None:
    """The usual time from the first frame of a burst to that of the next; None with fewer than three bursts."""
    starts = [burst.first_at_us for burst in bursts if burst.reason == "schedule"] or [b.first_at_us for b in bursts]
    return None if len(starts) < 3 else round(median(b - a for a, b in pairwise(starts)))


def gaps(
    bursts: Sequence[BurstFacts],
    since_us: int,
    until_us: int,
    period: int | None,
    causes: Causes = no_causes,
    *,
    is_running: bool = False,
) -> Iterator[Gap]:
    """The gaps between `bursts` (those of the stretch and their neighbours, in order) that touch the stretch.

    `is_running`: the stretch ends now, so the next burst may be on its way.
    """
    if period is None:
        return
    around: list[BurstFacts | None] = [None, *bursts, None]
    for before, after in pairwise(around):
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
        if missing > 0 or before is None or from_us >= before.first_at_us + period:
            yield Gap(from_us, to_us, missing, before, after, (*causes(from_us, to_us), *follows(before, after)))


def _missing(before: BurstFacts | None, after: BurstFacts | None, from_us: int, to_us: int, period: int) -> int:
    """The number of bursts due in the stretch, counted from the last burst before it."""
    if before is None:
        return 0
    last_us = to_us - 1 if after is None else min(to_us - 1, after.first_at_us - period // 2)
    first = max(1, -(-(from_us - before.first_at_us) // period))
    return max(0, (last_us - before.first_at_us) // period - first + 1)


def follows(before: BurstFacts | None, after: BurstFacts | None) -> Iterator[str]:
    """Causes that follow from the bursts around a gap."""
    if before is None:
        yield "nothing older of this camera is stored: it may not have been set up yet"
        return
    if after is None:
        yield "nothing has come since: the agent, its link or this server was or is off"
        return
    if before.boot_id is not None and after.boot_id is not None:
        if before.boot_id != after.boot_id:
            yield "the agent's machine restarted in between"
        else:
            yield "the agent's machine did not restart (same boot): the camera, the spool or the agent failed"
    if before.ensemble != after.ensemble:
        yield "the server's ensemble changed in between"
