"""Turning what happened into events: names, times, direction, evidence and provenance."""

from __future__ import annotations

from msgspec.structs import replace

from policies.events import Event, Kind, Provenance, event_id, instant, microseconds
from policies.observation import Observation
from policies.presence import Change
from policies.site.site_policy import CameraPolicy
from policies.tracking.track import Crossed, Track, heading
from policies.tracking.visit import Closed, Evidence, Visit, frame_side


def signed(event: Event, policy: str) -> Event:
    """The same fact as the policy of that digest tells it."""
    ended_us = None if event.ended_at is None else microseconds(event.ended_at)
    place = (event.sector, event.from_sector, event.to_sector, event.line, event.direction)
    when = (microseconds(event.started_at), ended_us)
    name = event_id(event.site, event.camera, event.kind, event.label, *place, *when, event.track, policy)
    return replace(event, id=name, provenance=replace(event.provenance, policy=policy))


class Teller:
    """Writes the events that one frame settled."""

    def __init__(self, policy: CameraPolicy, seen: Observation) -> None:
        self._policy = policy
        self._seen = seen

    def entered(self, track: Track, visit: Visit) -> Event:
        return self._event(
            "entered",
            track.target,
            visit.entry_us,
            visit.entry_slack_us,
            visit.evidence,
            track=track,
            sector=visit.sector,
            direction=visit.came_by,
        )

    def left(self, track: Track, closed: Closed) -> Event:
        return self._event(
            "left",
            track.target,
            closed.end_us,
            closed.slack_us,
            track.best,
            track=track,
            sector=closed.visit.sector,
            direction=frame_side(closed.visit.last_box),
        )

    def moved(self, track: Track, before: Closed, visit: Visit) -> Event:
        aspect = self._seen.size[0] / self._seen.size[1]
        return self._event(
            "moved",
            track.target,
            visit.entry_us,
            max(visit.entry_slack_us, before.slack_us),
            visit.evidence,
            track=track,
            from_sector=before.visit.sector,
            to_sector=visit.sector,
            direction=heading(track, visit.entry_us, aspect),
        )

    def crossed(self, track: Track, crossed: Crossed) -> Event:
        return self._event(
            "crossed",
            track.target,
            crossed.at_us,
            crossed.slack_us,
            crossed.evidence,
            track=track,
            line=crossed.line,
            direction=crossed.direction,
        )

    def lingered(self, track: Track, visit: Visit) -> Event:
        return self._event(
            "lingered",
            track.target,
            visit.entry_us,
            visit.entry_slack_us,
            track.best,
            track=track,
            sector=visit.sector,
        )

    def presence(self, change: Change) -> Event:
        presence = change.presence
        if not change.ended:
            return self._event(
                "presence_started",
                presence.target,
                change.at_us,
                change.slack_us,
                presence.evidence,
                sector=presence.sector,
            )
        return self._event(
            "presence_ended",
            presence.target,
            presence.since_us,
            change.slack_us,
            presence.evidence,
            sector=presence.sector,
            ended_us=change.at_us,
        )

    def _event(
        self,
        kind: Kind,
        target: str,
        started_us: int,
        slack_us: int,
        evidence: Evidence,
        *,
        track: Track | None = None,
        sector: str | None = None,
        from_sector: str | None = None,
        to_sector: str | None = None,
        line: str | None = None,
        direction: str | None = None,
        ended_us: int | None = None,
    ) -> Event:
        seen, policy = self._seen, self._policy
        place = (sector, from_sector, to_sector, line, direction)
        name = track.id if track else None
        return Event(
            id=event_id(policy.site, policy.camera, kind, target, *place, started_us, ended_us, name, policy.digest),
            kind=kind,
            site=policy.site,
            camera=policy.camera,
            label=target,
            sector=sector,
            from_sector=from_sector,
            to_sector=to_sector,
            line=line,
            direction=direction,
            started_at=instant(started_us),
            ended_at=None if ended_us is None else instant(ended_us),
            confirmed_at=instant(seen.at_us),
            time_uncertainty_s=round(slack_us / 1e6 + seen.uncertainty_s, 6),
            track=name,
            score=evidence.score,
            votes=evidence.votes,
            margin=evidence.margin,
            provenance=Provenance(
                burst_ids=tuple(dict.fromkeys((evidence.burst_id, seen.burst_id))),
                frame_sha256=tuple(dict.fromkeys((evidence.frame_sha256, seen.frame_sha256))),
                ensemble=seen.ensemble_info.ensemble,
                policy=policy.digest,
                mask_digest=seen.mask_digest,
            ),
        )
