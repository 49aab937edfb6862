"""Which ensemble, under which rule: one table of events, presence, directions, CPU and images a second.

    python -m tests.benchmarks.events.combinations look --footage vtest.avi --out SEEN/pets_s2l1 --model nanodet-g ...
    python -m tests.benchmarks.events.ensembles --seen SEEN --kit DIR [--layouts 8] [--footage vtest.avi]

The detections are read from files, as `combinations look` writes them, so each row folds the same ones. With
`--layouts` the same is asked of other sectors and of the clip backwards (see `layouts`). With `--footage` the cost is
measured too, in float32 or `--execution bf16`: the CPU time of a frame in this process (one thread, bursts of 8, with
decoding, transforms and all models, the least of some rounds in turns), and images a second through the server, the
default before 0.3, today's, and that with a third detector in turns. On a busy machine, read the images a second that
the CPU time of the server gives.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import click
import msgspec
import torch
from msgspec.structs import replace

from policies.observation import EnsembleInfo, Observation, Prediction
from policies.site.site_policy import parse_site_policy
from policies.site.targets import SHIPPED
from server.catalogue import card_named
from server.domain.precision import Execution
from server.settings import processors
from tests.benchmarks.events.combinations import Line
from tests.benchmarks.events.evaluate import STARTED_AT, figure, scored_line
from tests.benchmarks.events.footage import frames_of
from tests.benchmarks.events.layouts import Kit, imported, kit_in, other_sectors, turned
from tests.benchmarks.serving.contestants import OverHttp, labels_of
from tests.benchmarks.serving.processes import Hosted
from tests.benchmarks.serving.work import ensemble_named
from tests.policies.stories import events_of

TODAY = ("yolov3-tiny", "hog-people", "hog-people-small")
NEXT = ("yolov3-tiny", "nanodet-g")
THREE = (*NEXT, "ssdlite-people")
FLOORS = {"nanodet-g": 0.2}
"""The score floors of the cards, where the files hold lower scores."""
_SECOND_US = 1_000_000
_BURST, _ROUNDS, _CLIENTS, _SERVED_S = 8, 3, 4, 8.0
_SERVED = "CPU ms an image | images/s by the CPU time, on all cores | MB"


@dataclass(frozen=True, slots=True)
class Choice:
    """A row: an ensemble and the policy's lines about it."""

    name: str
    models: tuple[str, ...]
    lines: str


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip of the kit: the target that it shows, its pictures a second, and the rates that are asked about."""

    name: str
    target: str
    pictures_per_s: float
    rates: tuple[float, ...]


CLIPS = (
    Clip("pets_s2l1", "person", 10.0, (10.0, 5.0, 2.0, 1.0)),
    Clip("motorway_count", "vehicle", 25.0, (5.0,)),
)


def choices() -> Iterator[Choice]:
    """The default before 0.3.0, today's default, its models under the other rules, and each model alone."""
    yield Choice("before 0.3: yolov3-tiny, both HOG, `weighted`", TODAY, 'sensitivity = { rule = "weighted" }')
    yield Choice("**default**: yolov3-tiny, nanodet-g, `agreement`", NEXT, "")
    for rule in ("any", "majority", "all", "evidence"):
        yield Choice(f"yolov3-tiny, nanodet-g, `{rule}`", NEXT, f'sensitivity = {{ rule = "{rule}" }}')
    yield Choice("yolov3-tiny, nanodet-g, ssdlite-people, `agreement`", THREE, "")
    yield Choice("the same, `majority`", THREE, 'sensitivity = { rule = "majority" }')
    yield Choice("the same, `evidence`", THREE, 'sensitivity = { rule = "evidence" }')
    for model in (*NEXT, "ssdlite-people", "hog-people", "hog-people-small"):
        yield Choice(f"{model} alone", (model,), 'sensitivity = { rule = "any" }')


@click.command()
@click.option("--seen", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--kit", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--layouts", default=0, help="So many other layouts of sectors, for the first two rows.")
@click.option("--footage", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Measure the cost too.")
@click.option("--execution", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
def main(seen: Path, kit: Path, layouts: int, footage: Path | None, execution: Execution) -> None:
    """Print the table as it stands in the README."""
    scorer, rows = imported(kit / "score_events.py"), list(choices())
    for clip in CLIPS:
        rates = " | ".join(f"{rate:g}" for rate in clip.rates)
        click.echo(f"\n| `{clip.name}`: event F1 (presence F1), right directions | {rates} |")
        click.echo("|---" * (1 + len(clip.rates)) + "|")
        for choice in rows:
            if _is_seen(seen, clip, choice):
                cells = (_shown(_asked(scorer, seen, kit, clip, choice, rate)) for rate in clip.rates)
                click.echo(f"| {choice.name} | {' | '.join(cells)} |")
    if layouts:
        asked = [row for row in rows[:2] if _is_seen(seen, CLIPS[0], row)]
        _other_sectors(seen, kit_in(kit, CLIPS[0].name), asked, layouts)
    if footage is not None:
        _costs(footage, list(dict.fromkeys(choice.models for choice in rows)), execution)


def _is_seen(seen: Path, clip: Clip, choice: Choice) -> bool:
    return all((seen / clip.name / f"{model}.jsonl").exists() for model in choice.models)


def _shown(groups: dict[str, Any]) -> str:
    overall, presence = groups["overall"], groups["presence"]
    with_presence = "" if presence["f1"] is None else f" ({figure(presence['f1'])})"
    turns = overall.get("direction_accuracy")
    return f"{figure(overall['f1'])}{with_presence}" + ("" if turns is None else f", {100 * turns:.1f} %")


def _asked(scorer: Any, seen: Path, kit: Path, clip: Clip, choice: Choice, rate: float) -> dict[str, Any]:
    """The scores of a row at a rate, all phases pooled."""
    sectors, truth = (json.loads((kit / clip.name / f"{what}.json").read_text()) for what in ("sectors", "truth"))
    frames = list(_observations(seen, clip, choice.models, tuple(sectors["size"])))
    return _scored(scorer, frames, sectors, truth, clip, choice, rate)


def _scored(
    scorer: Any,
    frames: Sequence[Observation],
    sectors: dict[str, Any],
    truth: dict[str, Any],
    clip: Clip,
    choice: Choice,
    rate: float,
) -> dict[str, Any]:
    step, policy = round(clip.pictures_per_s / rate), _policy(sectors, clip.target, choice.lines)
    pairs = []
    for phase in range(step):
        events = events_of(policy, frames[phase::step])
        pairs.append((truth, [(json.loads(scored_line(event, truth["camera"])), "ours") for event in events]))
    groups: dict[str, Any] = scorer.score(pairs, period=step / clip.pictures_per_s)[0]["groups"]
    return groups


def _other_sectors(seen: Path, kit: Kit, rows: Sequence[Choice], layouts: int) -> None:
    """The first clip on sectors that no score and no constant was chosen on, and backwards."""
    clip = CLIPS[0]
    click.echo(f"\n| {layouts} other layouts: event F1 (presence F1) | {' | '.join(f'{r:g}' for r in clip.rates)} |")
    click.echo("|---" * (1 + len(clip.rates)) + "|")
    others = [other_sectors(kit.sectors, number) for number in range(100, 100 + layouts)]
    for choice in rows:
        frames = list(_observations(seen, clip, choice.models, tuple(kit.sectors["size"])))
        first_us, last_us = frames[0].at_us, frames[-1].at_us
        back = [replace(frame, at_us=first_us + last_us - frame.at_us) for frame in reversed(frames)]
        asked = (
            ("other layouts", frames, kit.tracks, others),
            ("as drawn, backwards", back, turned(kit.tracks, len(frames)), [kit.sectors]),
            ("other layouts, backwards", back, turned(kit.tracks, len(frames)), others),
        )
        for what, shown, tracks, layout in asked:
            cells = []
            for rate in clip.rates:
                groups = []
                for sectors in layout:
                    events = kit.derive.derive(tracks, sectors, clip.pictures_per_s, len(frames), True)
                    duration_s = len(frames) / clip.pictures_per_s
                    truth = {"camera": sectors["camera"], "duration": duration_s, "events": events}
                    groups.append(_scored(kit.score, shown, sectors, truth, clip, choice, rate))
                f1 = [mean(group[which]["f1"] for group in groups) for which in ("overall", "presence")]
                cells.append(f"{f1[0]:.3f} ({f1[1]:.3f})")
            click.echo(f"| {choice.name}: {what} | {' | '.join(cells)} |")


def _observations(seen: Path, clip: Clip, models: tuple[str, ...], size: tuple[int, int]) -> Iterator[Observation]:
    """The pictures that all these models have seen, in the order of time, with the boxes of the clip's target."""
    answers = {model: _read(seen / clip.name / f"{model}.jsonl", clip.target) for model in models}
    info = EnsembleInfo("tried", tuple(card_named(model).model_info for model in models))
    for frame in sorted(set.intersection(*(set(one) for one in answers.values()))):
        at_us = round(STARTED_AT.timestamp() * _SECOND_US + frame / clip.pictures_per_s * _SECOND_US)
        here = {model: one[frame] for model, one in answers.items()}
        yield Observation("clip", "eye", f"burst-{frame:06d}", 0, at_us, info, here, f"sha-{frame}", size=size)


@cache
def _read(file: Path, target: str) -> dict[int, tuple[Prediction, ...] | None]:
    floor, read = FLOORS.get(file.stem, 0.0), msgspec.json.Decoder(Line).decode_lines(file.read_bytes())
    return {
        line.frame: None
        if line.seen is None
        else tuple(
            Prediction(str(label), float(score), tuple(map(float, box)))  # type: ignore[arg-type]
            for label, score, *box in line.seen
            if label in SHIPPED[target] and float(score) >= floor
        )
        for line in read
    }


def _policy(sectors: dict[str, Any], target: str, lines: str) -> Any:
    text = f'site = "clip"\ntargets = ["{target}"]\n{lines}\n'
    for sector in sectors["sectors"]:
        text += f"[cameras.eye.sectors.{sector['name']}]\npolygon = {json.dumps(sector['polygon'])}\n"
    for line in sectors["lines"]:
        text += f"[cameras.eye.lines.{line['name']}]\na = {json.dumps(line['a'])}\nb = {json.dumps(line['b'])}\n"
        text += f"directions = {json.dumps(line['directions'])}\n"
    return parse_site_policy(text).camera("eye")


def _costs(footage: Path, choices: Sequence[tuple[str, ...]], execution: Execution) -> None:
    """CPU time of a frame of each ensemble with `frame-change`, and images a second of three by the server."""
    torch.set_num_threads(1)
    burst = frames_of(footage, "768x576")[:_BURST]
    names = {models: ",".join((*models, "frame-change")) for models in choices}
    made = {models: ensemble_named(name, footage, execution) for models, name in names.items()}
    least = dict.fromkeys(choices, float("inf"))
    for ensemble in made.values():
        ensemble.enter()
        ensemble.answer(burst)
    for models, ensemble in _ROUNDS * list(made.items()):
        began = time.thread_time()
        ensemble.answer(burst)
        least[models] = min(least[models], (time.thread_time() - began) / len(burst))
    click.echo(f"\n| models, with `frame-change`, {execution} | CPU ms a frame | of the first |\n|---|---|---|")
    for models, cost_s in least.items():
        click.echo(f"| {', '.join(models)} | {1e3 * cost_s:.0f} | {cost_s / least[choices[0]]:.2f} |")
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        hosts: dict[tuple[str, ...], OverHttp] = {}
        for number, models in enumerate((TODAY, NEXT, THREE)):
            folder = Path(place) / str(number)
            folder.mkdir()
            arguments = (names[models], str(footage), str(folder), execution)
            hosted = Hosted("tests.benchmarks.serving.served", *arguments, log=folder / "server.log")
            expected = {b"".join(burst): labels_of(made[models], made[models].answer(burst))}
            hosts[models] = OverHttp(stack.enter_context(hosted), expected)
        click.echo(f"\n| through the server, {_CLIENTS} clients, bursts of {_BURST} | load | images/s | {_SERVED} |")
        click.echo("|---" * 6 + "|")
        for models, host in _ROUNDS * list(hosts.items()):
            seen = host.measure([burst], _CLIENTS, _SERVED_S)
            rate, cost_ms = seen.images / seen.seconds, 1e3 * seen.cpu_s / max(1, seen.images)
            of_cpu = 1e3 * processors() / cost_ms
            load = os.getloadavg()[0]
            click.echo(
                f"| {names[models]} | {load:.1f} | {rate:.1f} | {cost_ms:.0f} | {of_cpu:.1f} | {seen.peak_mb:.0f} |"
            )


if __name__ == "__main__":
    main()
