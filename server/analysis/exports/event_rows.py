"""Events as rows."""

from __future__ import annotations

from policies.events import instant
from server.analysis.exports.tables import Row
from server.domain.records import LoggedEvent


def event_row(logged: LoggedEvent) -> Row:
    """The row of `EVENTS`. As JSON it is what `LoggedEvent.as_wire` gives."""
    event, late = logged.event, logged.superseded_by
    made_by = event.provenance
    return (
        event.id,
        event.kind,
        event.site,
        event.camera,
        event.label,
        event.sector,
        event.from_sector,
        event.to_sector,
        event.line,
        event.direction,
        event.started_at,
        event.ended_at,
        event.confirmed_at,
        event.time_uncertainty_s,
        event.track,
        event.score,
        event.votes,
        event.margin,
        made_by.burst_ids,
        made_by.frame_sha256,
        made_by.ensemble,
        made_by.policy,
        made_by.mask_digest,
        logged.late,
        logged.is_withdrawn,
        logged.supersedes,
        None if late is None else late.burst_id,
        None if late is None else instant(late.at_us),
    )
