"""Which frames' pictures are kept: rows of the database, which come after a picture and go with it.

A picture is written first and its row second. The transaction that deletes the last row that names a picture notes
that the picture is to leave (`leaving`); it is deleted after the commit. A crash while pictures are kept leaves one
without a row, which `tidy` deletes. A row without a picture counts as no longer kept. The pictures themselves are on a
shelf (`server.frames`), each stored once by its SHA-256.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Row, delete, func, insert, select, update

from server.domain.errors import ConfigurationError, SectorwatchError
from server.domain.keeping import DAY_US, KeepFrames
from server.domain.pictures.kept_frames import Kept, Picture
from server.domain.times.clock import Clock
from server.store.bursts import read_camera, read_frames
from server.store.engine import also_lock, reading, writing
from server.store.retention.frame_list import FrameList
from server.store.retention.frame_rows import delete_rows, key_of, keys_gone, refused, within
from server.store.retention.leaving import (
    AT_ONCE,
    LOCK,
    is_any_noted,
    let_leave,
    noted_of,
    portions,
    remove_noted,
    unnamed,
)
from server.store.retention.ownership import check_owner, own, owner_in, owner_of
from server.store.retention.slices import Region
from server.store.rows import Versions
from server.store.schema import counters, frame_sites, gone_frames, kept_frames

log = logging.getLogger(__name__)

REMEMBERED_DAYS = 60
"""How long it is known that a picture was kept, once it is gone."""


class Shelf(Protocol):
    """Where pictures are (`server.frames`)."""

    @property
    def name(self) -> str: ...
    @property
    def is_local(self) -> bool: ...
    def put(self, sha256: str, image: bytes) -> None: ...
    def has(self, sha256: str) -> bool: ...
    def get(self, sha256: str) -> bytes | None: ...
    def remove(self, digests: Sequence[str]) -> None: ...
    def get_small(self, sha256: str) -> bytes | None: ...
    def put_small(self, sha256: str, image: bytes) -> None: ...
    def left(self) -> Iterator[list[tuple[str, str]]]: ...
    def discard(self, names: Sequence[str]) -> None: ...
    def owner(self) -> bytes | None: ...
    def set_owner(self, mark: bytes) -> None: ...
    def beside(self) -> list[tuple[str, bytes | None]]: ...
    def try_out(self) -> None: ...


Place = Callable[[str], Shelf]
"""Gives the shelf of a database, by the database's name for it."""


class Frames(FrameList):
    """The kept frames of one database. `place` None: they can be counted, and neither read, kept nor deleted."""

    def __init__(self, engine: Engine, clock: Clock, versions: Versions, place: Place | None) -> None:
        super().__init__(engine, clock, versions)
        self._place = place
        self._is_away = False
        self._is_owner = False

    @cached_property
    def shelf(self) -> Shelf:
        """Where this database's pictures are. Raises ConfigurationError where nobody said."""
        if self._place is None:
            raise ConfigurationError("frames are kept as pictures, and their place (`frames_url`) was not given")
        return self._place(f"{self._identity():016x}")

    def check_owner(self, *, claims: bool = False) -> None:
        """Raises ConfigurationError where another database keeps the pictures there, of which this one is a copy."""
        if not self._is_owner:
            try:
                check_owner(self.shelf, owner_of(self._engine), claims=claims)
            except OSError as error:
                raise ConfigurationError(f"{self.shelf.name} does not answer: {error}") from error
            self._is_owner = claims

    def own(self) -> None:
        """Take over the pictures of a database that is no more, of which this one is a copy."""
        own(self.shelf, owner_of(self._engine))

    def abandoned(self) -> list[str]:
        """Folders of this database's pictures under another number, which a damaged database has lost."""
        mine = owner_of(self._engine)
        owners = ((name, owner_in(mark)) for name, mark in self.shelf.beside())
        return [name for name, owner in owners if owner is not None and owner.is_same(mine)]

    def _identity(self) -> int:
        query = select(counters.c.value).where(counters.c.name == LOCK)
        row = self._row(query)
        if row is None:  # a part of a damaged database was saved without it
            with writing(self._engine, lock=LOCK) as connection:
                found = connection.execute(query).scalar_one_or_none()
                if found is None:
                    made = int.from_bytes(hashlib.sha256(str(self._clock()).encode()).digest()[:8], "big") >> 2
                    connection.execute(insert(counters), {"name": LOCK, "value": made})
            return self._identity()
        return int(row.value)

    def older_sites(self) -> frozenset[str]:
        """The sites that are older than kept frames are."""
        return frozenset(row.site for row in self._rows(select(frame_sites.c.site)))

    def tell_once(self, sites: Sequence[str]) -> list[str]:
        """Those of these older sites of which the log has not said that no picture is kept; from now on it counts as
        said.
        """
        untold = frame_sites.c.told_at_us.is_(None) & frame_sites.c.site.in_(sites)
        with writing(self._engine, lock=LOCK) as connection:
            found = sorted(connection.execute(select(frame_sites.c.site).where(untold)).scalars())
            if found:
                connection.execute(update(frame_sites).where(untold).values(told_at_us=self._clock()))
        return found

    def keep(self, pictures: Sequence[Picture]) -> Kept:
        """Keep the pictures of stored bursts' frames. Nothing of an erased time is kept, nor what was kept and is gone.

        Where their place takes no more, those before it are kept.
        """
        stored: list[Picture] = []
        fault: str | None = None
        for picture in pictures:
            try:
                self.check_owner(claims=True)
                self.shelf.put(picture.sha256, picture.image)
            except OSError as error:
                fault = str(error)
                break
            stored.append(picture)
        return Kept(self._noted(stored) if stored else 0, len(pictures) - len(stored), fault)

    def _noted(self, stored: Sequence[Picture]) -> int:
        """Write the rows of stored pictures; how many are new. A picture that gets no row does not stay."""
        digests = [bytes.fromhex(picture.sha256) for picture in stored]
        try:
            count = self._note(stored, digests)
        except SectorwatchError:
            self._take_back(digests)
            raise
        again = [picture for picture in stored if not self.shelf.has(picture.sha256)]
        for picture in again:  # deleted meanwhile, with another row that named it
            self.shelf.put(picture.sha256, picture.image)
        if again:
            with writing(self._engine, lock=LOCK) as connection:
                let_leave(connection, [bytes.fromhex(picture.sha256) for picture in again])
        with suppress(SectorwatchError):  # a sweep says why, and tries again
            self.remove_leaving()
        return count

    def _note(self, stored: Sequence[Picture], digests: Sequence[bytes]) -> int:
        """Pictures of different cameras are noted at the same time; nothing is deleted meanwhile."""
        by_camera = _by_camera(stored)
        first, *others = sorted("/".join((LOCK, *name)) for name in by_camera)
        with writing(self._engine, lock=first) as connection:
            for other in others:
                also_lock(connection, other)
            also_lock(connection, LOCK, is_shared=True)
            rows = [row for name, some in by_camera.items() for row in self._new_rows(connection, name, some)]
            if rows:
                connection.execute(insert(kept_frames), rows)
            lone = unnamed(connection, digests)
        if lone:  # another camera's row may name it by now: this is seen alone only
            with writing(self._engine, lock=LOCK) as connection:
                let_leave(connection, sorted(lone))
        return len(rows)

    def _take_back(self, digests: Sequence[bytes]) -> None:
        """Delete pictures whose rows could not be written, as far as that goes; `tidy` finds what is left."""
        try:
            with reading(self._engine) as connection:
                lone = unnamed(connection, digests)
            self.shelf.remove([each.hex() for each in lone])
        except (SectorwatchError, OSError) as error:
            log.warning("pictures without rows stay until they are tidied up", extra={"cause": str(error)})

    def remove_leaving(self) -> None:
        """Delete the pictures that no row names any more. Raises ConfigurationError where their place refuses."""
        if is_any_noted(self._engine):
            self.check_owner()
            remove_noted(self._engine, self.shelf)

    def _new_rows(
        self, connection: Connection, name: tuple[str, str], pictures: Sequence[Picture]
    ) -> Iterator[dict[str, Any]]:
        known = read_camera(connection, *name)
        if known is None:
            return
        first_us, last_us = min(each.at_us for each in pictures), max(each.at_us for each in pictures)
        inside = kept_frames.c.at_us.between(first_us, last_us)
        query = select(kept_frames.c.at_us, kept_frames.c.sha256).where(kept_frames.c.camera == known.number, inside)
        present = {(row.at_us, row.sha256.hex()) for row in connection.execute(query)}
        went = keys_gone(connection, {key_of(known.number, each.sha256): each.sha256 for each in pictures})
        went |= {each.hex() for each in noted_of(connection, [bytes.fromhex(each.sha256) for each in pictures])}
        never = refused(connection, name)
        for each in pictures:
            place = (each.at_us, each.sha256)
            if place in present or each.sha256 in went or any(a <= each.at_us < b for a, b in never):
                continue
            present.add(place)
            yield {
                "camera": known.number,
                "at_us": each.at_us,
                "sha256": bytes.fromhex(each.sha256),
                "bytes": len(each.image),
                "brightness": None if each.brightness is None else round(100 * each.brightness),
                "kept_at_us": self._clock(),
            }

    def image(self, sha256: str) -> bytes | None:
        """The bytes of a picture, which have this SHA-256; None where they are lost. Raises OSError."""
        return self.shelf.get(sha256)

    def has(self, sha256: str) -> bool:
        """Whether the bytes of a picture are there, without reading them. Raises OSError."""
        return self.shelf.has(sha256)

    def are_within(self, region: Region) -> bool:
        """Whether frames of a region are kept."""
        with reading(self._engine) as connection:
            return bool(within(connection, region, 1))

    def delete_within(self, connection: Connection, region: Region) -> int:
        """Delete the next frames of a region; how many. The caller holds its camera's lock, and then calls
        `remove_leaving`.
        """
        also_lock(connection, LOCK)
        rows = within(connection, region, AT_ONCE)
        delete_rows(connection, rows, self._clock())
        return len(rows)

    def left_of(self, site: str, camera: str, since_us: int, until_us: int) -> list[bytes]:
        """The SHA-256 of each frame of a stretch whose picture may be in its place, also without a row."""
        with reading(self._engine) as connection:
            found = self.digests(connection, site, camera, since_us, until_us)
        return [each for each in found if not self.shelf.is_local or self.shelf.has(each.hex())]

    def digests(
        self, connection: Connection, site: str, camera: str, since_us: int, until_us: int, held: Sequence[int] = ()
    ) -> list[bytes]:
        """The SHA-256 of each frame of a stretch, with those of the held bursts in these records."""
        if self._place is None:
            return []
        frames = read_frames(connection, self._versions, site, camera, since_us, until_us, held)
        found: list[bytes] = []
        try:
            found.extend(bytes.fromhex(each.observation.frame_sha256) for each in frames)
        except SectorwatchError as error:
            log.warning("pictures of damaged bursts wait until they are tidied up", extra={"cause": error.detail})
        return found

    def let_leave(self, connection: Connection, digests: Sequence[bytes]) -> None:
        """Note that these pictures are to be deleted, but for those that a row names."""
        also_lock(connection, LOCK)
        let_leave(connection, digests)

    def local_bytes(self) -> int:
        """What kept pictures take on a disk of this machine."""
        if self._place is None or not self.shelf.is_local:
            return 0
        query = select(func.coalesce(func.sum(kept_frames.c.bytes), 0))
        with reading(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def chosen(self, site: str, frames: KeepFrames) -> KeepFrames:
        """What a site keeps, with the default for its age where nobody chose."""
        return frames.chosen(is_older=site in self.older_sites())

    def _drop_lost(self, is_stopped: Callable[[], bool]) -> int:
        """Delete the rows whose picture is not there any more: an older database was put in the place of this one.

        Where not one picture is there, their disk is away, and the rows wait for it.
        """
        if not self.shelf.is_local:
            return 0
        place, is_any_there, lost = 0, False, list[Row[int, int, bytes]]()
        columns = (kept_frames.c.number, kept_frames.c.camera, kept_frames.c.sha256)
        while not is_stopped():
            query = select(*columns).where(kept_frames.c.number > place).order_by(kept_frames.c.number).limit(AT_ONCE)
            rows = self._rows(query)
            if not rows:
                break
            away = [row for row in rows if not self.shelf.has(row.sha256.hex())]
            lost += away
            is_any_there |= len(away) < len(rows)
            place = rows[-1].number
        is_away = bool(lost) and not is_any_there
        if is_away and not self._is_away:
            what = "no kept picture is in its place: it is not mounted, or frames_url names another"
            log.error(what, extra={"frames": len(lost), "place": self.shelf.name})
        self._is_away = is_away
        if is_away or not lost:
            return 0
        for some in portions(lost):
            with writing(self._engine, lock=LOCK) as connection:
                delete_rows(connection, some, self._clock())
        log.warning("pictures are lost", extra={"frames": len(lost)})
        return len(lost)

    def tidy(self, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Delete the files that no row names, which a crash or an older database left; how many there were.

        It also deletes rows whose picture is lost, and forgets that pictures were kept that went long ago.
        """
        count = 0
        self.check_owner()
        self._drop_lost(is_stopped)
        for portion in self.shelf.left():
            if is_stopped():
                return count
            with writing(self._engine, lock=LOCK) as connection:
                lone = unnamed(connection, [bytes.fromhex(digest) for digest, _ in portion if digest])
                let_leave(connection, list(lone))
            names = [name for digest, name in portion if not digest or bytes.fromhex(digest) in lone]
            self.shelf.discard(names)
            count += len(names)
        self.remove_leaving()
        with writing(self._engine, lock=LOCK) as connection:
            long_ago = self._clock() // DAY_US - REMEMBERED_DAYS
            connection.execute(delete(gone_frames).where(gone_frames.c.gone_day < long_ago))
        if count:
            log.info("pictures that nothing names were deleted", extra={"files": count})
        return count


def _by_camera(pictures: Sequence[Picture]) -> Mapping[tuple[str, str], list[Picture]]:
    found: dict[tuple[str, str], list[Picture]] = {}
    for each in pictures:
        found.setdefault((each.site, each.camera), []).append(each)
    return found
