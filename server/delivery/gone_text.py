"""What is no longer kept, in words: readers say it instead of "nothing was seen"."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from server.domain.keeping import Gone

NOT_KEPT = "no longer kept"


def gone_lines(gone: Gone, time_of: Callable[[int], str], *, events_only: bool = False) -> Iterator[str]:
    """What of a camera is no longer kept, a line for each erasure and border; `time_of` writes an instant.

    `events_only`: what concerns the event log alone.
    """
    place = f"{gone.site}/{gone.camera}"
    for erasure in gone.erasures:
        stretch = f"{time_of(erasure.since_us)} to {time_of(erasure.until_us)}"
        stayed = "; annotated events stay" if erasure.keeps_annotated else ""
        yield f"{place}, {stretch}: {NOT_KEPT}, erased on request (erasure {erasure.number}{stayed})"
    if gone.events_from_us is not None:
        yield f"{place}, events before {time_of(gone.events_from_us)}: {NOT_KEPT} (keep_events_days, max_bytes)"
    if events_only:
        return
    if (until_us := gone.bursts_from_us) is not None:
        stayed = "; those that prove annotated events may stay"
        yield f"{place}, bursts before {time_of(until_us)}: {NOT_KEPT} (keep_observations_days, max_bytes{stayed})"


def gone_at(gone: Gone, at_us: int) -> str | None:
    """Why the bursts of an instant are no longer kept; None where they are, as far as there were any."""
    for erasure in gone.erasures:
        if erasure.since_us <= at_us < erasure.until_us and gone.burst_at(at_us):
            return f"erased on request (erasure {erasure.number})"
    return "older than the site keeps (keep_observations_days, max_bytes)" if gone.burst_at(at_us) else None
