"""Score a site policy on footage whose true events are known.

    python -m tests.benchmarks.events.evaluate FOOTAGE SITE_FILE

The footage goes through the real agent and server, at each frame rate and from each possible first picture (a
*phase*). The events are written as JSON lines; with `--scorer` and `--truth` they are scored by the evaluation kit's
`score_events.py`. The stored observations are then replayed under other sensitivities, without a model.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import click
from msgspec.structs import replace

from policies.events import Event
from policies.sensitivity import Sensitivity
from policies.site.rules import SHIPPED_WEIGHTS, Rules
from policies.site.site_policy import CameraPolicy, SitePolicy
from server.analysis.refold_many import fold_history
from server.commands.folding import read_policy
from server.commands.local_stack import LocalStack
from server.domain.errors import ConfigurationError
from server.store import Store, open_store

STARTED_AT = datetime(2026, 1, 1, tzinfo=UTC)
_PLAY_WITHIN_S = 3600
_SCORED = ("presence_started", "presence_ended", "entered", "left", "moved", "crossed")


@dataclass(frozen=True, slots=True)
class Run:
    """The footage sampled at `rate` frames a second from picture `phase` on; each run has a site of its own."""

    rate: float
    phase: int
    site: str


@click.command()
@click.argument("footage", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("site_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=click.FloatRange(0.1, 30),
    default=(5.0, 2.0),
    show_default=True,
    help="Frames per second.",
)
@click.option("--pictures-per-s", default=10.0, show_default=True, help="Pictures per second of the footage.")
@click.option("--phases", type=int, help="First pictures to try at each rate, at most (default: all).")
@click.option(
    "--scorer", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The kit's score_events.py."
)
@click.option("--truth", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The true events (JSON).")
@click.option("--model", "models", multiple=True, help="Models of the ensemble (default: the server's).")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the events and the data.")
@click.option("--again", is_flag=True, help="Replay and score the data of an earlier run in --out.")
def main(
    footage: Path,
    site_file: Path,
    rates: tuple[float, ...],
    pictures_per_s: float,
    phases: int | None,
    scorer: Path | None,
    truth: Path | None,
    models: tuple[str, ...],
    out: Path | None,
    again: bool,
) -> None:
    """Play FOOTAGE through agent and server under SITE_FILE, write the events, and score them."""
    if (scorer is None) != (truth is None):
        raise click.UsageError("--scorer and --truth go together")
    if again and out is None:
        raise click.UsageError("--again needs the --out of the earlier run")
    policy, text = read_policy(site_file)
    camera = next(iter(policy.cameras), "camera")
    runs = [run for rate in rates for run in _runs(policy.site, rate, pictures_per_s, phases)]
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sectorwatch-evaluate-")))
        folder = folder.resolve()
        if not again:
            _play(folder, runs, text, footage.resolve(), camera, models or None)
        store = open_store(f"sqlite:///{folder}/data/sectorwatch.sqlite")
        for rate in rates:
            these = [run for run in runs if run.rate == rate]
            _report(folder, store, these, policy, Scorer(scorer, truth) if scorer and truth else None)


def _runs(site: str, rate: float, pictures_per_s: float, phases: int | None) -> Iterator[Run]:
    step = round(pictures_per_s / rate)
    if step < 1 or abs(step * rate - pictures_per_s) > 1e-6:
        raise click.UsageError(f"--rate {rate:g} does not divide {pictures_per_s:g} pictures a second")
    for phase in range(min(step, phases or step)):
        yield Run(rate, phase, f"{site}-{rate:g}-{phase}".replace(".", "_"))


def _play(
    folder: Path, runs: Sequence[Run], text: str, footage: Path, camera: str, models: Sequence[str] | None
) -> None:
    sites = {run.site: _renamed(text, run.site) for run in runs}
    with LocalStack(folder, sites, models) as stack:
        for run in runs:
            click.echo(f"playing at {run.rate:g}/s from picture {run.phase} ...", err=True)
            agent = stack.agent(
                run.site,
                {
                    "name": camera,
                    "video": str(footage),
                    "speed": 0,
                    "frames_per_s": run.rate,
                    "first_picture": run.phase,
                    "started_at": STARTED_AT.isoformat().replace("+00:00", "Z"),
                    "at_end": "stop",
                    "burst": {"frames": min(64, max(1, round(4 * run.rate)))},
                },
                name=f"agent-{run.site}",
            )
            if not agent.wait(_PLAY_WITHIN_S):
                raise ConfigurationError(f"the footage did not end within {_PLAY_WITHIN_S} s")


def _renamed(text: str, site: str) -> str:
    lines = (f"site = {json.dumps(site)}" if line.startswith("site ") else line for line in text.splitlines())
    return "\n".join(lines) + "\n"


class Scorer:
    """The evaluation kit: pools the events of several runs and scores them against the truth."""

    def __init__(self, scorer: Path, truth: Path) -> None:
        self._scorer = scorer
        self._truth = truth
        self.camera = json.loads(truth.read_text())["camera"]

    def __call__(self, files: Sequence[Path], rate: float) -> dict[str, Any]:
        pairs = [str(path) for file in files for path in (self._truth, file)]
        call = [sys.executable, str(self._scorer), *pairs, "--period", str(1 / rate), "--json", "-", "--quiet"]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ConfigurationError(f"the scorer failed: {done.stderr.strip()}")
        scores: dict[str, Any] = json.loads(done.stdout)
        return scores


def _report(folder: Path, store: Store, runs: Sequence[Run], policy: SitePolicy, scorer: Scorer | None) -> None:
    rate, camera = runs[0].rate, next(iter(policy.cameras), "camera")
    click.echo(f"\n{rate:g} frames a second, {len(runs)} phases")
    click.echo(_HEADING if scorer else "policy                      events")
    for name, sensitivity in _variants(store, runs[0].site):
        files = []
        for run in runs:
            rules = _under(policy, sensitivity, run.site)
            events = fold_history(store.history(run.site, camera), camera, [rules]).events[0]
            files.append(folder / f"events-{run.site}-{name.replace(' ', '-')}.jsonl")
            lines = (scored_line(e, scorer.camera if scorer else e.camera) for e in events if e.kind in _SCORED)
            files[-1].write_text("".join(line + "\n" for line in lines))
        if scorer is None:
            click.echo(f"{name:<26} {sum(len(f.read_text().splitlines()) for f in files):>7}")
        else:
            click.echo(row_of(name, scorer, files, rate))


_HEADING = (
    "policy                        F1  +- phases  precision  recall  misses  false  presence F1  direction  delay"
)


def row_of(name: str, scorer: Scorer, files: Sequence[Path], rate: float) -> str:
    """A row of the table; `-` where nothing was to be scored, as presence where the truth has none."""
    pooled = scorer(files, rate)
    overall, presence = pooled["groups"]["overall"], pooled["groups"]["presence"]
    single = [scorer([file], rate)["groups"]["overall"]["f1"] for file in files]
    known = [f1 for f1 in single if f1 is not None]
    spread = f"{fmean(known):.3f}+-{pstdev(known):.3f}" if known else "-"
    return (
        f"{name:<26} {figure(overall['f1']):>6} {spread:>13} {figure(overall['precision']):>8} "
        f"{figure(overall['recall']):>8} {overall['fn']:>6} {overall['fp']:>6} {figure(presence['f1']):>10} "
        f"{figure(overall.get('direction_accuracy'), 2):>11} {figure(overall.get('latency_median'), 2):>6}"
    )


def figure(value: float | None, digits: int = 3) -> str:
    """A figure of a table; the kit's scorer gives None where a share is of nothing."""
    return "-" if value is None else f"{value:.{digits}f}"


def _variants(store: Store, site: str) -> Iterator[tuple[str, Sensitivity | None]]:
    """The policy as written, the plain rules, and each model alone."""
    yield "as written", None
    yield "any", Sensitivity("any")
    yield "majority", Sensitivity("majority")
    yield "all", Sensitivity("all")
    camera = next(head.camera for head in store.cameras() if head.site == site)
    seen = next(iter(store.observations(site, camera)))
    voters = [model_info.model for model_info in seen.ensemble_info.models if model_info.votes]
    if any(model_info.calibration for model_info in seen.ensemble_info.models):
        yield "evidence", Sensitivity("evidence", weights=SHIPPED_WEIGHTS)
    for model in voters if len(voters) > 1 else []:
        yield f"{model} alone", Sensitivity("weighted", weights={model: 1.0, "*": 0.0})


def _under(policy: SitePolicy, sensitivity: Sensitivity | None, site: str) -> SitePolicy:
    """The policy for `site`, with this sensitivity everywhere (None: as written)."""

    def judged(rules: Rules) -> Rules:
        if sensitivity is None:
            return rules
        by_target = {name: replace(mine, sensitivity=sensitivity) for name, mine in rules.by_target.items()}
        return replace(rules, sensitivity=sensitivity, by_target=by_target)

    def camera(place: CameraPolicy) -> CameraPolicy:
        sectors = (replace(sector, rules=judged(sector.rules)) for sector in place.sectors)
        return replace(place, site=site, rules=judged(place.rules), sectors=tuple(sectors))

    return replace(policy, site=site, cameras={name: camera(c) for name, c in policy.cameras.items()})


def scored_line(event: Event, camera: str) -> str:
    """The event in the evaluation kit's form, times in seconds from the footage's first picture."""
    line: dict[str, object] = {
        "camera": camera,
        "kind": event.kind,
        "label": event.label,
        "sector": event.line or event.sector,
        "start": (event.at - STARTED_AT).total_seconds(),
        "emitted": (event.confirmed_at - STARTED_AT).total_seconds(),
        "track": event.track,
    }
    if event.kind == "moved":
        line |= {"from": event.from_sector, "to": event.to_sector}
    if event.direction not in (None, "unknown"):
        line["direction"] = event.direction
    return json.dumps(line)


if __name__ == "__main__":
    main()
