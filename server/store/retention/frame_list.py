"""What is known of kept frames, by their rows alone: which there are, how much they take, what became of one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import exists, func, select

from server.domain.pictures.kept_frames import FrameFate, FrameTotals, KeptFrame
from server.store.bursts import read_camera
from server.store.engine import reading
from server.store.retention.frame_rows import FRAMES, kept_frame, key_of, keys_gone
from server.store.retention.leaving import portions
from server.store.rows import Part
from server.store.schema import cameras, kept_frames


class FrameList(Part):
    """The reading half of `Frames`."""

    def fate(self, sha256: str, site: str | None) -> FrameFate:
        """Whether a picture of this site (None: of any) is kept, was kept, or is not known."""
        digest = bytes.fromhex(sha256)
        with reading(self._engine) as connection:
            query = select(cameras.c.number).where(*(() if site is None else (cameras.c.site == site,)))
            numbers = connection.execute(query).scalars().all()
            kept = select(kept_frames.c.camera).where(kept_frames.c.sha256 == digest)
            if any(number in numbers for number in connection.execute(kept).scalars()):
                return "kept"
            keys = {key_of(number, sha256): sha256 for number in numbers}
            return "no_longer_kept" if keys_gone(connection, keys) else "unknown"

    def fates(self, site: str, camera: str, digests: Sequence[str]) -> dict[str, FrameFate]:
        """The same of pictures of one camera."""
        with reading(self._engine) as connection:
            known = read_camera(connection, site, camera)
            if known is None:
                return dict.fromkeys(digests, "unknown")
            went = keys_gone(connection, {key_of(known.number, each): each for each in digests})
            kept: set[str] = set()
            for some in portions([bytes.fromhex(each) for each in digests]):
                query = select(kept_frames.c.sha256).where(kept_frames.c.camera == known.number)
                kept |= {
                    each.hex() for each in connection.execute(query.where(kept_frames.c.sha256.in_(some))).scalars()
                }
        return {each: "kept" if each in kept else "no_longer_kept" if each in went else "unknown" for each in digests}

    def kept_of(self, site: str, wanted: Mapping[str, Collection[str]]) -> set[tuple[str, str]]:
        """The camera and the SHA-256 of each picture that is kept, of those wanted of each camera of a site."""
        digests = sorted({bytes.fromhex(sha256) for some in wanted.values() for sha256 in some})
        query = select(cameras.c.camera, kept_frames.c.sha256).join(cameras, cameras.c.number == kept_frames.c.camera)
        found: set[tuple[str, str]] = set()
        for some in portions(digests):
            rows = self._rows(query.where(cameras.c.site == site, kept_frames.c.sha256.in_(some)))
            found |= {(row.camera, row.sha256.hex()) for row in rows if row.sha256.hex() in wanted.get(row.camera, ())}
        return found

    def find(
        self, site: str, camera: str, since_us: int | None, until_us: int | None, limit: int, *, newest: bool = False
    ) -> list[KeptFrame]:
        """A camera's kept frames from `since_us` to before `until_us`, oldest first; the last ones if `newest`."""
        order = kept_frames.c.at_us.desc() if newest else kept_frames.c.at_us
        query = FRAMES.where(cameras.c.site == site, cameras.c.camera == camera).order_by(order).limit(limit)
        if since_us is not None:
            query = query.where(kept_frames.c.at_us >= since_us)
        if until_us is not None:
            query = query.where(kept_frames.c.at_us < until_us)
        found = [kept_frame(row) for row in self._rows(query)]
        return found[::-1] if newest else found

    def latest(self, site: str | None = None) -> dict[tuple[str, str], KeptFrame]:
        """The newest kept frame of each camera (of a site), by site and camera. One query, whatever is kept."""
        of_camera = kept_frames.alias()
        newest = (
            select(func.max(of_camera.c.at_us))
            .where(of_camera.c.camera == cameras.c.number)
            .correlate(cameras)
            .scalar_subquery()
        )
        query = FRAMES.where(kept_frames.c.at_us == newest).order_by(kept_frames.c.number)
        if site is not None:
            query = query.where(cameras.c.site == site)
        return {(row.site, row.camera): kept_frame(row) for row in self._rows(query)}

    def cameras(self) -> list[tuple[str, str]]:
        """The cameras of which frames are kept, in order."""
        is_kept = exists().where(kept_frames.c.camera == cameras.c.number)
        query = select(cameras.c.site, cameras.c.camera).where(is_kept).order_by(cameras.c.site, cameras.c.camera)
        return [(row.site, row.camera) for row in self._rows(query)]

    def bytes_of_sites(self) -> dict[str, int]:
        """The bytes of the kept frames of each site that has any."""
        query = select(cameras.c.site, func.sum(kept_frames.c.bytes).label("size"))
        query = query.join(cameras, cameras.c.number == kept_frames.c.camera).group_by(cameras.c.site)
        return {row.site: int(row.size) for row in self._rows(query)}

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
