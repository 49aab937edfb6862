"""How long a site keeps what, and what is no longer kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from policies.events import Event, microseconds
from policies.site.toml_errors import suggest
from server.domain.times.clock import SECOND_US

T = TypeVar("T")

DAY_US = 86_400 * SECOND_US

FILLED = 0.8
"""The part of a disk from which the server warns."""


FramesKept = Literal["none", "events", "all"]
"""Which frames of a site are kept as pictures."""


@dataclass(frozen=True, slots=True)
class KeepFrames:
    """Which frames of a site are kept, for how many days by its cameras' own frames, and in how many bytes.

    0: no limit. `which` None: nobody chose. Then it is `events`, or `none` for a site that is older than kept frames.
    """

    which: FramesKept | None = None
    days: float = 14.0
    max_bytes: int = 2_000_000_000

    def chosen(self, *, is_older: bool) -> KeepFrames:
        """The same, with the default for the age of the site where nobody chose."""
        return self if self.which is not None else replace(self, which="none" if is_older else "events")


@dataclass(frozen=True, slots=True)
class Keep:
    """How long a site's bursts and events are kept, by its cameras' own frames, and in how many bytes; 0: no limit.

    `annotated`: annotated events, and the bursts that prove them, stay beyond that; of frames, annotated ones go last.
    """

    observations_days: float = 0.0
    events_days: float = 0.0
    max_bytes: int = 0
    annotated: bool = True
    frames: KeepFrames = KeepFrames()


class SiteKeeping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one site keeps, where it differs from the server's settings of these names."""

    keep_observations_days: Annotated[float, Meta(ge=0)] | None = None
    keep_events_days: Annotated[float, Meta(ge=0)] | None = None
    max_bytes: Annotated[int, Meta(ge=0)] | None = None
    keep_annotated: bool | None = None
    keep_frames: FramesKept | None = None
    keep_frames_days: Annotated[float, Meta(ge=0)] | None = None
    keep_frames_bytes: Annotated[int, Meta(ge=0)] | None = None

    def over(self, usual: Keep) -> Keep:
        """What the site keeps, where others keep what is `usual`."""

        def either(mine: T | None, theirs: T) -> T:
            return theirs if mine is None else mine

        return Keep(
            either(self.keep_observations_days, usual.observations_days),
            either(self.keep_events_days, usual.events_days),
            either(self.max_bytes, usual.max_bytes),
            either(self.keep_annotated, usual.annotated),
            KeepFrames(
                either(self.keep_frames, usual.frames.which),
                either(self.keep_frames_days, usual.frames.days),
                either(self.keep_frames_bytes, usual.frames.max_bytes),
            ),
        )


_SITE_FIELDS = {field.name: field for field in msgspec.structs.fields(SiteKeeping)}


def site_faults(sites: object) -> Iterator[tuple[list[str], str]]:
    """What is wrong in the tables of sites, each with its place in them."""
    if not isinstance(sites, dict):
        yield [], "`retention`: expected a table for each site, as `[retention.SITE]`"
        return
    for site, own in sites.items():
        if not isinstance(own, dict):
            yield [site], f"`retention`: expected a table for each site, as `[retention.{site}]`"
            continue
        for name, value in own.items():
            if name not in _SITE_FIELDS:
                yield [site, name], f"unknown setting `{name}` of a site{suggest(name, _SITE_FIELDS)}"
                continue
            try:
                msgspec.convert(value, _SITE_FIELDS[name].type)
            except msgspec.ValidationError as error:
                yield [site, name], f"`{name}` of site `{site}`: {str(error).lower()}"


@dataclass(frozen=True, slots=True)
class Erasure:
    """A stretch of a camera that a person had erased. The note of it is never deleted.

    `finished_at_us` is None while rows are still being deleted. Readers take all of it as gone from the beginning.
    """

    number: int
    site: str
    camera: str
    since_us: int
    until_us: int
    keeps_annotated: bool
    author: str
    note: str | None
    asked_at_us: int
    finished_at_us: int | None
    bursts: int
    events: int
    annotations: int
    frames: int = 0

    def covers(self, event: Event) -> bool:
        """Whether the event began, ended or was confirmed in the stretch."""
        instants = (event.started_at, event.ended_at, event.confirmed_at)
        return any(self.since_us <= microseconds(at) < self.until_us for at in instants if at is not None)


class Stretch(NamedTuple):
    """From an instant (us; None: from the first frame) to before another."""

    since_us: int | None
    until_us: int

    def meets(self, since_us: int | None, until_us: int | None) -> bool:
        """Whether it has an instant in common with a stretch; None: no limit."""
        begins_before = until_us is None or self.since_us is None or self.since_us < until_us
        return begins_before and (since_us is None or self.until_us > since_us)


@dataclass(frozen=True, slots=True)
class Gone:
    """What is no longer kept of a camera.

    `bursts` are stretches of which no burst is kept, in order. Of an erasure that is not finished, all counts as gone.
    Bursts before `bursts_from_us`, and events confirmed before `events_from_us`, are not kept (None: all are), but for
    annotated events and the bursts that prove them.
    """

    site: str
    camera: str
    bursts: tuple[Stretch, ...] = ()
    bursts_from_us: int | None = None
    events_from_us: int | None = None
    erasures: tuple[Erasure, ...] = ()

    def burst_at(self, at_us: int) -> bool:
        """Whether bursts of this instant are no longer kept."""
        return self.is_burst_gone(at_us, at_us + 1)

    def is_burst_gone(self, since_us: int | None, until_us: int | None) -> bool:
        """Whether a part of a stretch has no bursts any more."""
        return any(stretch.meets(since_us, until_us) for stretch in self.bursts)

    def is_event_gone(self, event: Event) -> bool:
        """Whether an event that the frames give is not in the log, because it is no longer kept.

        An annotated event of that time may be in the log.
        """
        confirmed_us = microseconds(event.confirmed_at)
        return (self.events_from_us is not None and confirmed_us < self.events_from_us) or any(
            erasure.covers(event) for erasure in self.erasures
        )

    def is_proof_gone(self, event: Event) -> bool:
        """Whether the frame that settled an event is no longer kept, so that no fold gives it."""
        return self.burst_at(microseconds(event.confirmed_at))

    def within(self, since_us: int | None, until_us: int | None) -> Gone:
        """The part that concerns a stretch."""

        def if_later(border_us: int | None) -> int | None:
            return None if border_us is None or (since_us is not None and border_us <= since_us) else border_us

        return Gone(
            self.site,
            self.camera,
            tuple(stretch for stretch in self.bursts if stretch.meets(since_us, until_us)),
            if_later(self.bursts_from_us),
            if_later(self.events_from_us),
            tuple(e for e in self.erasures if Stretch(e.since_us, e.until_us).meets(since_us, until_us)),
        )

    @property
    def is_nothing(self) -> bool:
        return not self.bursts and self.events_from_us is None and not self.erasures


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep deleted."""

    bursts: int = 0
    events: int = 0
    frames: int = 0

    def __add__(self, other: Swept) -> Swept:
        return Swept(self.bursts + other.bursts, self.events + other.events, self.frames + other.frames)


@dataclass(frozen=True, slots=True)
class Space:
    """The room that a database takes and has left.

    `used_bytes`: without free pages. `free_bytes`: of its disk, with free pages; None where the disk is that of another
    machine. `disk_bytes`: size of that disk. `grows_bytes_a_day`: None until the growth of an hour is known.
    `reusable_bytes`: free pages inside the file. `gives_back`: whether the file shrinks when rows are deleted.
    `frames_bytes`: what kept frames take beside the database; the growth counts them.
    """

    used_bytes: int
    reusable_bytes: int
    free_bytes: int | None
    disk_bytes: int | None
    grows_bytes_a_day: float | None
    gives_back: bool
    frames_bytes: int = 0

    @property
    def full_in_s(self) -> float | None:
        """Seconds until the disk is full at this rate; infinite where nothing grows, None where it is not known."""
        if self.free_bytes is None or self.grows_bytes_a_day is None:
            return None
        return float("inf") if self.grows_bytes_a_day <= 0 else self.free_bytes / self.grows_bytes_a_day * 86_400

    @property
    def filled(self) -> float | None:
        """The part of the disk that is taken, by whatever."""
        if self.free_bytes is None or not self.disk_bytes:
            return None
        return max(0.0, 1 - self.free_bytes / self.disk_bytes)


def merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The stretches (first and last instant) in order, with those that touch made one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(stretches):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined
