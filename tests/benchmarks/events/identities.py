"""How often a person who is seen again is the same track: on true boxes whose owners are known, and not told.

    python -m tests.benchmarks.events.identities --mot GT WIDTHxHEIGHT FPS [--mot ...] [--rate 5 --rate 2 --rate 1]

`GT` is a ground truth as MOTChallenge writes it (frame, id, left, top, width, height in pixels, ...; from 1). The
package `motmetrics` of the Python package index carries two in its folder `data`: TUD-Campus and TUD-Stadtmitte,
people near the camera who pass each other, 640x480 at 25 a second (Andriluka, Roth and Schiele 2008, 2010).

Each sight of a person within 3 s of the one before counts; it is right when it continues the same track. All phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from policies.fold import advance, initial_state
from policies.observation import Box, EnsembleInfo, ModelInfo, Observation, Prediction
from policies.site.site_policy import parse_site_policy

_TRUE = EnsembleInfo("annotators", (ModelInfo("annotators", frozenset({"person"}), boxes=True),))
_POLICY = parse_site_policy('site = "clip"\n').camera("eye")
_BEGAN_US = 1_700_000_000_000_000
_WITHIN_US = 3_000_000


@dataclass(frozen=True, slots=True)
class Clip:
    """Who is where in each picture, in 0..1 of it."""

    name: str
    pictures: Sequence[dict[int, Box]]
    size: tuple[int, int]
    fps: float


@click.command()
@click.option(
    "--mot", "clips", type=(click.Path(exists=True, path_type=Path), str, float), multiple=True, required=True
)
@click.option("--rate", "rates", multiple=True, type=float, default=(5.0, 2.0, 1.0))
def main(clips: Sequence[tuple[Path, str, float]], rates: Sequence[float]) -> None:
    """Measure, and print."""
    click.echo(f"sights that continue the right track, of all, at {', '.join(f'{rate:g}' for rate in rates)} a second")
    for file, size, fps in clips:
        clip = _clip(file, size, fps)
        cells = []
        for rate in rates:
            step = max(1, round(fps / rate))
            kept, seen = map(sum, zip(*(_kept(clip, step, phase) for phase in range(step)), strict=True))
            cells.append(f"{kept / seen:.3f} of {seen}")
        click.echo(f"{clip.name:<20} " + "  ".join(cells))


def _clip(file: Path, size: str, fps: float) -> Clip:
    wide, high = map(int, size.split("x"))
    pictures: dict[int, dict[int, Box]] = {}
    for line in file.read_text().splitlines():
        picture, who, left, top, width, height, counts = map(float, line.split(",")[:7])
        edges = (left / wide, top / high, (left + width) / wide, (top + height) / high)
        box: Box = tuple(round(min(max(edge, 0.0), 1.0), 5) for edge in edges)  # type: ignore[assignment]
        if counts and box[0] < box[2] and box[1] < box[3]:
            pictures.setdefault(int(picture), {})[int(who)] = box
    return Clip(
        file.parent.name, [pictures.get(number, {}) for number in range(1, max(pictures) + 1)], (wide, high), fps
    )


def _kept(clip: Clip, step: int, phase: int) -> tuple[int, int]:
    """How many sights continue the right track, and how many there are."""
    state, last, kept, seen = initial_state(), dict[int, tuple[str, int]](), 0, 0
    for number in range(phase, len(clip.pictures), step):
        at_us = _BEGAN_US + round(number / clip.fps * 1e6)
        state, _events = advance(_POLICY, state, _observation(clip, number, at_us))
        tracks = {track.box: track.id for track in state.tracks if track.seen_us == at_us}
        for who, box in clip.pictures[number].items():
            track = tracks.get(box)
            if track is None:
                continue
            if who in last and at_us - last[who][1] <= _WITHIN_US:
                seen += 1
                kept += last[who][0] == track
            last[who] = (track, at_us)
    return kept, seen


def _observation(clip: Clip, number: int, at_us: int) -> Observation:
    said = tuple(Prediction("person", 1.0, box) for box in sorted(clip.pictures[number].values()))
    return Observation(
        "clip", "eye", f"{number:08d}", 0, at_us, _TRUE, {"annotators": said}, str(number), size=clip.size
    )


if __name__ == "__main__":
    main()
