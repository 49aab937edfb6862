"""Retention: what is deleted because of its age or size, or on a person's request; and the room that is left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby

from sqlalchemy import Engine

from server.domain.errors import DatabaseDamaged, RetryLater, SectorwatchError
from server.domain.keeping import Erasure, Gone, Keep, Space, Swept
from server.domain.times.clock import SECOND_US, Clock
from server.store.engine import busy_s, leave_to_others, reading, writing
from server.store.retention import erasure, space
from server.store.retention.events import annotated, delete_older_events, has_older_events
from server.store.retention.frame_limits import FrameSweep
from server.store.retention.frames import Frames
from server.store.retention.gone import read_all_gone, read_erasures, read_gone
from server.store.retention.limits import NOTHING, Border, Name, border, borders_by_size, clocks, with_older
from server.store.retention.slices import Region, move_border, remove, slices
from server.store.rows import Part, Versions
from server.store.schema import keeping

log = logging.getLogger(__name__)

KeepOf = Callable[[str], Keep]
"""Gives what a site keeps."""

_LOOK_AGAIN_US = 600 * SECOND_US
_SHARE, _SHARE_BEHIND = 0.2, 0.6
"""Of the time of one thread that a sweep takes, and of one that is behind."""
_BEHIND_US = 3600 * SECOND_US
"""A sweep that goes on for so long is behind: as much comes meanwhile as it deletes."""


@contextmanager
def _alone(site: str, camera: str | None = None) -> Iterator[None]:
    """What is damaged of one camera, or of one site, keeps no other from being swept."""
    try:
        yield
    except RetryLater:
        raise
    except SectorwatchError as error:
        log.error("retention failed", extra={"site": site, "camera": camera, "cause": error.detail})


class Retention(Part):
    """Deletes what is not to be kept, a slice at a time beside turns, in whole slices whenever it is stopped."""

    def __init__(self, engine: Engine, clock: Clock, versions: Versions, frames: Frames) -> None:
        super().__init__(engine, clock, versions)
        self._frames = frames
        self._frame_sweep = FrameSweep(engine, clock, frames)
        self._looked_us = -_LOOK_AGAIN_US

    def sweep(
        self,
        keep_of: KeepOf,
        is_stopped: Callable[[], bool] = lambda: False,
        wait: Callable[[float], object] = lambda _seconds: None,
    ) -> Swept:
        """Finish erasures, delete what is too old or too much, and give its space back.

        `wait` is called between, to leave the database to others. It ends early when `is_stopped`; the next sweep goes
        on. Several processes may sweep at once.
        """
        done, pace = Swept(), _Pace(self._clock, is_stopped, wait)
        for each in erasure.unfinished(self._engine):
            with _alone(each.site, each.camera):
                self._finish(each, pace)
        with writing(self._engine, lock="keeping") as connection:
            at_us = clocks(connection, self._clock())
        for site, names in groupby(at_us, key=lambda name: name[0]):
            with _alone(site):
                keep = keep_of(site)
                borders = self._borders(site, keep, {name: at_us[name] for name in names})
                older = self._with_older(borders)
                for name, until in borders.items():
                    if name not in older:
                        continue
                    with _alone(*name):
                        done += self._sweep_camera(name, keep, until, pace)
        done += self._sweep_frames(keep_of, at_us, pace)
        space.give_back(self._engine, is_stopped, wait)
        space.sample(self._engine, self._clock(), self._frames.local_bytes())
        if done != Swept():
            extra = {"bursts": done.bursts, "events": done.events, "frames": done.frames}
            log.info("no longer kept", extra=extra)
        return done

    def sweep_frames(
        self,
        keep_of: KeepOf,
        is_stopped: Callable[[], bool] = lambda: False,
        wait: Callable[[float], object] = lambda _seconds: None,
    ) -> int:
        """The part of a sweep that concerns kept frames; how many went. It finishes what a crash left.

        Between looks at all cameras, only at sites that have too many bytes: what is too old can wait for minutes.
        """
        self._frames.remove_leaving()
        sites, now_us = self._frames.bytes_of_sites(), self._clock()
        is_whole = not self._looked_us <= now_us < self._looked_us + _LOOK_AGAIN_US
        if not is_whole:
            older = self._frames.older_sites()
            most = {site: keep_of(site).frames.chosen(is_older=site in older).max_bytes for site in sites}
            sites = {site: size for site, size in sites.items() if most[site] and size > most[site]}
        if not sites:
            return 0
        with writing(self._engine, lock="keeping") as connection:
            at_us = clocks(connection, now_us)
        count = self._sweep_frames(keep_of, at_us, _Pace(self._clock, is_stopped, wait), sites).frames
        if is_whole and not is_stopped():
            self._looked_us = now_us
        return count

    def _sweep_frames(
        self, keep_of: KeepOf, at_us: Mapping[Name, int], pace: _Pace, sites: Container[str] | None = None
    ) -> Swept:
        """Kept frames (of these sites) go after bursts and events: what these leave decides of them."""
        try:
            self._frames.remove_leaving()
        except SectorwatchError as error:
            log.error("pictures not deleted", extra={"cause": error.detail})
            return Swept()
        kept = [name for name in self._frames.cameras() if sites is None or name[0] in sites]
        older, count = self._frames.older_sites() if kept else frozenset(), 0
        for site, names in groupby(kept, key=lambda name: name[0]):
            keep = keep_of(site)
            chosen = keep.frames.chosen(is_older=site in older)
            of_site = {name: at_us.get(name, self._clock()) for name in names}
            for name, camera_us in of_site.items():
                with _alone(*name):
                    for some in self._frame_sweep.sweep_camera(name, keep, chosen, camera_us):
                        count += some
                        if pace.is_over():
                            return Swept(frames=count)
                if pace.is_over():
                    return Swept(frames=count)
            with _alone(site):
                for some in self._frame_sweep.sweep_size(site, keep, chosen, of_site):
                    count += some
                    if pace.is_over():
                        return Swept(frames=count)
        return Swept(frames=count)

    def gone(self, site: str, camera: str) -> Gone:
        """What is no longer kept of a camera."""
        with reading(self._engine) as connection:
            return read_gone(connection, site, camera)

    def all_gone(self, site: str | None = None, camera: str | None = None) -> list[Gone]:
        """What is no longer kept of each camera (of these names), where anything is."""
        with reading(self._engine) as connection:
            every = read_all_gone(connection, site, camera)
        return [each for each in every if not each.is_nothing]

    def erase(
        self,
        site: str,
        camera: str,
        since_us: int,
        until_us: int,
        *,
        author: str,
        note: str | None = None,
        keeps_annotated: bool = False,
        by: str | None = None,
    ) -> Erasure:
        """Delete a camera's bursts with a frame in the stretch, its events, annotations and pictures; leaves a note.

        Whole bursts go. With `keeps_annotated`, annotated events stay, with what proves them. `by`: who asks, for a
        line in the audit, as `Annotations.add`. Raises Unprocessable for a stretch that is not over. If it is
        interrupted, the next sweep goes on.
        """
        asked = erasure.ask(
            self._engine,
            self._versions,
            self._clock,
            self._frames,
            site,
            camera,
            since_us,
            until_us,
            author=author,
            note=note,
            keeps_annotated=keeps_annotated,
            by=by,
        )
        self._finish(asked, _Pace(self._clock))
        return erasure.read(self._engine, asked.number)

    def erasures(self) -> list[Erasure]:
        """The notes of all erasures, in the order in which they were asked for."""
        with reading(self._engine) as connection:
            return read_erasures(connection)

    def space(self) -> Space:
        """The room that the database takes and has left."""
        return replace(space.read_space(self._engine), frames_bytes=self._frames.local_bytes())

    def compact(self) -> None:
        """Write a SQLite file anew without free pages. Raises ConfigurationError or DatabaseUnavailable."""
        space.compact(self._engine)

    def check_disk(self) -> None:
        """Raises DatabaseUnavailable while the disk takes nothing."""
        space.check_disk(self._engine)

    def try_disk(self) -> None:
        """Find out whether the disk takes what a burst writes, unless a burst has just shown it."""
        space.try_disk(self._engine)

    def _finish(self, asked: Erasure, pace: _Pace) -> None:
        for _ in erasure.finish(self._engine, self._versions, self._clock, self._frames, asked):
            if pace.is_over():
                return
        space.forget_log(self._engine)
        log.info("erased", extra={"erasure": asked.number, "site": asked.site, "camera": asked.camera})

    def _borders(self, site: str, keep: Keep, at_us: Mapping[Name, int]) -> dict[Name, Border]:
        """From where on each camera of a site is kept."""
        by_size: dict[Name, Border] = {}
        if keep.max_bytes:
            with reading(self._engine) as connection:
                by_size = borders_by_size(connection, site, keep.max_bytes, at_us)
        return {name: border(keep, at_us[name], by_size.get(name, NOTHING)) for name in at_us}

    def _with_older(self, borders: Mapping[Name, Border]) -> Container[Name]:
        """Those of these cameras that may have something to be deleted."""
        try:
            with reading(self._engine) as connection:
                return with_older(connection, borders)
        except DatabaseDamaged:  # of one camera: each is looked at by itself
            return borders

    def _sweep_camera(self, name: Name, keep: Keep, until: Border, pace: _Pace) -> Swept:
        site, camera = name
        bursts = events = 0
        if until.bursts_us is not None and not pace.is_stopped():
            stay = []
            if keep.annotated:
                with reading(self._engine) as connection:
                    stay = annotated(connection, site, camera)
            region = Region(site, camera, None, until.bursts_us, stay)
            for planned in slices(self._engine, self._versions, region):
                bursts += remove(self._engine, self._versions, region, planned)
                if pace.is_over():
                    return Swept(bursts, events)
        if until.events_us is not None and not pace.is_stopped():
            old = (self._engine, site, camera, until.events_us)
            if has_older_events(*old, keeps_annotated=keep.annotated):
                self._note_events(name, until.events_us)
                for count in delete_older_events(*old, keeps_annotated=keep.annotated):
                    events += count
                    if pace.is_over():
                        break
        return Swept(bursts, events)

    def _note_events(self, name: Name, before_us: int) -> None:
        """Note first from where on events are kept, so that no reader and no fold takes their lack for a fault."""
        with writing(self._engine, lock="/".join(name)) as connection:
            move_border(connection, name, keeping.c.events_from_us, before_us)


class _Pace:
    """Leaves most of the time to others: waits after each slice. A sweep that is behind leaves less."""

    def __init__(
        self,
        clock: Clock,
        is_stopped: Callable[[], bool] = lambda: False,
        wait: Callable[[float], object] = lambda _seconds: None,
    ) -> None:
        self.is_stopped = is_stopped
        self._clock, self._wait = clock, wait
        self._since_us = clock()
        self._begun_s = busy_s()

    def is_over(self) -> bool:
        """Wait; whether to stop then."""
        is_behind = self._clock() - self._since_us >= _BEHIND_US
        leave_to_others(self._wait, self._begun_s, _SHARE_BEHIND if is_behind else _SHARE)
        self._begun_s = busy_s()
        return self.is_stopped()
