"""What a page asks of the past, and what it gets."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Literal

import msgspec

from policies.events import Event
from policies.geometry import Point

State = Literal["waiting", "working", "done", "cut", "failed"]
"""`cut`: its time was over before the stretch was; what is there is exact as far as it goes."""


class Job(msgspec.Struct, frozen=True, dict=True):
    """A stretch of the past of some cameras of a site, to be folded under each of some policies (their TOML).

    With `paths`, so many paths of tracks under the first policy are collected at most. The same job has the same id, in
    every process and at every time. `edition` names what was stored of the stretch: when that changes, it is another
    job.
    """

    site: str
    cameras: tuple[str, ...]
    texts: tuple[str, ...]
    since_us: int
    until_us: int
    limit_s: float = 20.0
    paths: int = 0
    edition: str = ""

    @cached_property
    def id(self) -> str:
        """32 hexadecimal digits."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]


class Span(msgspec.Struct, frozen=True):
    """What is done of one camera. `events` has those of each text, in the order of `Job.texts`.

    The events are all that are settled from the stretch's begin to before `until_us`, the instant to which the fold has
    come: the stretch's begin while the fold reads what precedes it. `observed_us` is how long the camera was watched,
    `first_us` and `last_us` are the instants of its first and last frame there (0: none).
    """

    camera: str
    until_us: int
    frames: int = 0
    observed_us: int = 0
    events: tuple[tuple[Event, ...], ...] = ()
    is_complete: bool = False
    paths: tuple[tuple[Point, ...], ...] = ()
    first_us: int = 0
    last_us: int = 0


class Replayed(msgspec.Struct, frozen=True):
    """A job as far as it is done. `spans` follow the order of `Job.cameras`; a camera not begun has none yet.

    `why` says in a sentence why there is nothing, or not all, and what to do; empty otherwise.
    """

    job: Job
    state: State
    spans: tuple[Span, ...] = ()
    took_s: float = 0.0
    why: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come, however often somebody asks."""
        return self.state in ("done", "cut", "failed")

    @property
    def share(self) -> float:
        """How much of the stretch is done, of all cameras together: 0..1."""
        length_us = max(1, self.job.until_us - self.job.since_us)
        parts = [1.0 if s.is_complete else min(1.0, (s.until_us - self.job.since_us) / length_us) for s in self.spans]
        return 1.0 if self.state == "done" else sum(parts) / max(1, len(self.job.cameras))

    def events(self, text: int) -> list[Event]:
        """The events under one of `Job.texts`, of all cameras."""
        return [event for span in self.spans if span.events for event in span.events[text]]
