"""How much sooner provisional events are told: `python -m tests.benchmarks.provisional --data DIR [--answer-s 10]`.

What was observed (of `sectorwatch demo --keep DIR`, or `evaluate --out DIR`) goes once more through the pipeline, as
bursts of `--frames` frames one second apart, in order, on a clock that only the answers move: each frame's takes an
equal part of `--answer-s`. So the figures follow from the events and not from the machine or what else runs on it.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import click
import msgspec

from policies.events import instant
from policies.observation import Box, Observation
from server.domain.burst import Burst, Limits, decode_burst
from server.domain.records import Announcement
from server.pipeline.pipeline import Answers, Early, Pipeline
from server.pipeline.site_policies import Sites
from server.store import open_store
from tests.stand_ins import ManualClock

EVERY_S = 1.0


class Paced:
    """An ensemble that gives the answers that were stored, a frame at a time, each after a part of the whole."""

    def __init__(self, seen: Sequence[Observation], clock: ManualClock, frame_s: float) -> None:
        self.ensemble_info = seen[0].ensemble_info
        self._answers = {image_of(one): one.answers for one in seen}
        self._clock = clock
        self._frame_s = frame_s

    def only(self, model: str | None, within_s: float | None = None) -> Paced:
        return self

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, early: Early | None = None
    ) -> list[Answers]:
        said: list[Answers] = []
        for image in images:
            self._clock.advance(self._frame_s)
            said.append(self._answers[image])
            if early is not None and len(said) < len(images):
                early(tuple(said))
        return said


def image_of(seen: Observation) -> bytes:
    return f"{seen.burst_id} {seen.index}".encode()


def bursts(seen: Sequence[Observation], frames: int) -> Iterator[Burst]:
    for first in range(0, len(seen), frames):
        some = seen[first : first + frames]
        images = [image_of(one) for one in some]
        told = {
            "burst_id": f"burst-{first:06d}",
            "site": some[0].site,
            "camera": some[0].camera,
            "captured_at": instant(some[0].at_us).isoformat(),
            "offsets_ms": [(one.at_us - some[0].at_us) // 1000 for one in some],
            "frame_sha256": [hashlib.sha256(image).hexdigest() for image in images],
        }
        yield decode_burst(msgspec.json.encode(told), images, Limits())


def thinned(seen: Sequence[Observation]) -> list[Observation]:
    """One frame each `EVERY_S`."""
    kept: list[Observation] = []
    for one in seen:
        if not kept or one.at_us - kept[-1].at_us >= EVERY_S * 1e6 - 1000:
            kept.append(one)
    return kept


def measured(seen: Sequence[Observation], policy: str, frames: int, answer_s: float) -> str:
    clock = ManualClock(seen[-1].at_us)
    provisional: dict[str, int] = {}
    sooner_s: list[float] = []
    withdrawn: list[str] = []

    def foretell(told: Sequence[Announcement]) -> None:
        for one in told:
            if one.what == "provisional":
                provisional[one.logged.event.id] = clock()
            else:
                withdrawn.append(one.logged.event.id)

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "site.toml").write_text(policy, encoding="utf-8")
        store = open_store(f"sqlite:///{folder}/store.sqlite", clock)
        store.upgrade()
        ensemble = Paced(seen, clock, answer_s / frames)
        pipeline = Pipeline(ensemble, store, Sites(Path(folder)), clock, foretell=foretell)
        for one in bursts(seen, frames):
            told = pipeline.process(one).burst.events
            sooner_s += [(clock() - provisional.get(logged.event.id, clock())) / 1e6 for logged in told]
        events = len(store.events())
        store.close()
    early = sum(one > 0 for one in sooner_s)
    return (
        f"{events} events of {len(seen)} frames in bursts of {frames}, answered in {answer_s:g} s: {early} told before "
        f"their burst was ({early / events:.0%}), {median(sooner_s):.1f} s sooner in the median of all, "
        f"{max(sooner_s):.1f} s at most; {len(withdrawn)} withdrawn"
    )


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="Folder of demo or evaluate.")
@click.option("--frames", default=10, show_default=True, help="Frames of a burst.")
@click.option("--answer-s", default=10.0, show_default=True, help="How long the ensemble takes for a full burst.")
def main(data: Path, frames: int, answer_s: float) -> None:
    """Measure, and print."""
    store = open_store(f"sqlite:///{data.resolve()}/data/sectorwatch.sqlite")
    for head in store.cameras():
        newest = store.past.newest(head.site)
        policy = store.past.policy(newest.policy) if newest else None
        assert policy is not None, "it judged a burst"
        seen = thinned(list(store.observations(head.site, head.camera)))
        sys.stdout.write(f"{head.site}/{head.camera}: {measured(seen, policy.text, frames, answer_s)}\n")


if __name__ == "__main__":
    main()
