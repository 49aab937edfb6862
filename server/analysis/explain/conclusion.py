"""One sentence that concludes an explained minute: which events there are, or why there is none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import UNSET

from policies.events import Event, microseconds
from policies.occupancy import Occupancy
from policies.site.site_policy import CameraPolicy
from server.analysis.annotations import place_of
from server.analysis.explain.explanation import Explanation, FrameRecord
from server.analysis.explain.votes import Ballot, Weighing, nearness
from server.delivery.event_text import VERBS, duration
from server.delivery.gone_text import NOT_KEPT, gone_at
from server.domain.times.local_time import LocalTime

_NAMED = 3


@dataclass(slots=True)
class _Place:
    """What the frames of a minute show of one target in one sector; numbers are of frames."""

    target: str
    sector: str
    present_us: list[int] = field(default_factory=list)
    suppressed: Counter[str] = field(default_factory=Counter)
    undecided: int = 0
    shortage: str | None = None
    outvoted: int = 0
    best: Weighing | None = None

    def rank(self) -> tuple[int, int, int, int, float]:
        """How near it came to an event; the nearest place is the one to talk about."""
        score = max((ballot.score or 0.0 for ballot in self.best.ballots), default=0.0) if self.best else 0.0
        return len(self.present_us), self.suppressed.total(), self.undecided, self.outvoted, score


def conclude(
    explanation: Explanation,
    policy: CameraPolicy | None,
    events: Sequence[Event],
    begun: Event | None,
    local: LocalTime,
    short: Mapping[str, str],
) -> str:
    """The sentence. `policy` is in force in the minute (None: without a burst), `events` happened in it, `begun` began
    a presence that goes on through it. `short` holds the short ids of events.
    """
    minute = local.minute(explanation.since_us)
    if explanation.known_until_us <= explanation.since_us:
        return f"{minute} is still to come."
    if explanation.is_gone and not events:
        return f"{minute} is {NOT_KEPT}: {gone_at(explanation.gone, explanation.since_us)}."
    if events:
        first = [event for event in events if not event.kind.startswith("presence")] or events
        named = "; ".join(f"{_brief(event, local)} ({short[event.id]})" for event in first[:_NAMED])
        more = f"; and {len(events) - len(first[:_NAMED])} more" if len(events) > len(first[:_NAMED]) else ""
        count = f"{len(events)} event{'' if len(events) == 1 else 's'}"
        return f"{count} at {minute}: {named}{more}{_gone(explanation, local)}."
    if begun is not None:
        since = local.dated(microseconds(begun.started_at))
        present = f"{_a(begun.label)} is in {begun.sector} since {since} ({short[begun.id]})"
        return f"No new event at {minute}: {present}, and goes on being there{_partly(explanation, local)}."
    reason = _unwatched(explanation) or _why_none(explanation, policy)
    return f"No event at {minute}: {reason}{_partly(explanation, local)}."


def goes_on(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """The targets and sectors that are occupied at the begin of the minute."""
    for span in explanation.occupancy:
        if span.occupancy is Occupancy.OCCUPIED and span.from_us <= explanation.since_us:
            yield span.target, span.sector


def _unwatched(explanation: Explanation) -> str | None:
    """Why nothing was watched; None where frames came that could be judged."""
    if not explanation.bursts:
        if explanation.gaps:
            gap = explanation.gaps[0]
            missing = f", {_bursts(gap.missing)} missing" if gap.missing else ""
            return f"the camera was not watched{missing}: {gap.causes[0] if gap.causes else 'the cause is unknown'}"
        if explanation.gone_stretches:
            return "nothing else is stored"
        if explanation.period_s is None:
            return "no burst came, and whether one was due is unknown"
        return "no burst was due then"
    held = [burst.facts for burst in explanation.bursts if burst.facts.status != "folded"]
    if len(held) == len(explanation.bursts):
        if held[0].status == "set_aside":
            return "its bursts are set aside (older than `late_within`, or by a person) and change no event"
        return f"its bursts are held back ({held[0].cause}) and not in the log yet"
    if not any(not frame.repeats for burst in explanation.bursts for frame in burst.frames):
        return "all frames repeat earlier ones, as a stuck camera sends them, and are ignored"
    return next((f"{span.cause}, so its sectors are unobserved" for span in explanation.occupancy if span.cause), None)


def _why_none(explanation: Explanation, policy: CameraPolicy | None) -> str:
    frames = [frame for burst in explanation.bursts for frame in burst.frames if not frame.repeats]
    places = _places(explanation, frames)
    best = max(places, key=_Place.rank, default=None)
    if best is None:
        return "the policy asks for no target then"
    if best.present_us and policy is not None:
        return _too_short(best, len(frames), policy)
    outside = [w.target for frame in frames for w in frame.weighings if w.verdict == "present" and not w.sectors]
    if best.suppressed:
        [(name, count)] = best.suppressed.most_common(1)
        return (
            f"{_a(best.target)} in {best.sector} was taken for the known nuisance `{name}` in {_of(count, frames)} "
            "(`suppress`)"
        )
    if outside:
        return f"{_a(outside[0])} was seen outside all sectors, in {_of(len(outside), frames)}"
    if best.undecided:
        silent = Counter(model for frame in frames for model in frame.silent)
        why = f"; {', '.join(silent)} did not answer" if silent else ""
        what = f"whether {_a(best.target)} was in {best.sector}"
        return f"{what} could not be decided in {_of(best.undecided, frames)} ({best.shortage}){why}"
    return _seen_weakly(explanation, best, frames)


def _seen_weakly(explanation: Explanation, best: _Place, frames: Sequence[FrameRecord]) -> str:
    """Why a target was absent: outvoted, below the minimum scores, or not seen at all."""
    where = f"{_a(best.target)} in {best.sector}"
    rule = next(
        f"{record.rule}{f', schedule {record.schedule}' if record.schedule else ''}"
        for burst in explanation.bursts
        for record in burst.sectors
        if (record.target, record.sector) == (best.target, best.sector)
    )
    ballot = _strongest(best.best)
    if best.best is not None and best.best.right is not UNSET and ballot is not None:
        share, needed = best.best.right
        return f"of such sightings of {where}, {share:g} are right; {needed:g} needed (`sensitivity`: {rule})"
    if best.best is not None and best.outvoted:
        ballots = [ballot for ballot in best.best.ballots if ballot.vote in ("for", "against")]
        seen = sum(ballot.vote == "for" for ballot in ballots)
        need = "" if best.best.needed is None else f", which gives {best.best.seen:g}; {best.best.needed:g} needed"
        models = f"{seen} of {len(ballots)} models saw {where} in {_of(best.outvoted, frames)}"
        return f"{models}{need} (`sensitivity`: {rule})"
    if ballot is not None:
        return (
            f"the best score for {where} was {ballot.score:.2f}, of {ballot.model}; {ballot.least:g} is needed "
            "(`min_score`)"
        )
    targets = sorted({record.target for burst in explanation.bursts for record in burst.sectors})
    masked = any(burst.facts.mask_digest for burst in explanation.bursts)
    mask = "; the agent's mask hides part of the picture" if masked else ""
    return f"no model saw {' or '.join(map(_a, targets))} in any of {len(frames)} frames{mask}"


def _strongest(weighing: Weighing | None) -> Ballot | None:
    scored = [ballot for ballot in (weighing.ballots if weighing else ()) if ballot.score]
    return max(scored, key=lambda ballot: (ballot.score or 0.0) / (ballot.least or 1.0), default=None)


def _too_short(place: _Place, frames: int, policy: CameraPolicy) -> str:
    """Why sights that are present made no event."""
    inside = policy.by_name.get(place.sector)
    rules = policy.rules if inside is None else inside.rules
    count = len(place.present_us)
    seen = f"{_a(place.target)} was seen in {place.sector} in {count} of {frames} frames"
    if count < policy.rules.movement.min_hits:
        return f"{seen}; {policy.rules.movement.min_hits} are needed (`min_hits`)"
    lasted_s = (place.present_us[-1] - place.present_us[0]) / 1e6
    needed_s, name = min((rules.presence.confirm_s, "presence.confirm_s"), (rules.movement.dwell_s, "movement.dwell_s"))
    if lasted_s < needed_s:
        return f"{seen}, for {_seconds(lasted_s)}; {_seconds(needed_s)} are needed (`{name}`)"
    return f"{seen}, but never long enough in one piece: {_seconds(needed_s)} are needed (`{name}`)"


def _places(explanation: Explanation, frames: Sequence[FrameRecord]) -> list[_Place]:
    places: dict[tuple[str, str], _Place] = {}
    for burst in explanation.bursts:
        for record in burst.sectors:
            place = places.setdefault((record.target, record.sector), _Place(record.target, record.sector))
            place.undecided += record.undecided
            place.shortage = place.shortage or record.shortage
    for frame in frames:
        for weighing in sorted(frame.weighings, key=nearness):
            for sector in weighing.sectors:
                if (weighing.target, sector) in places:
                    _add(places[weighing.target, sector], frame, weighing)
    return list(places.values())


def _add(place: _Place, frame: FrameRecord, weighing: Weighing) -> None:
    if weighing.suppressed:
        place.suppressed[weighing.suppressed] += 1
    elif weighing.verdict == "present":
        if frame.at_us not in place.present_us[-1:]:
            place.present_us.append(frame.at_us)
    else:
        place.outvoted += any(ballot.vote == "for" for ballot in weighing.ballots)
        if place.best is None or nearness(weighing) >= nearness(place.best):
            place.best = weighing


def _partly(explanation: Explanation, local: LocalTime) -> str:
    """What of a minute was not watched or is no longer kept."""
    gone = _gone(explanation, local)
    gaps = [gap for gap in explanation.gaps if gap.missing] if explanation.bursts else []
    if not gaps:
        return gone
    stretches = ", ".join(f"{local.clock(gap.since_us)}-{local.clock(gap.until_us)}" for gap in gaps)
    return f"; not watched {stretches}, {_bursts(sum(gap.missing for gap in gaps))} missing{gone}"


def _gone(explanation: Explanation, local: LocalTime) -> str:
    """What of a minute is no longer kept."""
    stretches = ", ".join(f"{local.clock(a)}-{local.clock(b)}" for a, b in explanation.gone_stretches)
    return f"; its bursts of {stretches} are {NOT_KEPT}" if stretches else ""


def of_minute(events: Sequence[Event], since_us: int, until_us: int) -> list[Event]:
    """The events that happened in a stretch, each once, in order of time."""
    inside = {event.id: event for event in events if since_us <= microseconds(event.at) < until_us}
    return sorted(inside.values(), key=lambda event: (event.at, event.id))


def _brief(event: Event, local: LocalTime) -> str:
    return f"{event.label} {VERBS[event.kind]} {place_of(event)} at {local.clock(microseconds(event.at))}"


def _of(count: int, frames: Sequence[FrameRecord]) -> str:
    return f"{min(count, len(frames))} of {len(frames)} frames"


def _a(word: str) -> str:
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"


def _bursts(count: int) -> str:
    return f"{count} burst{'' if count == 1 else 's'}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else duration(seconds)
