"""An explanation in plain lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from policies.events import instant
from server.analysis.explain import Ballot, BurstRecord, Explanation, FrameRecord, SectorRecord, Weighing, nearness
from server.analysis.gaps import Silence
from server.delivery.channels import text_line


def as_lines(told: Explanation, *, every: bool = False) -> Iterator[str]:
    """The explanation for a person: what came, what was decided and why, what did not come.

    Of the candidates that were not present only the nearest of a sector and frame that had none is shown, unless
    `every` one is wanted.
    """
    yield f"{told.site}/{told.camera} from {_time(told.since_us)} to {_time(told.until_us)}"
    rhythm = "how often its bursts come cannot be told: fewer than three are stored"
    if told.period_s is not None:
        rhythm = f"a burst about every {told.period_s:g} s"
    count = len(told.bursts)
    yield f"{count or 'no'} burst{'' if count == 1 else 's'} came; {rhythm}"
    if told.known_until_us <= told.since_us:
        yield "it has not come yet"
    elif told.known_until_us < told.until_us:
        yield f"it is not over yet: all of this is as of {_time(told.known_until_us)}"
    for silence in told.silences:
        yield from _silence(silence)
    for (sector, target), spans in groupby(told.stood, key=lambda span: (span.sector, span.target)):
        yield f"{sector}: {', '.join(f'{s.standing.value} to {_clock(s.until_us)}' for s in spans)} ({target})"
    if not told.bursts and not told.silences and told.known_until_us > told.since_us:
        yield "nothing was expected then" if told.period_s is not None else "whether anything was expected is unknown"
    for burst in told.bursts:
        yield ""
        yield from _burst(burst, every)


def as_wire(told: Explanation) -> dict[str, Any]:
    """The whole explanation for `--json`: instants in `_us`, every frame, every vote."""
    wire: dict[str, Any] = msgspec.to_builtins(told)
    for burst, record in zip(wire["bursts"], told.bursts, strict=True):
        burst["events"] = [logged.as_wire() for logged in record.events]
    return wire


def shortfall(weighing: Weighing) -> str:
    """What the rule needed and what there was: `2 needed, 1 seen`."""
    if weighing.seen is None or weighing.needed is None:
        return "nobody voted"
    return f"{weighing.needed:g} needed, {weighing.seen:g} seen"


def _silence(silence: Silence) -> Iterator[str]:
    some = "1 burst is missing" if silence.missing == 1 else f"{silence.missing} bursts are missing"
    what = "nothing was expected yet" if silence.before is None else some
    yield f"UNOBSERVED {_time(silence.since_us)} to {_time(silence.until_us)}: {what}"
    if silence.before is not None:
        yield f"  last before: {silence.before.burst_id}, until {_time(silence.before.last_at_us)}"
    if silence.after is not None:
        yield f"  next after: {silence.after.burst_id}, from {_time(silence.after.first_at_us)}"
    for cause in silence.causes:
        yield f"  {cause}"
    if not silence.causes:
        yield "  nothing is known of the cause"


def _burst(burst: BurstRecord, every: bool) -> Iterator[str]:
    facts = burst.facts
    late = ", late" if facts.late else ""
    held = f", held back ({facts.cause}): not in the log yet" if facts.status == "held" else ""
    yield (
        f"burst {facts.burst_id} {_time(facts.first_at_us)} to {_time(facts.last_at_us)}, {facts.frames} frames "
        f"({facts.reason}), arrived {_lasting(facts.received_at_us - facts.last_at_us)} after its last{late}{held}"
    )
    mask = f", mask {facts.mask_digest[:12]}" if facts.mask_digest else ", no mask"
    yield f"  policy {facts.policy[:12]}, ensemble {facts.ensemble[:12]}{mask}"
    fresh = sum(not frame.repeats for frame in burst.frames)
    if fresh < len(burst.frames):
        some = f"{len(burst.frames) - fresh} of {len(burst.frames)} frames have"
        yield f"  {some} the very bytes of one that came before, as from a stuck camera, and count for nothing"
    for sector in burst.sectors if fresh else ():
        yield f"  {_sector(sector, fresh)}"
    for frame in burst.frames:
        yield from _frame(frame, frame.weighings if every else _telling(frame))
    for logged in burst.events:
        yield f"  told: {text_line(logged)}"
    if not burst.events:
        yield "  told: nothing"


def _sector(record: SectorRecord, frames: int) -> str:
    head = f"{record.sector}: {record.target}"
    undecided = f", undecided in {record.undecided}" if record.undecided else ""
    rule = f"(rule {record.rule}{f', schedule {record.schedule}' if record.schedule else ''})"
    if record.present:
        return f"{head} present in {record.present} of {frames} frames{undecided} {rule}"
    if record.best is not None:
        return f"{head} absent{undecided} {rule}: nearest in frame {record.best_frame}, {shortfall(record.best)}"
    if record.undecided:
        return f"{head}{undecided} of {frames} frames {rule}: nobody could tell: {record.shortage}"
    return f"{head} absent in all frames {rule}: no model saw any"


def _telling(frame: FrameRecord) -> list[Weighing]:
    """The candidates that were present or suppressed, and for each sector without one the nearest to it."""
    shown = [w for w in frame.weighings if w.verdict == "present" or w.suppressed]
    settled = {(w.target, sector) for w in shown for sector in w.sectors}
    for weighing in sorted((w for w in frame.weighings if w not in shown), key=nearness, reverse=True):
        places = {(weighing.target, sector) for sector in weighing.sectors}
        if places - settled:
            shown.append(weighing)
            settled |= places
    return shown


def _frame(frame: FrameRecord, shown: Sequence[Weighing]) -> Iterator[str]:
    head = f"    {frame.index:>2} {_clock(frame.at_us)}"
    if frame.repeats:
        yield f"{head} repeats: counts for nothing"
        return
    for model in frame.silent:
        yield f"{head} {model} did not answer"
    for weighing in shown:
        where = ",".join(weighing.sectors) or "in no sector"
        votes = "; ".join(map(_ballot, weighing.ballots))
        known = f" (suppressed: {weighing.suppressed})" if weighing.suppressed else ""
        yield f"{head} {weighing.target} {where}: {weighing.verdict}{known}, {shortfall(weighing)}: {votes}"


def _ballot(ballot: Ballot) -> str:
    if ballot.vote == "abstain":
        return f"{ballot.model} abstains"
    if ballot.vote == "missing":
        return f"{ballot.model} did not answer"
    if ballot.score is None:
        return f"{ballot.model} {ballot.vote}"
    asked = "" if ballot.vote == "for" else f" (asked {ballot.least:g})"
    return f"{ballot.model} {ballot.vote} {ballot.score:.2f}{asked}"


def _time(at_us: int) -> str:
    return instant(at_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _lasting(us: int) -> str:
    """A stretch of time in the unit that fits it."""
    for unit, unit_us in (("days", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000)):
        if us >= 2 * unit_us:
            return f"{us / unit_us:.1f} {unit}"
    return f"{us / 1e6:.1f} s"


def _clock(at_us: int) -> str:
    return instant(at_us).strftime("%H:%M:%S.%f")[:-3]
