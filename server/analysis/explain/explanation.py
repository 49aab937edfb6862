"""Explain a stretch of a camera's time: the decision record of every burst, every gap, every sector's occupancy.

Votes and verdicts are those recorded when the burst was accepted; `verify` recomputes them. Scores come from the stored
answers, so that a vote against shows how near it was.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from policies.fold import remembered
from policies.fusion.judgement import Judgement
from policies.fusion.voters import voters_of
from policies.observation import Observation
from policies.occupancy import Span
from policies.sensitivity import Verdict
from policies.site.site_policy import CameraPolicy
from server.analysis.explain.votes import Weighing, nearness, weighing_of
from server.analysis.gaps import LOOK, Causes, Gap, gaps, no_causes, period_us
from server.analysis.occupancy import occupancy
from server.analysis.stored import Store
from server.domain.keeping import Gone, merged
from server.domain.records import BurstFacts, LoggedEvent, Recorded


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame: its candidates, the undecided (target, sector) pairs, and the models that did not answer.

    `repeats`: its bytes equal those of a recent frame, so it is ignored.
    """

    index: int
    at_us: int
    weighings: tuple[Weighing, ...]
    undecided: tuple[tuple[str, str], ...]
    silent: tuple[str, ...]
    repeats: bool


@dataclass(frozen=True, slots=True)
class SectorRecord:
    """A burst's verdicts on one target in one sector: the number of frames of each, and the best candidate of all.

    `rule` and `schedule` (None: no schedule) are those of the first frame. `shortage` is why frames are undecided.
    Repeated frames are not counted.
    """

    sector: str
    target: str
    rule: str
    schedule: str | None
    present: int
    absent: int
    undecided: int
    best_frame: int | None
    best: Weighing | None
    shortage: str | None


@dataclass(frozen=True, slots=True)
class BurstRecord:
    """The decision record of one burst. `enlarged`: how many times as large detectors also saw which sectors."""

    facts: BurstFacts
    frames: tuple[FrameRecord, ...]
    sectors: tuple[SectorRecord, ...]
    events: tuple[LoggedEvent, ...]
    enlarged: dict[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A stretch of one camera's time. `period_s` is the usual period of its bursts; None with too few bursts.

    `occupancy` are the spans in which each sector was occupied, clear or unobserved. The time after `known_until_us` is
    still to come. Of the time that `gone` names, nothing is known any more: neither gaps nor occupancy.
    """

    site: str
    camera: str
    since_us: int
    until_us: int
    known_until_us: int
    period_s: float | None
    bursts: tuple[BurstRecord, ...]
    gaps: tuple[Gap, ...]
    occupancy: tuple[Span, ...]
    gone: Gone

    @property
    def gone_stretches(self) -> list[tuple[int, int]]:
        """The parts without bursts because they are no longer kept (us, from and to before), in order."""
        inside = [
            (max(since_us or self.since_us, self.since_us), min(until_us, self.until_us) - 1)
            for since_us, until_us in self.gone.bursts
        ]
        return [(first, last + 1) for first, last in merged(inside)]

    @property
    def is_gone(self) -> bool:
        """Whether all of it is no longer kept."""
        return self.gone_stretches == [(self.since_us, self.until_us)]


def explain(
    store: Store,
    site: str,
    camera: str,
    since_us: int,
    until_us: int,
    causes: Causes = no_causes,
    now_us: int | None = None,
) -> Explanation:
    """What is known of a camera from `since_us` to before `until_us`.

    `causes` may add causes of gaps. A burst that is due after `now_us` is not missing (None: all of it is past).
    """
    known_us = until_us if now_us is None else min(until_us, now_us)
    inside = store.past.bursts(site, camera, since_us, until_us)
    before = store.past.before(site, camera, since_us, LOOK)
    after = store.past.after(site, camera, until_us, LOOK)
    period = period_us([*before, *inside, *after])
    around = [*before[-1:], *inside, *after[:1]]
    first_us = min((burst.first_at_us for burst in (*before, *inside)), default=since_us)
    last_us = max((burst.last_at_us for burst in inside), default=first_us)
    ever_gone = store.retention.gone(site, camera)
    gone = ever_gone.within(since_us, until_us)
    missed = gaps(around, since_us, known_us, period, causes, is_running=known_us < until_us)
    spans = occupancy(store, site, camera, since_us, until_us, now_us)
    told = _told(store, inside)
    again = _repeating(store.history(site, camera, first_us, last_us + 1)) if inside else frozenset()
    return Explanation(
        site=site,
        camera=camera,
        since_us=since_us,
        until_us=until_us,
        known_until_us=known_us,
        period_s=None if period is None else period / 1e6,
        bursts=tuple(_burst(store, facts, told, again) for facts in inside),
        gaps=tuple(part for gap in missed for part in _kept_gaps(gap, ever_gone, period or 1)),
        occupancy=tuple(
            Span(span.target, span.sector, span.occupancy, first, end, span.cause)
            for span in spans
            for first, end in _kept_parts(span.from_us, span.until_us, gone)
        ),
        gone=gone,
    )


def _told(store: Store, inside: Sequence[BurstFacts]) -> list[LoggedEvent]:
    """All events that frames of these bursts of a camera ever settled, withdrawn ones too, in order."""
    if not inside:
        return []
    first_us, last_us = min(each.first_at_us for each in inside), max(each.last_at_us for each in inside)
    return store.events(first_us, last_us + 1, inside[0].site, inside[0].camera, withdrawn=True)


def _kept_gaps(gap: Gap, gone: Gone, period: int) -> Iterator[Gap]:
    """The parts of a gap of which bursts would still be kept: elsewhere none can be called missing, or not due yet."""
    if gap.before is None and gone.is_burst_gone(None, gap.since_us + 1):
        return
    parts = list(_kept_parts(gap.since_us, gap.until_us, gone))
    if parts == [(gap.since_us, gap.until_us)]:
        yield gap
        return
    for since_us, until_us in parts:
        if missing := (until_us - since_us) // period:
            yield replace(gap, since_us=since_us, until_us=until_us, missing=missing)


def _kept_parts(since_us: int, until_us: int, gone: Gone) -> Iterator[tuple[int, int]]:
    """A stretch without what is no longer kept."""
    for stretch in gone.bursts:
        if stretch.meets(since_us, until_us):
            if stretch.since_us is not None and stretch.since_us > since_us:
                yield since_us, stretch.since_us
            since_us = max(since_us, stretch.until_us)
    if since_us < until_us:
        yield since_us, until_us


def _repeating(history: Iterable[Recorded]) -> frozenset[tuple[str, int]]:
    """Burst id and index of the frames that the fold ignored as repeats."""
    frames: tuple[str, ...] = ()
    again: set[tuple[str, int]] = set()
    for seen in (each.observation for each in history):
        frames, is_repeat = remembered(frames, seen.frame_sha256)
        if is_repeat:
            again.add((seen.burst_id, seen.index))
    return frozenset(again)


def _burst(
    store: Store, facts: BurstFacts, told: Iterable[LoggedEvent], again: Container[tuple[str, int]]
) -> BurstRecord:
    policy = store.policy(facts.policy).camera(facts.camera)
    kept = store.kept(facts.burst_id)
    seen = kept.observations
    frames = tuple(
        _frame(
            policy.in_force(frame.at_us, frame.brightness),
            frame,
            judgement,
            repeats=(frame.burst_id, frame.index) in again,
        )
        for frame, judgement in zip(seen, kept.judgements, strict=True)
    )
    return BurstRecord(
        facts=facts,
        frames=frames,
        sectors=tuple(_sectors(policy, seen, [frame for frame in frames if not frame.repeats])),
        events=tuple(logged for logged in told if logged.burst_id == facts.burst_id),
        enlarged={s.name: round(s.times_larger, 2) for s in policy.enlarged_sectors(kept.ensemble_info)},
    )


def _frame(policy: CameraPolicy, seen: Observation, judgement: Judgement, *, repeats: bool) -> FrameRecord:
    return FrameRecord(
        index=seen.index,
        at_us=seen.at_us,
        weighings=tuple(weighing_of(policy, seen, candidate) for candidate in judgement.candidates),
        undecided=judgement.undecided,
        silent=tuple(model for model, answer in seen.answers.items() if answer is None),
        repeats=repeats,
    )


def _sectors(
    camera: CameraPolicy, seen: Sequence[Observation], frames: Sequence[FrameRecord]
) -> Iterator[SectorRecord]:
    at = (seen[0].at_us, seen[0].brightness)
    policy, entry = camera.in_force(*at), camera.schedule_at(*at)
    for sector in policy.sectors:
        for target in sector.rules.targets:
            here = [
                (frame, weighing)
                for frame in frames
                for weighing in frame.weighings
                if weighing.target == target and sector.name in weighing.sectors
            ]
            present = {frame.index for frame, weighing in here if weighing.verdict == Verdict.PRESENT}
            undecided = {f.index for f in frames if (target, sector.name) in f.undecided} - present
            best = max(here, key=lambda pair: nearness(pair[1]), default=None)
            yield SectorRecord(
                sector=sector.name,
                target=target,
                rule=sector.rules.of(target).sensitivity.title,
                schedule=None if entry is None else entry.name,
                present=len(present),
                absent=len(frames) - len(present) - len(undecided),
                undecided=len(undecided),
                best_frame=None if best is None else best[0].index,
                best=None if best is None else best[1],
                shortage=_shortage(camera, seen[min(undecided)], target, sector.name) if undecided else None,
            )


def _shortage(camera: CameraPolicy, seen: Observation, target: str, sector: str) -> str:
    """Why a frame is undecided for a target in a sector."""
    policy = camera.in_force(seen.at_us, seen.brightness)
    given = next(s.rules for s in policy.sectors if s.name == sector).of(target).sensitivity
    voters = voters_of(policy, seen.ensemble_info).models[target]
    models = [model_info for model_info in voters if seen.answers.get(model_info.model) is not None]
    if not voters:
        return "no model that votes can see it"
    if not models:
        return "no model answered"
    names = ", ".join(model_info.model for model_info in models)
    needed, reach = (given.in_words(amount) for amount in (given.needed(len(models)), given.reach(models)))
    return f"{needed} needed, and {names} can give {reach}"
