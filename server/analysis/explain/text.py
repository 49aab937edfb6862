"""An explanation as lines for a person, or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec
from msgspec import UNSET

from policies.events import Event
from server.analysis.explain.explanation import BurstRecord, Explanation, FrameRecord, SectorRecord
from server.analysis.explain.votes import Ballot, Weighing, nearness
from server.analysis.gaps import Gap
from server.delivery.event_text import EventText, withdrawal
from server.delivery.gone_text import gone_lines
from server.domain.records import BurstFacts, LoggedEvent
from server.domain.times.local_time import MACHINE_TIME, LocalTime


def as_lines(
    explanation: Explanation,
    *,
    every: bool = False,
    local: LocalTime = MACHINE_TIME,
    event_line: Callable[[Event], str] | None = None,
) -> Iterator[str]:
    """The explanation for a person: gaps, occupancy, then each burst with its votes, verdicts and events.

    Times are in `local` time; `event_line` writes an event. For a sector and frame without a present candidate, only
    the nearest candidate is shown; with `every`, all.
    """
    line = event_line or EventText(local).event
    since, until = local.dated(explanation.since_us), local.dated(explanation.until_us)
    yield f"{explanation.site}/{explanation.camera} from {since} to {until}"
    unknown = "their usual period is unknown: fewer than three are stored"
    period = unknown if explanation.period_s is None else f"a burst about every {explanation.period_s:g} s"
    count = len(explanation.bursts)
    yield f"{count or 'no'} burst{'' if count == 1 else 's'} came; {period}"
    if explanation.known_until_us <= explanation.since_us:
        yield "this time is still to come"
    elif explanation.known_until_us < explanation.until_us:
        yield f"this time is not over: as of {local.dated(explanation.known_until_us)}"
    yield from gone_lines(explanation.gone, local.dated)
    for gap in explanation.gaps:
        yield from gap_lines(gap, local)
    for (sector, target), spans in groupby(explanation.occupancy, key=lambda span: (span.sector, span.target)):
        yield f"{sector}: {', '.join(f'{s.occupancy.value} to {local.precise(s.until_us)}' for s in spans)} ({target})"
    is_over = explanation.known_until_us > explanation.since_us
    if not explanation.bursts and not explanation.gaps and not explanation.gone_stretches and is_over:
        yield "no burst was due then" if explanation.period_s is not None else "whether a burst was due is unknown"
    for burst in explanation.bursts:
        yield ""
        yield from _burst(burst, every, local, line)


def as_wire(explanation: Explanation) -> dict[str, Any]:
    """The whole explanation for `--json`: instants in `_us`, every frame, every vote."""
    wire: dict[str, Any] = msgspec.to_builtins(explanation)
    wire["gone"] = [{"since_us": since_us, "until_us": until_us} for since_us, until_us in explanation.gone_stretches]
    wire |= {"silences": wire.pop("gaps"), "stood": wire.pop("occupancy")}  # the published names
    for burst, record in zip(wire["bursts"], explanation.bursts, strict=True):
        burst["events"] = [logged.as_wire() for logged in record.events]
    return wire


def shortfall(weighing: Weighing) -> str:
    """What the rule needed and what it had: `2 needed, 1 seen`, or how many of such sightings are right."""
    if weighing.seen is None or weighing.needed is None:
        return "no model voted"
    if weighing.right is not UNSET:
        share, needed = weighing.right
        return f"{needed:g} needed, {share:g} of such sightings are right"
    return f"{weighing.needed:g} needed, {weighing.seen:g} seen"


def gap_lines(gap: Gap, local: LocalTime) -> Iterator[str]:
    """A gap, the bursts around it, and its causes."""
    missing = "1 burst is missing" if gap.missing == 1 else f"{gap.missing} bursts are missing"
    missing = missing if gap.missing else "what was due before did not come"
    what = "no burst was due yet" if gap.before is None else missing
    yield f"UNOBSERVED {local.dated(gap.since_us)} to {local.dated(gap.until_us)}: {what}"
    if gap.before is not None:
        yield f"  last before: {gap.before.burst_id}, until {local.dated(gap.before.last_at_us)}"
    if gap.after is not None:
        yield f"  next after: {gap.after.burst_id}, from {local.dated(gap.after.first_at_us)}"
    yield from (f"  {cause}" for cause in gap.causes or ("the cause is unknown",))


def _burst(burst: BurstRecord, every: bool, local: LocalTime, line: Callable[[Event], str]) -> Iterator[str]:
    facts = burst.facts
    late = ", late" if facts.late else ""
    held = held_text(facts)
    yield (
        f"burst {facts.burst_id} {local.dated(facts.first_at_us)} to {local.clock(facts.last_at_us)}, "
        f"{facts.frames} frames "
        f"({facts.reason}), arrived {_duration(facts.received_at_us - facts.last_at_us)} after its last{late}{held}"
    )
    mask = f", mask {facts.mask_digest[:12]}" if facts.mask_digest else ", no mask"
    yield f"  policy {facts.policy[:12]}, ensemble {facts.ensemble[:12]}{mask}"
    if burst.enlarged:
        sizes = ", ".join(f"`{name}` {times:.1f} times as large" for name, times in burst.enlarged.items())
        yield f"  detectors also saw {sizes}"
    fresh = sum(not frame.repeats for frame in burst.frames)
    if fresh < len(burst.frames):
        repeats = f"{len(burst.frames) - fresh} of {len(burst.frames)} frames"
        yield f"  {repeats} repeat the bytes of a recent frame, as a stuck camera sends them, and are ignored"
    yield from (f"  {sector_text(sector, fresh)}" for sector in burst.sectors if fresh)
    for frame in burst.frames:
        yield from _frame(frame, frame.weighings if every else worth_showing(frame), local)
    yield from (f"  event: {text}" for text in [*(_event(logged, line, local) for logged in burst.events)] or ["none"])


def held_text(facts: BurstFacts) -> str:
    """Why the fold does not include a burst; empty where it does."""
    if facts.status == "set_aside":
        return ", set aside (older than `late_within`, or by a person): it changes no event"
    return f", held back ({facts.cause}): not in the log yet" if facts.status == "held" else ""


def sector_text(record: SectorRecord, frames: int) -> str:
    """The verdicts of a burst on a target in a sector, of so many frames that do not repeat."""
    head = f"{record.sector}: {record.target}"
    undecided = f", undecided in {record.undecided}" if record.undecided else ""
    rule = f"(rule {record.rule}{f', schedule {record.schedule}' if record.schedule else ''})"
    if record.present:
        return f"{head} present in {record.present} of {frames} frames{undecided} {rule}"
    if record.best is not None:
        return f"{head} absent{undecided} {rule}: nearest in frame {record.best_frame}, {shortfall(record.best)}"
    if record.undecided:
        return f"{head}{undecided} of {frames} frames {rule}: {record.shortage}"
    return f"{head} absent in all frames {rule}: no model saw any"


def worth_showing(frame: FrameRecord) -> list[Weighing]:
    """The candidates that are present or suppressed, and the nearest candidate of each other sector."""
    shown = [w for w in frame.weighings if w.verdict == "present" or w.suppressed]
    settled = {(w.target, sector) for w in shown for sector in w.sectors}
    for weighing in sorted((w for w in frame.weighings if w not in shown), key=nearness, reverse=True):
        places = {(weighing.target, sector) for sector in weighing.sectors}
        if places - settled:
            shown.append(weighing)
            settled |= places
    return shown


def _frame(frame: FrameRecord, shown: Sequence[Weighing], local: LocalTime) -> Iterator[str]:
    head = f"    {frame.index:>2} {local.precise(frame.at_us)}"
    if frame.repeats:
        yield f"{head} repeats a recent frame: ignored"
        return
    yield from (f"{head} {model} did not answer" for model in frame.silent)
    yield from (f"{head} {weighing_text(weighing)}" for weighing in shown)


def weighing_text(weighing: Weighing) -> str:
    """A candidate with every vote: `person road: absent, 2 needed, 1 seen: eye for 0.90; ...`."""
    where = ",".join(weighing.sectors) or "in no sector"
    votes = "; ".join(map(_ballot, weighing.ballots))
    known = f" (suppressed: {weighing.suppressed})" if weighing.suppressed else ""
    return f"{weighing.target} {where}: {weighing.verdict}{known}, {shortfall(weighing)}: {votes}"


def _event(logged: LoggedEvent, line: Callable[[Event], str], local: LocalTime) -> str:
    return f"{line(logged.event)}{f', {withdrawal(logged, local)}' if logged.is_withdrawn else ''}"


def _ballot(ballot: Ballot) -> str:
    if ballot.vote == "abstain":
        return f"{ballot.model} abstains"
    if ballot.vote == "missing":
        return f"{ballot.model} did not answer"
    if ballot.part is not UNSET:
        score = "" if ballot.score is None else f" {ballot.score:.2f}"
        return f"{ballot.model} {ballot.vote}{score} ({ballot.part:+.2f})"
    if ballot.score is None:
        return f"{ballot.model} {ballot.vote}"
    asked = "" if ballot.vote == "for" else f" (needs {ballot.least:g})"
    return f"{ballot.model} {ballot.vote} {ballot.score:.2f}{asked}"


def _duration(us: int) -> str:
    """A duration in the unit that fits it."""
    for unit, unit_us in (("days", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000)):
        if us >= 2 * unit_us:
            return f"{us / unit_us:.1f} {unit}"
    return f"{us / 1e6:.1f} s"
