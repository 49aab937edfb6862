"""Which frames' pictures are kept: rows of the database, which come after a picture and go with it.

A picture is written first and its row second; a picture is deleted inside the transaction that deletes the last row
that names it. A crash leaves a picture without a row, which `tidy` deletes, or a row without a picture, which counts as
no longer kept. The pictures themselves are on a shelf (`server.frames`), each stored once by its SHA-256.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Row, Select, delete, func, insert, select, update

from server.domain.clock import Clock
from server.domain.errors import ConfigurationError
from server.domain.keeping import DAY_US, KeepFrames
from server.domain.kept_frames import FrameFate, FrameTotals, Kept, KeptFrame, Picture
from server.store.bursts import read_camera
from server.store.engine import also_lock, reading, writing
from server.store.retention.slices import Region
from server.store.rows import Part, Versions
from server.store.schema import cameras, counters, erasures, frame_sites, gone_frames, keeping, kept_frames

log = logging.getLogger(__name__)

T = TypeVar("T")

AT_ONCE = 200
LOCK = "frames"
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
    def try_out(self) -> None: ...


Place = Callable[[str], Shelf]
"""Gives the shelf of a database, by the database's name for it."""


class Frames(Part):
    """The kept frames of one database. `place` None: they can be counted, and neither read, kept nor deleted."""

    def __init__(self, engine: Engine, clock: Clock, versions: Versions, place: Place | None) -> None:
        super().__init__(engine, clock, versions)
        self._place = place

    @cached_property
    def shelf(self) -> Shelf:
        """Where this database's pictures are. Raises ConfigurationError where nobody said."""
        if self._place is None:
            raise ConfigurationError("frames are kept as pictures, and their place (`frames_url`) was not given")
        return self._place(f"{self._identity():016x}")

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
                self.shelf.put(picture.sha256, picture.image)
            except OSError as error:
                fault = str(error)
                break
            stored.append(picture)
        return Kept(self._note(stored) if stored else 0, len(pictures) - len(stored), fault)

    def _note(self, stored: Sequence[Picture]) -> int:
        with writing(self._engine, lock=LOCK) as connection:
            rows = [row for name, some in _by_camera(stored).items() for row in self._new_rows(connection, name, some)]
            if rows:
                connection.execute(insert(kept_frames), rows)
            for picture in stored:
                if not self.shelf.has(picture.sha256):  # deleted meanwhile, with another row that named it
                    self.shelf.put(picture.sha256, picture.image)
            digests = [bytes.fromhex(picture.sha256) for picture in stored]
            remove_pictures(self.shelf, [each.hex() for each in unnamed(connection, digests)])
        return len(rows)

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
        went = _keys_gone(connection, {_key(known.number, each.sha256): each.sha256 for each in pictures})
        refused = _refused(connection, name)
        for each in pictures:
            place = (each.at_us, each.sha256)
            if place in present or each.sha256 in went or any(a <= each.at_us < b for a, b in refused):
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

    def fate(self, sha256: str, site: str | None) -> FrameFate:
        """Whether a picture of this site (None: of any) is kept, was kept, or is not known."""
        digest = bytes.fromhex(sha256)
        with reading(self._engine) as connection:
            query = select(cameras.c.number).where(*(() if site is None else (cameras.c.site == site,)))
            numbers = connection.execute(query).scalars().all()
            kept = select(kept_frames.c.camera).where(kept_frames.c.sha256 == digest)
            if any(number in numbers for number in connection.execute(kept).scalars()):
                return "kept"
            keys = {_key(number, sha256): sha256 for number in numbers}
            return "no_longer_kept" if _keys_gone(connection, keys) else "unknown"

    def fates(self, site: str, camera: str, digests: Sequence[str]) -> dict[str, FrameFate]:
        """The same of pictures of one camera."""
        with reading(self._engine) as connection:
            known = read_camera(connection, site, camera)
            if known is None:
                return dict.fromkeys(digests, "unknown")
            went = _keys_gone(connection, {_key(known.number, each): each for each in digests})
            kept: set[str] = set()
            for some in _portions([bytes.fromhex(each) for each in digests]):
                query = select(kept_frames.c.sha256).where(kept_frames.c.camera == known.number)
                kept |= {
                    each.hex() for each in connection.execute(query.where(kept_frames.c.sha256.in_(some))).scalars()
                }
        return {each: "kept" if each in kept else "no_longer_kept" if each in went else "unknown" for each in digests}

    def image(self, sha256: str) -> bytes | None:
        """The bytes of a picture, which have this SHA-256; None where they are lost. Raises OSError."""
        return self.shelf.get(sha256)

    def find(
        self, site: str, camera: str, since_us: int | None, until_us: int | None, limit: int, *, newest: bool = False
    ) -> list[KeptFrame]:
        """A camera's kept frames from `since_us` to before `until_us`, oldest first; the last ones if `newest`."""
        order = kept_frames.c.at_us.desc() if newest else kept_frames.c.at_us
        query = _FRAMES.where(cameras.c.site == site, cameras.c.camera == camera).order_by(order).limit(limit)
        if since_us is not None:
            query = query.where(kept_frames.c.at_us >= since_us)
        if until_us is not None:
            query = query.where(kept_frames.c.at_us < until_us)
        found = [_kept_frame(row) for row in self._rows(query)]
        return found[::-1] if newest else found

    def are_within(self, region: Region) -> bool:
        """Whether frames of a region are kept."""
        with reading(self._engine) as connection:
            return bool(_within(connection, region, 1))

    def delete_within(self, connection: Connection, region: Region) -> int:
        """Delete the next frames of a region; how many. The caller holds its camera's lock."""
        also_lock(connection, LOCK)
        rows = _within(connection, region, AT_ONCE)
        delete_rows(connection, self.shelf, rows, self._clock())
        return len(rows)

    def totals(self) -> list[FrameTotals]:
        """How many frames of each camera are kept, and their bytes."""
        query = (
            select(
                cameras.c.site,
                cameras.c.camera,
                func.count(),
                func.sum(kept_frames.c.bytes),
                func.min(kept_frames.c.at_us),
                func.max(kept_frames.c.at_us),
            )
            .join(cameras, cameras.c.number == kept_frames.c.camera)
            .group_by(cameras.c.site, cameras.c.camera)
            .order_by(cameras.c.site, cameras.c.camera)
        )
        return [FrameTotals(row[0], row[1], int(row[2]), int(row[3]), row[4], row[5]) for row in self._rows(query)]

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
        """Delete the rows whose picture is not there any more: an older database was put in the place of this one."""
        if not self.shelf.is_local:
            return 0
        place = count = 0
        columns = (kept_frames.c.number, kept_frames.c.camera, kept_frames.c.sha256)
        while not is_stopped():
            query = select(*columns).where(kept_frames.c.number > place).order_by(kept_frames.c.number).limit(AT_ONCE)
            rows = self._rows(query)
            if not rows:
                break
            lost = [row for row in rows if not self.shelf.has(row.sha256.hex())]
            if lost:
                with writing(self._engine, lock=LOCK) as connection:
                    delete_rows(connection, self.shelf, lost, self._clock())
            place, count = rows[-1].number, count + len(lost)
        if count:
            log.warning("pictures are lost", extra={"frames": count})
        return count

    def tidy(self, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Delete the files that no row names, which a crash or an older database left; how many there were.

        It also deletes rows whose picture is lost, and forgets that pictures were kept that went long ago.
        """
        count = 0
        self._drop_lost(is_stopped)
        for portion in self.shelf.left():
            if is_stopped():
                return count
            with writing(self._engine, lock=LOCK) as connection:
                lone = {each.hex() for each in unnamed(connection, [bytes.fromhex(d) for d, _ in portion if d])}
                names = [name for digest, name in portion if not digest or digest in lone]
                self.shelf.discard(names)
            count += len(names)
        with writing(self._engine, lock=LOCK) as connection:
            long_ago = self._clock() // DAY_US - REMEMBERED_DAYS
            connection.execute(delete(gone_frames).where(gone_frames.c.gone_day < long_ago))
        if count:
            log.info("pictures that nothing names were deleted", extra={"files": count})
        return count


_FRAMES: Select[Any] = select(
    cameras.c.site, cameras.c.camera, kept_frames.c.at_us, kept_frames.c.sha256, kept_frames.c.bytes
).join(cameras, cameras.c.number == kept_frames.c.camera)


def _kept_frame(row: Row[Any]) -> KeptFrame:
    return KeptFrame(row.site, row.camera, row.at_us, row.sha256.hex(), row.bytes)


def delete_rows(connection: Connection, shelf: Shelf, rows: Sequence[Row[*tuple[Any, ...]]], now_us: int) -> None:
    """Delete frames (number, camera, sha256), with the pictures that no other frame has. The caller holds LOCK."""
    for some in _portions(rows):
        connection.execute(delete(kept_frames).where(kept_frames.c.number.in_([row.number for row in some])))
        gone = {_key(row.camera, row.sha256.hex()): row.sha256.hex() for row in some}
        there = _keys_gone(connection, gone)
        day = now_us // DAY_US
        remembered = [{"key": key, "gone_day": day} for key, sha256 in gone.items() if sha256 not in there]
        if remembered:
            connection.execute(insert(gone_frames), remembered)
        remove_pictures(shelf, [each.hex() for each in unnamed(connection, [row.sha256 for row in some])])


def remove_pictures(shelf: Shelf, digests: Sequence[str]) -> None:
    """Delete pictures. Raises ConfigurationError where their place refuses: their rows stay then."""
    try:
        shelf.remove(digests)
    except OSError as error:
        raise ConfigurationError(f"pictures cannot be deleted from {shelf.name}: {error}") from error


def _within(connection: Connection, region: Region, limit: int) -> list[Row[*tuple[Any, ...]]]:
    """The first frames of a region, at most so many."""
    query = (
        select(kept_frames.c.number, kept_frames.c.camera, kept_frames.c.sha256, kept_frames.c.at_us)
        .join(cameras, cameras.c.number == kept_frames.c.camera)
        .where(cameras.c.site == region.site, cameras.c.camera == region.camera)
        .where(kept_frames.c.at_us < region.until_us)
        .order_by(kept_frames.c.at_us)
    )
    if region.since_us is not None:
        query = query.where(kept_frames.c.at_us >= region.since_us)
    found: list[Row[*tuple[Any, ...]]] = []
    with connection.execute(query.execution_options(yield_per=AT_ONCE)) as rows:
        for row in rows:
            if not is_within(row.at_us, region.stay):
                found.append(row)
            if len(found) == limit:
                break
    return found


def is_within(at_us: int, stretches: Sequence[tuple[int, int]]) -> bool:
    """Whether an instant is in one of these stretches (first and last instant), which are in order and apart."""
    low, high = 0, len(stretches)
    while low < high:
        middle = (low + high) // 2
        if stretches[middle][1] < at_us:
            low = middle + 1
        else:
            high = middle
    return low < len(stretches) and stretches[low][0] <= at_us


def _by_camera(pictures: Sequence[Picture]) -> Mapping[tuple[str, str], list[Picture]]:
    found: dict[tuple[str, str], list[Picture]] = {}
    for each in pictures:
        found.setdefault((each.site, each.camera), []).append(each)
    return found


def _refused(connection: Connection, name: tuple[str, str]) -> list[tuple[int, int]]:
    """The stretches of a camera of which nothing is accepted any more: erased, or before its first burst."""
    mine = (erasures.c.site == name[0], erasures.c.camera == name[1])
    query = select(erasures.c.since_us, erasures.c.until_us).where(*mine)
    found = [(row.since_us, row.until_us) for row in connection.execute(query)]
    border = select(keeping.c.bursts_from_us).where(keeping.c.site == name[0], keeping.c.camera == name[1])
    from_us = connection.execute(border).scalar_one_or_none()
    return found if from_us is None else [*found, (-(2**63), from_us)]


def unnamed(connection: Connection, digests: Sequence[bytes]) -> set[bytes]:
    """Those of these pictures that no row names."""
    named: set[bytes] = set()
    for some in _portions(digests):
        query = select(kept_frames.c.sha256).where(kept_frames.c.sha256.in_(some))
        named |= {bytes(each) for each in connection.execute(query).scalars()}
    return {*digests} - named


def _keys_gone(connection: Connection, keys: Mapping[int, str]) -> set[str]:
    """The values of those keys whose pictures went."""
    found: set[str] = set()
    for some in _portions(list(keys)):
        query = select(gone_frames.c.key).where(gone_frames.c.key.in_(some))
        found |= {keys[key] for key in connection.execute(query).scalars()}
    return found


def _key(camera: int, sha256: str) -> int:
    """63 bits that stand for a camera and a picture."""
    return int.from_bytes(hashlib.sha256(f"{camera}/{sha256}".encode()).digest()[:8], "big") >> 1


def _portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[begin : begin + AT_ONCE] for begin in range(0, len(items), AT_ONCE))
