"""`sectorwatch tune`: try many policies on the annotated past, and propose the best policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from policies.events import Event
from policies.fusion.judge import judge
from policies.observation import ModelInfo
from policies.site.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.analysis.agreement import HEADING, pair_agreements
from server.analysis.policy_diff import difference, overruled
from server.analysis.tuning.candidates import (
    Candidate,
    Option,
    Place,
    by_evidence,
    candidate,
    refinements,
    rules_and_scores,
)
from server.analysis.tuning.figures import rate_of
from server.analysis.tuning.past import (
    DAY_US,
    HOUR_US,
    WITHIN_S,
    annotated,
    logged_events,
    place_of,
    voters_of,
)
from server.analysis.tuning.plots import Point, frontier, write_html
from server.analysis.tuning.recommendation import Advice, Trial, best_of, cheaper_than, split_at, words
from server.analysis.tuning.scoring import Split, Truth, outcome_of, truth_of
from server.commands.cameras import find_cameras, gone_within, note_enlarged, with_bursts
from server.commands.current_policy import current_policy, keep_proposal, write_policy
from server.commands.folding import FoldTask, fold_many, processes_option
from server.commands.options import (
    Instant,
    Window,
    aligned,
    current_store,
    echo_lines,
    local_of,
    store_options,
    stretch,
)
from server.domain.errors import ConfigurationError, Unknown
from server.domain.records import Annotation
from server.domain.times.local_time import FORMS, LocalTime, When
from server.pipeline.site_versions import LONGEST_WHY
from server.settings import ServerSettings
from server.store import Store

_ROUNDS = 2
_LEAST_0 = click.FloatRange(min=0)


@click.command()
@click.argument("site")
@click.option("--camera", help="Search the settings of this camera only.")
@click.option("--sector", help="Search the settings of this sector only.")
@click.option("--target", help="Search the sensitivity and scores of this target only.")
@click.option("--since", type=Instant(), help=f"Begin of the past to try on: {FORMS} (default: of the annotations).")
@click.option("--until", type=Instant(), help="Its end.")
@click.option(
    "--policy", "file", type=click.Path(path_type=Path), help="Start from this file instead of the live file."
)
@click.option(
    "--within",
    "within_s",
    default=WITHIN_S,
    show_default=True,
    type=_LEAST_0,
    help="Seconds by which an event may shift.",
)
@click.option(
    "--miss-cost",
    default=10.0,
    show_default=True,
    type=_LEAST_0,
    help="The number of false alarms that cost as much as a miss.",
)
@click.option("--most", default=120, show_default=True, type=click.IntRange(min=1), help="Policies to try at most.")
@processes_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the page and of the best policy (default: tuning-SITE).",
)
@click.option("--propose", "proposes", is_flag=True, help="Keep the best policy as a proposed version.")
@store_options
def command(
    site: str,
    camera: str | None,
    sector: str | None,
    target: str | None,
    since: When | None,
    until: When | None,
    file: Path | None,
    within_s: float,
    miss_cost: float,
    most: int,
    processes: int | None,
    out: Path | None,
    proposes: bool,
    settings: ServerSettings,
) -> None:
    """Find the policy for SITE, or for one camera, sector or target of it, that keeps the true events and drops the
    false ones. Rates are per observed day: time without frames does not count.

    Runs many policies over the annotated past, without models or images. Writes a page and the best policy into a
    folder. With --propose, the best policy is kept as a proposed version instead, which `sectorwatch policy` and the
    console show. What is in force stays as it is. Without annotations, prints how often the models agree.
    """
    store = current_store(settings)
    local = local_of(settings, store, site)
    since_us, until_us = stretch(local, since, until)
    heads = find_cameras(store, site, camera)
    cameras = [head.camera for head in heads]
    text, live = current_policy(store, settings, site, file)
    policy = parse_site_policy(text)
    place = _place(policy, cameras, camera, sector, target)
    annotations = annotated(store, site, cameras)
    window = _window(annotations, since_us, until_us)
    gone = gone_within(store, local, Window(*window, site, camera))
    note_enlarged(store, [policy], heads, *window)
    annotations = with_bursts(annotations, gone)
    truth = truth_of(annotations, logged_events(store, site, place.camera, gone, *window), *window)
    if not any(truth.instants()):
        echo_lines(_without_annotations(store, policy, cameras, annotations, local, since_us, until_us))
        return
    out = out or Path(f"tuning-{site}")
    _make_folder(out)
    search = _Search(settings.database_url, site, place, cameras, truth, *window, within_s, most, processes)
    advice = _search(search, text, policy, _voters(store, policy, place), miss_cost)
    for cause, count in search.passed_over.items():
        click.echo(f"{count} policies were not tried, since with them {cause}", err=True)
    name = live.name if live else f"{site}.toml"
    _report(search, advice, text, name, out)
    if not advice.is_change:
        return
    best = advice.best.candidate
    if proposes:
        keep_proposal(store, settings, site, best.text, f"tune: {best.words}"[:LONGEST_WHY])
        return
    file = out / name
    write_policy(file, best.text)
    echo_lines(("", *difference(text, best.text, name, str(file)), "", f"The best policy: {file}"))
    click.echo(f"To propose it: sectorwatch policy propose {site} {file}")


def _place(
    policy: SitePolicy, cameras: Sequence[str], camera: str | None, sector: str | None, target: str | None
) -> Place:
    """The place whose settings are searched. Raises UsageError for one that the policy does not have."""
    if sector is not None and camera is None:
        if len(cameras) > 1:
            raise click.UsageError(f"--sector needs --camera, one of {', '.join(cameras)}")
        camera = cameras[0]
    try:
        return place_of(policy, camera, sector, target)
    except Unknown as error:
        raise click.UsageError(error.detail) from None


def _window(annotations: Sequence[Annotation], since_us: int | None, until_us: int | None) -> tuple[int, int]:
    """The stretch that the options name; by default from an hour before all annotations to an hour after."""
    times = [each.at_us for each in annotations] or [0]
    return (
        min(times) - HOUR_US if since_us is None else since_us,
        max(times) + HOUR_US if until_us is None else until_us,
    )


def _make_folder(out: Path) -> None:
    """Make the output folder before the search, which takes minutes. Raises ConfigurationError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder {out} cannot be made: {error.strerror}; name another with --out"
        ) from None


def _voters(store: Store, policy: SitePolicy, place: Place) -> list[ModelInfo]:
    """The models of the newest burst that can vote on some target of the place."""
    newest = store.past.newest(policy.site)
    assert newest is not None, "a camera of the site has advanced"
    return voters_of(store.kept(newest.burst_id).ensemble_info.models, policy, place)


@dataclass(slots=True)
class _Search:
    """Tries policies on one stretch of the past, each distinct policy once; `trials` holds them in order of trial."""

    url: str
    site: str
    place: Place
    cameras: list[str]
    truth: Truth
    since_us: int
    until_us: int
    within_s: float
    most: int
    processes: int | None
    trials: dict[str, Trial] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)
    """Policies that cannot be: a nearer place has settings of a rule that the policy replaces. By what is wrong."""
    observed_us: int = 0

    def run(self, candidates: Iterable[Candidate]) -> None:
        """Fold every camera under the candidates that are new, as far as `most` allows."""
        new: dict[str, Candidate] = {}
        for each in candidates:
            if each.policy.digest not in self.trials:
                new.setdefault(each.policy.digest, each)
        chosen = list(new.values())[: self.most - len(self.trials)]
        if not chosen:
            return
        click.echo(f"trying {len(chosen)} policies ...", err=True)
        policies = tuple(each.policy for each in chosen)
        tasks = [FoldTask(self.url, self.site, c, policies, self.since_us, self.until_us) for c in self.cameras]
        events: list[list[Event]] = [[] for _ in chosen]
        for result in fold_many(tasks, self.processes):
            self.observed_us = max(self.observed_us, result.observed_us)
            for of_policy, of_camera in zip(events, result.events, strict=True):
                of_policy += of_camera
        for each, of_policy in zip(chosen, events, strict=True):
            self.trials[each.policy.digest] = Trial(each, outcome_of(self.truth, of_policy, self.within_s))


def _search(search: _Search, text: str, policy: SitePolicy, models: Sequence[ModelInfo], miss_cost: float) -> Advice:
    """Try rules and scores first; then, around the best so far, confirmation and the scores of single models."""
    voters, place = [info.model for info in models], search.place
    calibrated = any(info.calibration for info in models)
    split = split_at(*search.truth.instants())
    options_of: dict[str, tuple[Option, ...]] = {}

    def best_after(sets: Iterable[tuple[Option, ...]]) -> tuple[Option, ...]:
        candidates = []
        for options in sets:
            try:
                candidates.append(candidate(text, *options, place=place))
            except InvalidPolicy as error:
                search.passed_over[str(error)] += 1
                continue
            options_of.setdefault(candidates[-1].policy.digest, options)
        search.run(candidates)
        return options_of[best_of(list(search.trials.values()), split, miss_cost).candidate.policy.digest]

    options = best_after(rules_and_scores(policy, voters, place, calibrated=calibrated))
    for _ in range(_ROUNDS):
        around, has_scores = options, not by_evidence(options, policy, place)
        options = best_after((*around, each) for each in refinements(policy, voters, place, has_scores=has_scores))
    return _advice(search, best_of(list(search.trials.values()), split, miss_cost), split)


def _advice(search: _Search, best: Trial, split: Split) -> Advice:
    trials = list(search.trials.values())
    return Advice(
        today=trials[0],
        best=best,
        cheaper=cheaper_than(best, trials),
        tried=len(trials),
        split=split,
        days=max(search.observed_us, 1) / DAY_US,
        false=len(search.truth.false),
        false_held=sum(fact.at_us >= split.false_us for fact in search.truth.false),
        unjudged=len(search.truth.unjudged),
    )


def _report(search: _Search, advice: Advice, text: str, name: str, out: Path) -> None:
    """Print the advice, and write the page."""
    best = advice.best.candidate
    lines = list(words(advice, overruled(text, best.changes, search.place.path)))
    points, unit = _points(search, advice)
    echo_lines((*_table(points, unit), "", *lines))
    page = out / "tuning.html"
    write_html(page, f"Tuning {search.site}", lines, list(difference(text, best.text, name, "best")), points, unit)
    click.echo(f"Page: {page}")


def _points(search: _Search, advice: Advice) -> tuple[list[Point], str]:
    """All trials as points: misses against false alarms, per day or, for less than a day, in all; and that unit."""
    per, unit = rate_of(search.observed_us)
    trials = list(search.trials.values())
    tallies = [trial.outcome.tally() for trial in trials]
    places = [(tally.missed, round(tally.alarms / per, 3)) for tally in tallies]
    best = frontier(places)

    def mark(index: int, trial: Trial) -> str:
        if trial is advice.today:
            return "today"
        if trial is advice.best:
            return "recommended" if advice.is_recommended else "best so far"
        return "frontier" if index in best else "tried"

    return [Point(*places[i], trial.candidate.words, mark(i, trial)) for i, trial in enumerate(trials)], unit


def _table(points: Sequence[Point], unit: str) -> Iterator[str]:
    yield f"{'missed':>7} {'false alarms ' + unit:>20}  policy"
    shown = [p for p in points if p.mark != "tried"]
    for point in sorted(shown, key=lambda p: (p.alarms, p.misses)):
        mark = f"   <- {point.mark}" if point.mark != "frontier" else ""
        yield f"{point.misses:>7} {point.alarms:>20g}  {point.words}{mark}"


def _without_annotations(
    store: Store,
    policy: SitePolicy,
    cameras: Sequence[str],
    elsewhere: Sequence[Annotation],
    local: LocalTime,
    since_us: int | None,
    until_us: int | None,
) -> Iterator[str]:
    """How often the models agree in a stretch without annotations; `elsewhere` are those of other times, in order."""
    if elsewhere:
        first, last = local.dated(elsewhere[0].at_us), local.dated(elsewhere[-1].at_us)
        yield f"No event in this stretch is annotated. The annotations lie between {first} and {last}: see --since and"
        yield "--until."
    else:
        yield "No event of this site is annotated, so no policy can be called better than another."
        yield "Annotate some ten true and ten false events: `sectorwatch annotate EVENT true|false`."
    judgements = (
        judge(policy.camera(camera), seen)
        for camera in cameras
        for seen in store.observations(policy.site, camera, since_us, until_us)
    )
    rows = pair_agreements(judgements)
    yield ""
    if not rows:
        yield "No two models voted on the same candidate, so their votes cannot be compared."
        return
    yield "How often two models agree, of the candidates on which both voted:"
    yield from (f"  {line}" for line in aligned([HEADING, *(row.cells() for row in rows)], texts=3))
    yield "The table does not show which of two models is right: only annotations do."
