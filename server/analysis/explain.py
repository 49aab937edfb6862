"""What was decided in a stretch of time and why: a decision record for every burst, and a word for every silence.

The votes and verdicts are those recorded when the burst was accepted, not recomputed (`verification` does that).
Scores are looked up in the stored answers, so that a vote against shows how near it was.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from policies.fold import remembered
from policies.fusion.judgement import Candidate, Judgement
from policies.fusion.voters import voters_of
from policies.geometry import iou
from policies.observation import Observation, Prediction
from policies.occupancy import Span
from policies.sensitivity import Verdict, Vote
from policies.site.rules import Rules
from policies.site.site_policy import CameraPolicy
from server.analysis import occupancy
from server.analysis.gaps import LOOK, Causes, Silence, no_causes, period_us, silences
from server.domain.records import BurstFacts, KeptBurst, LoggedEvent, Recorded


class Past(Protocol):
    def bursts(self, site: str, camera: str, since_us: int, until_us: int) -> list[BurstFacts]: ...
    def before(self, site: str, camera: str, at_us: int, limit: int) -> list[BurstFacts]: ...
    def after(self, site: str, camera: str, at_us: int, limit: int) -> list[BurstFacts]: ...
    def told_by(self, burst_id: str) -> list[LoggedEvent]: ...


class Store(occupancy.Store, Protocol):
    @property
    def past(self) -> Past: ...
    def kept(self, burst_id: str) -> KeptBurst: ...
    def decisions(self, burst_id: str) -> list[Judgement]: ...


@dataclass(frozen=True, slots=True)
class Ballot:
    """One model's vote on a candidate, the score it rests on (None: it said nothing of it), and what was asked."""

    model: str
    vote: str
    score: float | None
    least: float


@dataclass(frozen=True, slots=True)
class Weighing:
    """One candidate in one frame: who voted how, what the rule made of it, and what was missing.

    `seen` is the support it had and `needed` what the rule asked for, in models (in weight under `weighted`);
    None when nobody voted. `suppressed` names the known nuisance it was taken for.
    """

    target: str
    sectors: tuple[str, ...]
    box: tuple[float, float, float, float] | None
    verdict: str
    suppressed: str | None
    seen: float | None
    needed: float | None
    ballots: tuple[Ballot, ...]


@dataclass(frozen=True, slots=True)
class FrameRecord:
    """One frame: its candidates, the (target, sector) pairs that could not be decided, and who did not answer.

    `repeats`: it has the very bytes of one that came shortly before, and counts for nothing.
    """

    index: int
    at_us: int
    weighings: tuple[Weighing, ...]
    undecided: tuple[tuple[str, str], ...]
    silent: tuple[str, ...]
    repeats: bool


@dataclass(frozen=True, slots=True)
class SectorRecord:
    """A burst's verdicts on one target in one sector: in how many frames each, and the best candidate of all.

    `rule` and `schedule` (None: no schedule) are those of its first frame. `shortage` says why it could not be decided.

    Frames that repeat are in none of the counts.
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
    """The decision record of one burst."""

    facts: BurstFacts
    frames: tuple[FrameRecord, ...]
    sectors: tuple[SectorRecord, ...]
    events: tuple[LoggedEvent, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A stretch of one camera's time. `period_s` is how often its bursts usually come, if that can be told.

    `stood` is how each sector stood within it: occupied, clear or unobserved. What lies beyond `known_until_us` is
    still to come.
    """

    site: str
    camera: str
    since_us: int
    until_us: int
    known_until_us: int
    period_s: float | None
    bursts: tuple[BurstRecord, ...]
    silences: tuple[Silence, ...]
    stood: tuple[Span, ...]


def explained(
    store: Store,
    site: str,
    camera: str,
    since_us: int,
    until_us: int,
    causes: Causes = no_causes,
    now_us: int | None = None,
) -> Explanation:
    """What is known of a camera from `since_us` to before `until_us`.

    `causes` may add why a silence was, where a heartbeat told it. Nothing is missing that is only due after `now_us`
    (None: all of it is past).
    """
    known_us = until_us if now_us is None else min(until_us, now_us)
    inside = store.past.bursts(site, camera, since_us, until_us)
    before = store.past.before(site, camera, since_us, LOOK)
    after = store.past.after(site, camera, until_us, LOOK)
    period = period_us([*before, *inside, *after])
    around = [*before[-1:], *inside, *after[:1]]
    first_us = min((burst.first_at_us for burst in (*before, *inside)), default=since_us)
    last_us = max((burst.last_at_us for burst in inside), default=first_us)
    again = _repeating(store.history(site, camera, first_us, last_us + 1)) if inside else frozenset()
    return Explanation(
        site=site,
        camera=camera,
        since_us=since_us,
        until_us=until_us,
        known_until_us=known_us,
        period_s=None if period is None else period / 1e6,
        bursts=tuple(_burst(store, facts, again) for facts in inside),
        silences=tuple(silences(around, since_us, known_us, period, causes, is_running=known_us < until_us)),
        stood=occupancy.stood(store, site, camera, since_us, until_us, now_us),
    )


def _repeating(recorded: Iterable[Recorded]) -> frozenset[tuple[str, int]]:
    """Burst and index of the frames that the fold knew when they came."""
    frames: tuple[str, ...] = ()
    again: set[tuple[str, int]] = set()
    for seen in (one.observation for one in recorded):
        frames, is_known = remembered(frames, seen.frame_sha256)
        if is_known:
            again.add((seen.burst_id, seen.index))
    return frozenset(again)


def _burst(store: Store, facts: BurstFacts, again: Container[tuple[str, int]]) -> BurstRecord:
    policy = store.policy(facts.policy).camera(facts.camera)
    seen = store.kept(facts.burst_id).observations
    judged = store.decisions(facts.burst_id)
    frames = tuple(
        _frame(_in_force(policy, one), one, said, repeats=(one.burst_id, one.index) in again)
        for one, said in zip(seen, judged, strict=True)
    )
    return BurstRecord(
        facts=facts,
        frames=frames,
        sectors=tuple(_sectors(policy, seen, [frame for frame in frames if not frame.repeats])),
        events=tuple(store.past.told_by(facts.burst_id)),
    )


def _in_force(policy: CameraPolicy, seen: Observation) -> CameraPolicy:
    return policy.in_force(seen.at_us, seen.brightness)


def _frame(policy: CameraPolicy, seen: Observation, judgement: Judgement, *, repeats: bool) -> FrameRecord:
    return FrameRecord(
        index=seen.index,
        at_us=seen.at_us,
        weighings=tuple(_weighing(policy, seen, candidate) for candidate in judgement.candidates),
        undecided=judgement.undecided,
        silent=tuple(model for model, answer in seen.answers.items() if answer is None),
        repeats=repeats,
    )


def _weighing(policy: CameraPolicy, seen: Observation, candidate: Candidate) -> Weighing:
    rules = _rules_of(policy, candidate)
    classes = policy.targets.get(candidate.target, frozenset())
    support = _support(rules, candidate.votes)
    margin = candidate.ruling.margin
    return Weighing(
        target=candidate.target,
        sectors=candidate.sectors,
        box=candidate.box,
        verdict=candidate.ruling.verdict.value,
        suppressed=candidate.suppressed,
        seen=None if margin is None else support,
        needed=None if margin is None else round(support - margin, 6),
        ballots=tuple(
            _ballot(model, vote, seen.answers.get(model) or (), candidate, classes, rules.least(model))
            for model, vote in candidate.votes.items()
        ),
    )


def _ballot(
    model: str, vote: Vote, said: Sequence[Prediction], candidate: Candidate, classes: frozenset[str], least: float
) -> Ballot:
    # A box with enough score cannot be what a vote against rests on, nor one without what a vote for does: it is
    # another candidate's.
    boxed = [s for s in said if s.box is not None and (s.score >= least) == (vote is Vote.FOR)]
    named = [s for s in said if s.box is None]
    return Ballot(model, vote.value, _score([*boxed, *named], candidate, classes), least)


def _rules_of(policy: CameraPolicy, candidate: Candidate) -> Rules:
    """The rules a candidate was judged by: those of the first sector it stood in, for its target."""
    place = next((s.rules for s in policy.sectors if s.name in candidate.sectors), policy.rules)
    return place.of(candidate.target)


def _support(rules: Rules, votes: Mapping[str, Vote]) -> float:
    given = rules.sensitivity
    counted = {Vote.FOR, Vote.MISSING} if given.missing == "fail_open" else {Vote.FOR}
    weight = given.weight if given.rule == "weighted" else (lambda _: 1.0)
    return round(sum(weight(model) for model, vote in votes.items() if vote in counted), 6)


def _score(said: Sequence[Prediction], candidate: Candidate, classes: frozenset[str]) -> float | None:
    """The score a model gave what the candidate is: of its best box there, or of its labels for the sector."""
    mine = [s for s in said if s.label in classes]
    if candidate.box is None:
        here = [s.score for s in mine if s.box is None and s.sector in (None, *candidate.sectors)]
        return max(here, default=None)
    there = [(iou(s.box, candidate.box), s.score) for s in mine if s.box is not None]
    shared, score = max(there, default=(0.0, 0.0))
    if shared > 0:
        return score
    return max((s.score for s in mine if s.box is None and s.sector in (None, *candidate.sectors)), default=None)


def _sectors(
    camera: CameraPolicy, seen: Sequence[Observation], frames: Sequence[FrameRecord]
) -> Iterator[SectorRecord]:
    policy, entry = _in_force(camera, seen[0]), camera.schedule_at(seen[0].at_us, seen[0].brightness)
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
    """Why nobody could tell of a frame whether the target was there."""
    policy = _in_force(camera, seen)
    given = next(s.rules for s in policy.sectors if s.name == sector).of(target).sensitivity
    model_infos = voters_of(policy, seen.ensemble_info).models[target]
    models = [model_info.model for model_info in model_infos if seen.answers.get(model_info.model) is not None]
    if not model_infos:
        return "no model that votes can see it"
    need = f"{given.needed(len(models)):g} needed"
    return f"{need}, and {', '.join(models)} can give {given.reach(models):g}" if models else "no model answered"


def nearness(weighing: Weighing) -> tuple[float, float]:
    """How near a candidate came to being present: by its margin, then by its best score."""
    margin = float("-inf") if weighing.seen is None or weighing.needed is None else weighing.seen - weighing.needed
    return margin, max((b.score or 0.0 for b in weighing.ballots), default=0.0)
