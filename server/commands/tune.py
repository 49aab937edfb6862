"""`sectorwatch tune`: try many policies on the annotated past, and propose the one that annotations favour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from policies.events import Event, instant
from policies.fusion.judge import judge
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.analysis.agreement import FEWEST_MODELS, Estimate, estimated, patterns_of
from server.analysis.candidates import Candidate, Option, candidate, refinements, rules_and_scores
from server.analysis.plots import Point, frontier, write_html, write_png
from server.analysis.policy_diff import difference, overruled
from server.analysis.recommendation import Advice, Trial, best_of, cheaper_than, split_at, words
from server.analysis.scoring import Truth, outcome_of, truth_of
from server.commands.current_policy import PROPOSED, todays
from server.commands.folding import Task, folded, side_by_side, stored_cameras
from server.commands.options import Instant, check_window, found_settings, opened_store, store_options
from server.domain.clock import SECOND_US
from server.domain.errors import ConfigurationError
from server.domain.records import Annotation
from server.settings import processors
from server.store import Store

HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
_ROUNDS = 2
_LEAST_0 = click.FloatRange(min=0)


@dataclass(slots=True)
class _Search:
    """The past that policies are tried on. Tries each text once, several at a time."""

    url: str
    site: str
    cameras: list[str]
    truth: Truth
    since_us: int
    until_us: int
    within_s: float
    most: int
    processes: int
    trials: dict[str, Trial] = field(default_factory=dict)
    seen_us: tuple[int, int] = (0, 0)

    def run(self, tried: Sequence[Candidate]) -> None:
        """Fold the past under those candidates that are new, as far as the limit allows."""
        fresh: dict[str, Candidate] = {}
        for one in tried:
            if one.policy.digest not in self.trials:
                fresh.setdefault(one.policy.digest, one)
        some = list(fresh.values())[: self.most - len(self.trials)]
        if not some:
            return
        click.echo(f"trying {len(some)} policies ...", err=True)
        parts = max(1, self.processes // len(self.cameras))
        shares = [some[i::parts] for i in range(parts) if some[i::parts]]
        work = [(share, camera) for share in shares for camera in self.cameras]
        told: dict[str, list[Event]] = {c.policy.digest: [] for c in some}
        for (share, _), done in zip(
            work, side_by_side(folded, [self._task(*one) for one in work], self.processes), strict=True
        ):
            if done.frames:
                first, last = self.seen_us
                self.seen_us = (min(first or done.first_us, done.first_us), max(last, done.last_us))
            for one, events in zip(share, done.events, strict=True):
                told[one.policy.digest] += events
        for one in some:
            outcome = outcome_of(self.truth, told[one.policy.digest], self.within_s)
            self.trials[one.policy.digest] = Trial(one, outcome)

    def _task(self, share: Sequence[Candidate], camera: str) -> Task:
        policies = tuple(one.policy for one in share)
        return Task(self.url, self.site, camera, policies, self.since_us, self.until_us)


@click.command()
@click.argument("site")
@click.option("--since", "since_us", type=Instant(), help="Begin of the past to try on (default: of the annotations).")
@click.option("--until", "until_us", type=Instant(), help="Its end.")
@click.option("--policy", "file", type=click.Path(path_type=Path), help="Start from this file, not from the live one.")
@click.option("--within", "within_s", default=1.0, show_default=True, type=_LEAST_0, help="Seconds a fact may move.")
@click.option(
    "--miss-cost", default=10.0, show_default=True, type=_LEAST_0, help="False alarms that one miss is worth."
)
@click.option("--most", default=120, show_default=True, type=click.IntRange(min=1), help="Policies to try at most.")
@click.option("--processes", type=click.IntRange(min=1), help="Processes at once (default: one per processor).")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder of plots (default: tuning-SITE).")
@store_options
def command(
    site: str,
    since_us: int | None,
    until_us: int | None,
    file: Path | None,
    within_s: float,
    miss_cost: float,
    most: int,
    processes: int | None,
    out: Path | None,
    config: Path | None,
    database: str | None,
    data_dir: Path | None,
) -> None:
    """Find the policy for SITE that keeps the true events and drops the rest.

    The annotated past is judged anew under many policies, without models or pictures. The best one is proposed as a
    file beside the live one, which is not touched. Without annotations, the models' reliability is estimated from
    how they agree.
    """
    check_window(since_us, until_us)
    settings = found_settings(config, database, data_dir)
    store = opened_store(config, database, data_dir)
    cameras = [c.camera for c in stored_cameras(store, site, None)]
    text, live = todays(store, settings, site, file)
    policy = parse_site_policy(text)
    voters = _voters(store, policy)
    said = [one for one in store.annotations.current(site) if one.truth != "unsure"]
    window = _around(said, since_us, until_us)
    log = [logged.event for logged in store.events(*window, site)]
    truth = truth_of(said, log, *window)
    if not any(truth.instants()):
        for line in without_annotations(store, policy, cameras, voters, said, since_us, until_us):
            click.echo(line)
        return
    out = out or Path(f"tuning-{site}")
    _make(out)
    at_once = processes or processors()
    search = _Search(settings.database_url, site, cameras, truth, *window, within_s, most, at_once)
    advice = _searched(search, text, policy, voters, miss_cost)
    _report(search, advice, text, live, out)


def _around(said: Sequence[Annotation], since_us: int | None, until_us: int | None) -> tuple[int, int]:
    """The stretch that is asked for, by default an hour around all annotations."""
    times = [one.at_us for one in said] or [0]
    return (
        min(times) - HOUR_US if since_us is None else since_us,
        max(times) + HOUR_US if until_us is None else until_us,
    )


def _make(out: Path) -> None:
    """The folder of plots, before the work of minutes rather than after. Raises ConfigurationError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"the folder {out} cannot be made: {error.strerror}; --out names another") from None


def _searched(search: _Search, text: str, policy: SitePolicy, voters: Sequence[str], miss_cost: float) -> Advice:
    """Rules and scores first; then, around the best so far, confirmation and single models' scores."""
    split = split_at(*search.truth.instants())
    chosen: dict[str, tuple[Option, ...]] = {}

    def tried(sets: Iterator[tuple[Option, ...]]) -> tuple[Option, ...]:
        found = [(options, candidate(text, *options)) for options in sets]
        for options, one in found:
            chosen.setdefault(one.policy.digest, options)
        search.run([one for _, one in found])
        return chosen[best_of(list(search.trials.values()), split, miss_cost).candidate.policy.digest]

    options = tried(rules_and_scores(text, policy, voters))
    for _ in range(_ROUNDS):
        around = options
        options = tried((*around, one) for one in refinements(policy, voters))
    trials = list(search.trials.values())
    first, last = search.seen_us
    best = best_of(trials, split, miss_cost)
    return Advice(
        today=trials[0],
        best=best,
        cheaper=cheaper_than(best, trials),
        tried=len(trials),
        split=split,
        days=max(last - first, 1) / DAY_US,
        false=len(search.truth.false),
        false_held=sum(fact.at_us >= split.false_us for fact in search.truth.false),
        unjudged=len(search.truth.unjudged),
    )


def _report(search: _Search, advice: Advice, text: str, live: Path | None, out: Path) -> None:
    """Print the advice, write the plots, and put the proposal beside the live file."""
    best = advice.best.candidate
    lines = list(words(advice, overruled(text, best.changes)))
    name = live.name if live else f"{search.site}.toml"
    target = (live.parent if live else out) / f"{name}{PROPOSED}"
    diff = list(difference(text, best.text, name, target.name))
    points, unit = _points(search, advice)
    for line in _table(points, unit):
        click.echo(line)
    click.echo("\n" + "\n".join(lines))
    title = f"Tuning {search.site}"
    write_html(out / "tuning.html", title, lines, diff, points, unit)
    written = [out / "tuning.html"]
    if advice.is_change:
        target.write_text(best.text, encoding="utf-8")
        click.echo("\n" + "\n".join(diff))
        click.echo(f"\nProposed, and not in force: {target}")
        if live:
            click.echo(f"To put it into force: mv {target} {live}")
    try:
        write_png(out / "tuning.png", title, points, unit)
        written.append(out / "tuning.png")
    except ConfigurationError as error:
        click.echo(error.detail, err=True)
    click.echo(f"Plots: {', '.join(map(str, written))}")


def _points(search: _Search, advice: Advice) -> tuple[list[Point], str]:
    """All trials as points: misses against false alarms a day, or in the stretch where that is less than a day."""
    per, unit = (advice.days, "a day") if advice.days >= 1 else (1.0, "in all")
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

    points = [Point(*places[i], trial.candidate.words, mark(i, trial)) for i, trial in enumerate(trials)]
    return points, unit


def _table(points: Sequence[Point], unit: str) -> Iterator[str]:
    yield f"{'missed':>7} {'false alarms ' + unit:>20}  policy"
    shown = [p for p in points if p.mark != "tried"]
    for point in sorted(shown, key=lambda p: (p.alarms, p.misses)):
        mark = f"   <- {point.mark}" if point.mark != "frontier" else ""
        yield f"{point.misses:>7} {point.alarms:>20g}  {point.words}{mark}"


def without_annotations(
    store: Store,
    policy: SitePolicy,
    cameras: Sequence[str],
    voters: Sequence[str],
    said: Sequence[Annotation] = (),
    since_us: int | None = None,
    until_us: int | None = None,
) -> Iterator[str]:
    """What can be said of a stretch in which nobody has annotated anything; `said` is of all time."""
    if said:
        first, last = (f"{instant(at_us):%Y-%m-%dT%H:%M:%SZ}" for at_us in (said[0].at_us, said[-1].at_us))
        yield f"Nothing is annotated in this stretch; what is lies from {first} to {last}: see --since and --until."
    else:
        yield "Nothing of this site is annotated, so no policy can be called better than another."
        yield "`sectorwatch annotate EVENT true|false` says what was so; some ten of each kind are a beginning."
    judged = (
        judge(policy.camera(camera), seen)
        for camera in cameras
        for seen in store.observations(policy.site, camera, since_us, until_us)
    )
    found: Estimate = estimated(patterns_of(judged, voters), voters)
    if len(voters) >= FEWEST_MODELS:
        yield ""
        yield f"From how the models agree on {found.candidates} candidates (Dawid and Skene 1979):"
        yield f"  {'model':<24} {'votes for what is there':>24} {'for what is not':>16} {'weight':>7}"
        for one in found.models:
            yield f"  {one.model:<24} {one.hits:>24.0%} {one.false:>16.0%} {one.weight:>7.2f}"
        yield "  (weight: what a model's word is worth)"
        if found.threshold is not None:
            weights = ", ".join(f'"{one.model}" = {one.weight:.2f}' for one in found.models)
            yield "As a rule, for which it is present where that is likelier than not:"
            threshold = f"{found.threshold:.2f}"
            yield f'  sensitivity = {{ rule = "weighted", weights = {{ {weights} }}, threshold = {threshold} }}'
            yield "`sectorwatch compare live FILE`, with it in a copy of the policy, shows what it would change."
    yield f"How far to trust that? {found.trust}"


def _voters(store: Store, policy: SitePolicy) -> list[str]:
    """Models of the newest burst that can vote on some target of the site."""
    wanted = frozenset[str]().union(*(policy.targets[target] for target in policy.rules.targets))
    newest = store.past.newest(policy.site)
    assert newest is not None, "some camera of it advanced"
    ensemble_info = store.kept(newest.burst_id).ensemble_info
    return [
        model_info.model
        for model_info in ensemble_info.models
        if model_info.votes and not wanted.isdisjoint(model_info.classes)
    ]
