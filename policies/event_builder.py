"""Stage: from facts to events, with id, times, evidence and provenance."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from policies.events import ORDER, Event, Fact, Provenance, event_id, instant, microseconds
from policies.observation import Observation
from policies.site.site_policy import CameraPolicy


def build_events(policy: CameraPolicy, seen: Observation, facts: Sequence[Fact]) -> tuple[Event, ...]:
    """The events of the facts that one frame settled, in their fixed order."""
    return in_order([_event(policy, seen, fact) for fact in facts])


def in_order(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events of one frame by instant, kind (`ORDER`), sector and id."""
    if len(events) < 2:
        return tuple(events)
    return tuple(sorted(events, key=lambda e: (e.at, ORDER.index(e.kind), e.sector or "", e.id)))


def with_policy(event: Event, policy: str) -> Event:
    """The same fact as the policy of that digest gives it."""
    ended_us = None if event.ended_at is None else microseconds(event.ended_at)
    place = (event.sector, event.from_sector, event.to_sector, event.line, event.direction)
    when = (microseconds(event.started_at), ended_us)
    name = event_id(event.site, event.camera, event.kind, event.label, *place, *when, event.track, policy)
    return replace(event, id=name, provenance=replace(event.provenance, policy=policy))


def _event(policy: CameraPolicy, seen: Observation, fact: Fact) -> Event:
    place = (fact.sector, fact.from_sector, fact.to_sector, fact.line, fact.direction)
    when = (fact.started_us, fact.ended_us)
    evidence = fact.evidence
    return Event(
        id=event_id(policy.site, policy.camera, fact.kind, fact.target, *place, *when, fact.track, policy.digest),
        kind=fact.kind,
        site=policy.site,
        camera=policy.camera,
        label=fact.target,
        sector=fact.sector,
        from_sector=fact.from_sector,
        to_sector=fact.to_sector,
        line=fact.line,
        direction=fact.direction,
        started_at=instant(fact.started_us),
        ended_at=None if fact.ended_us is None else instant(fact.ended_us),
        confirmed_at=instant(seen.at_us),
        time_uncertainty_s=round(fact.slack_us / 1e6 + seen.uncertainty_s, 6),
        track=fact.track,
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
