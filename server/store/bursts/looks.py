"""When cameras were watched, without reading their frames: the database leaps over the index of bursts.

From burst to burst it leaps as far as frames may be apart, so that a day of a camera takes some thousand steps however
many frames it has. Of every SAMPLE_US one burst is read. Where one repeats frames, or lacks answers, all frames to the
bursts that are read before and after are judged as the fold judges them. So a silence is exact; frames that tell
nothing are found if they last for SAMPLE_US.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, Select, Text, bindparam, select

from policies.fold import REMEMBERED, remembered
from policies.fusion.judge import blind_targets, relevant_judgement
from policies.site.site_policy import CameraPolicy
from server.domain.records import Recorded
from server.domain.watching import Unseen, Watching
from server.store.bursts.burst_log import find_bursts, read_frames
from server.store.bursts.leaps import SAMPLE_US, Leap, leaps_query
from server.store.bursts.old_form import has_old_frames, meeting
from server.store.bursts.packing import Packed, unpack
from server.store.bursts.records import IS_HELD, LATE, SET_ASIDE, named_damage
from server.store.rows import Versions
from server.store.schema import burst_records, cameras, contexts, observations

_AT_US: Callable[[Leap], Any] = attrgetter("at_us")
_MOST = 400
"""Scans that are remembered: days of cameras."""
_RECENT = 4
"""Bursts read before, of which a burst may repeat frames."""


class _Before(NamedTuple):
    """The frames of a burst that was read, and the scan before it."""

    hashes: frozenset[bytes | str]
    at_us: int
    look_us: int
    unseen: tuple[Unseen, ...]


@dataclass(slots=True)
class _Scan:
    """How far a stretch of a camera was looked through. `look_us`: the last frame that could be judged. `known_us`:
    before this instant no more bursts are to be read, as a later one is in the fold.

    `frames` are those that the fold remembers; they are kept while frames tell nothing (`is_dead`).
    """

    at_us: int = -1
    look_us: int = -1
    known_us: int = -1
    unseen: tuple[Unseen, ...] = ()
    rules: tuple[tuple[int, str], ...] = ()
    recent: tuple[_Before, ...] = ()
    frames: tuple[str, ...] = ()
    is_dead: bool = False


_NEW = _Scan()


class _Of(NamedTuple):
    """The camera that is asked for. `rewritten` changes with its past. `has_held`: some bursts are not in the fold.
    `has_old`: some are not converted yet.
    """

    number: int
    site: str
    camera: str
    longest_us: int
    rewritten: int
    has_held: bool
    has_old: bool


class Looks:
    """Remembers how far the days of cameras were looked through. Safe to use from several threads."""

    def __init__(self) -> None:
        self._scans: OrderedDict[tuple[int, int, int, int], _Scan] = OrderedDict()
        self._lock = threading.Lock()

    def read(
        self, connection: Connection, versions: Versions, site: str, since_us: int, until_us: int
    ) -> list[Watching]:
        """How each camera of a site was watched from `since_us` to before `until_us`, by name."""
        columns = [cameras.c[name] for name in _Of._fields[:-2]]
        found = connection.execute(select(*columns).where(cameras.c.site == site).order_by(cameras.c.camera)).all()
        held = select(burst_records.c.camera).where(IS_HELD, burst_records.c.late.in_((0, LATE, SET_ASIDE))).distinct()
        holding = set(connection.execute(held).scalars())
        is_converted = connection.execute(select(observations.c.frame).limit(1)).first() is None
        cameras_of_site = [
            _Of(
                row.number,
                row.site,
                row.camera,
                row.longest_us,
                row.rewritten,
                row.number in holding,
                not is_converted and has_old_frames(connection, row.site, row.camera),
            )
            for row in found
        ]
        rows = connection.execute(_last_policies(), {"site": site, "until_us": until_us})
        last = {row.number: row.policy for row in rows}
        return [
            self._watching(connection, versions, of, last.get(of.number), (since_us, until_us))
            for of in cameras_of_site
        ]

    def _watching(
        self, connection: Connection, versions: Versions, of: _Of, digest: str | None, stretch: tuple[int, int]
    ) -> Watching:
        since_us, until_us = stretch
        if of.has_old:
            return _by_facts(connection, versions, of, since_us, until_us)
        if digest is None:
            return Watching(of.site, of.camera, None)
        least_us = least_blind_us(versions.policy(connection, digest).camera(of.camera))
        key = (of.number, of.rewritten, since_us, least_us)
        with self._lock:
            scan = copy(self._scans.get(key, _NEW))
        reader = _Reader(connection, versions, of, least_us)
        rows, end_us = reader.rows(since_us, until_us, scan)
        with named_damage(0):
            records = [unpack(row.record or b"") for row in rows]
        for row, packed in zip(rows, records, strict=True):
            reader.advance(scan, row, packed)
        if scan.at_us < 0:
            return Watching(of.site, of.camera, digest)
        with self._lock:
            self._scans[key] = scan
            self._scans.move_to_end(key)
            while len(self._scans) > _MOST:
                self._scans.popitem(last=False)
        if scan.is_dead and end_us is not None:
            scan = copy(scan)
            reader.judge(scan, end_us + 1)
        return _watching(of, digest, scan, end_us, since_us, until_us, least_us)


def least_blind_us(policy: CameraPolicy) -> int:
    """The shortest time without frames from which a sector of the camera is unobserved."""
    return min(int(sector.rules.presence.blind_s * 1e6) for sector in policy.sectors)


class _Reader:
    """Looks through one camera."""

    def __init__(self, connection: Connection, versions: Versions, of: _Of, least_us: int) -> None:
        self._connection = connection
        self._versions = versions
        self._of = of
        self._least_us = least_us
        self._policies: dict[int, str] = {}

    def rows(self, since_us: int, until_us: int, scan: _Scan) -> tuple[list[Leap], int | None]:
        """The bursts to be read after a scan, and the last frame where no burst follows."""
        if until_us <= max(scan.at_us, scan.known_us):
            return [], None
        parameters = {
            "number": self._of.number,
            "longest": self._of.longest_us,
            "since_us": since_us,
            "until_us": until_us,
            "least_us": self._least_us,
            "from_us": None if scan.at_us < 0 else scan.at_us,
        }
        found = [*map(Leap._make, self._connection.execute(leaps_query(self._of.has_held), parameters).all())]
        end = next((row.before_us for row in found if row.at_us is None), None)
        if end is None and found:
            scan.known_us = until_us
        inside = [row for row in found if row.at_us is not None and row.at_us > scan.at_us]
        inside.sort(key=_AT_US)
        return inside, end

    def advance(self, scan: _Scan, row: Leap, packed: Packed) -> None:
        """Look at one more burst, whose record is `packed`."""
        assert row.at_us is not None
        assert row.context is not None
        digest = self._policy(row.context)
        if not scan.rules or scan.rules[-1][1] != digest:
            scan.rules = (*scan.rules, (row.at_us, digest))
        if scan.at_us < 0:
            scan.at_us = scan.look_us = row.at_us
        hashes = frozenset(packed.frame_digests)
        before = _Before(hashes, scan.at_us, scan.look_us, scan.unseen)
        repeated = None
        for each in scan.recent:
            if not hashes.isdisjoint(each.hashes):
                repeated = each
                break
        if not scan.is_dead and repeated is not None:  # they may repeat since before that burst
            scan.at_us, scan.look_us, scan.unseen = repeated.at_us, repeated.look_us, repeated.unseen
        is_doubtful = len(hashes) < packed.frames or self._is_doubtful(packed, row, scan)
        if scan.is_dead or repeated is not None or is_doubtful:
            self._judge(scan, row)
        else:
            if row.before_us is not None and row.at_us - row.before_us > self._least_us:
                scan.unseen = (*scan.unseen, Unseen(row.before_us, row.at_us, is_silent=True))
            scan.look_us = row.at_us
        scan.at_us = row.at_us
        scan.recent = (*scan.recent, before)[-_RECENT:]

    def _policy(self, context: int) -> str:
        if context not in self._policies:
            query = select(contexts.c.policy).where(contexts.c.number == context)
            self._policies[context] = self._connection.execute(query).scalar_one()
        return self._policies[context]

    def _is_doubtful(self, packed: Packed, row: Leap, scan: _Scan) -> bool:
        """Whether frames of a burst may tell nothing, or may be too far apart."""
        if packed.may_lack_answers:
            return True
        if self._of.longest_us <= self._least_us:
            return False
        is_unread = row.before_us is not None and row.left_us != scan.at_us
        return is_unread or any(b - a > self._least_us for a, b in pairwise(packed.offsets_us))

    def _judge(self, scan: _Scan, row: Leap) -> None:
        """Look at all frames up to the end of a burst. In between two bursts that tell nothing, none does."""
        assert row.at_us is not None
        assert row.lasts_us is not None
        end_us = row.at_us + row.lasts_us + 1
        if scan.is_dead:
            own = list(self._told(scan.frames, row.at_us, end_us))
            if own and not any(is_told for _, is_told, _ in own):
                scan.frames = own[-1][2]
                return
        self.judge(scan, end_us)

    def judge(self, scan: _Scan, end_us: int) -> None:
        """Look at all frames from the last burst that was read to before an instant."""
        if not scan.is_dead:
            scan.frames = self._frames_before(scan.at_us)
        from_us, is_told, others = scan.at_us + scan.is_dead, not scan.is_dead, scan.is_dead
        for at_us, is_told, frames in self._told(scan.frames, from_us, end_us):
            scan.frames = frames
            if not is_told:
                others = True
                continue
            if at_us - scan.look_us > self._least_us:
                scan.unseen = (*scan.unseen, Unseen(scan.look_us, at_us, is_silent=not others))
            scan.look_us, others = at_us, False
        scan.is_dead = not is_told
        if is_told:
            scan.frames = ()

    def _frames_before(self, at_us: int) -> tuple[str, ...]:
        """The frames that the fold remembers before an instant."""
        first_us = burst_records.c.first_at_us
        earlier = select(first_us).where(burst_records.c.camera == self._of.number, first_us < at_us)
        last = self._connection.execute(earlier.order_by(first_us.desc()).limit(REMEMBERED)).scalars().all()
        frames: tuple[str, ...] = ()
        if last:
            for recorded in read_frames(
                self._connection, self._versions, self._of.site, self._of.camera, last[-1], at_us
            ):
                frames, _ = remembered(frames, recorded.observation.frame_sha256)
        return frames

    def _told(self, frames: tuple[str, ...], from_us: int, end_us: int) -> Iterator[tuple[int, bool, tuple[str, ...]]]:
        """Each frame's instant, whether the fold judges it, and the frames remembered after it."""
        read = read_frames(self._connection, self._versions, self._of.site, self._of.camera, from_us, end_us)
        for recorded in read:
            frames, is_known = remembered(frames, recorded.observation.frame_sha256)
            yield recorded.observation.at_us, not is_known and self._is_judged(recorded), frames

    def _is_judged(self, recorded: Recorded) -> bool:
        """Whether the models that answered can judge a frame, as `policies.fold.advance` asks."""
        seen = recorded.observation
        policy = self._versions.policy(self._connection, recorded.policy).camera(self._of.camera)
        policy = policy.in_force(seen.at_us, seen.brightness)
        return len(blind_targets(policy, relevant_judgement(policy, seen))) < max(1, len(policy.targets))


@cache
def _last_policies() -> Select[Any]:
    """The number of each camera of a site, and the policy that judged its last burst before an instant."""
    site, until_us = bindparam("site", type_=Text), bindparam("until_us", type_=BigInteger)
    newest = (
        select(burst_records.c.context)
        .where(burst_records.c.camera == cameras.c.number, burst_records.c.first_at_us < until_us)
        .order_by(burst_records.c.first_at_us.desc())
        .limit(1)
        .correlate(cameras)
        .scalar_subquery()
    )
    query = select(cameras.c.number, contexts.c.policy).where(cameras.c.site == site)
    return query.join_from(cameras, contexts, contexts.c.number == newest, isouter=True)


def _watching(
    of: _Of, digest: str, scan: _Scan, end_us: int | None, since_us: int, until_us: int, least_us: int
) -> Watching:
    unseen = list(scan.unseen)
    last_us = scan.look_us if scan.is_dead or end_us is None else end_us
    if (end_us is not None or scan.is_dead) and until_us - last_us > least_us:
        unseen.append(Unseen(last_us, until_us, is_silent=not scan.is_dead, is_over=False))
    first_us = scan.rules[0][0]
    begins = first_us if first_us > since_us else None
    inside = tuple(each for each in unseen if each.until_us > since_us and each.from_us < until_us)
    return Watching(of.site, of.camera, digest, inside, begins, scan.rules)


def _by_facts(connection: Connection, versions: Versions, of: _Of, since_us: int, until_us: int) -> Watching:
    """By the bursts themselves, while those of an earlier version are not converted. Repeated frames are not found."""
    inside = meeting(max(of.longest_us, SAMPLE_US), since_us - SAMPLE_US, until_us + SAMPLE_US)
    found = find_bursts(connection, versions, of.site, of.camera, inside, with_held=False)
    if not found:
        return Watching(of.site, of.camera, None)
    least_us = least_blind_us(versions.policy(connection, found[-1].policy).camera(of.camera))
    unseen, end_us = list[Unseen](), found[0].first_at_us
    rules = [(found[0].first_at_us, found[0].policy)]
    for each in found:
        if each.first_at_us - end_us > least_us:
            unseen.append(Unseen(end_us, each.first_at_us, is_silent=True))
        if each.policy != rules[-1][1]:
            rules.append((each.first_at_us, each.policy))
        end_us = max(end_us, each.last_at_us)
    if until_us - end_us > least_us:
        unseen.append(Unseen(end_us, until_us, is_silent=True, is_over=False))
    first_us = found[0].first_at_us
    return Watching(
        of.site, of.camera, found[-1].policy, tuple(unseen), first_us if first_us > since_us else None, tuple(rules)
    )
