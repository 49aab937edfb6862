"""When cameras were watched, without reading their frames: the database leaps over the index of bursts.

From burst to burst it leaps as far as frames may be apart, so that a day of a camera takes some thousand steps however
many frames it has. Of every SAMPLE_US one burst is read. Where one repeats frames, or lacks answers, all frames to the
bursts that are read before and after are judged as the fold judges them. So a silence is exact; frames that tell
nothing are found if they last for SAMPLE_US.

All cameras of a site are asked for together: more of them take no more statements.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, Text, bindparam, select

from policies.site.site_policy import CameraPolicy
from server.domain.watching import Unseen, Watching
from server.store.bursts.burst_log import find_bursts
from server.store.bursts.leaps import SAMPLE_US, Asked, Leap, read_leaps
from server.store.bursts.old_form import has_any_old_frames, has_old_frames, meeting
from server.store.bursts.packing import glance
from server.store.bursts.records import AT_ONCE, IS_HELD, LATE, SET_ASIDE, named_damage
from server.store.bursts.scans import Reader, Scan, Seen
from server.store.rows import Versions
from server.store.schema import burst_records, cameras, contexts

_AT_US: Callable[[Leap], Any] = attrgetter("at_us")
_MOST = 400
"""Scans that are remembered: days of cameras."""
_NEW = Scan()
_Key = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Look:
    """A camera that is looked through: the digest of its last policy, how far apart its frames may be, and its scan."""

    of: Seen
    digest: str
    least_us: int
    key: _Key
    scan: Scan

    def asks(self, until_us: int) -> bool:
        """Whether bursts before an instant may be unread."""
        return until_us > max(self.scan.at_us, self.scan.known_us)

    def asked(self) -> Asked:
        from_us = None if self.scan.at_us < 0 else self.scan.at_us
        return Asked(self.of.number, self.least_us, from_us, self.of.has_held)


class Looks:
    """Remembers how far the days of cameras were looked through. Safe to use from several threads."""

    def __init__(self) -> None:
        self._scans: OrderedDict[_Key, Scan] = OrderedDict()
        self._lock = threading.Lock()

    def read(
        self, connection: Connection, versions: Versions, site: str, since_us: int, until_us: int
    ) -> list[Watching]:
        """How each camera of a site was watched from `since_us` to before `until_us`, by name."""
        cameras_of_site = _cameras_of(connection, site, until_us)
        looks = {
            of.number: self._look(connection, versions, of, digest, since_us)
            for of, digest in cameras_of_site
            if digest is not None and not of.has_old
        }
        leaps = read_leaps(
            connection, [look.asked() for look in looks.values() if look.asks(until_us)], since_us, until_us
        )
        policies = _policies(connection, leaps.values())
        found: list[Watching] = []
        for of, _ in cameras_of_site:
            if of.has_old:
                found.append(_by_facts(connection, versions, of, since_us, until_us))
            elif of.number not in looks:
                found.append(Watching(of.site, of.camera, None))
            else:
                reader = Reader(connection, versions, of, looks[of.number].least_us, policies)
                found.append(self._watching(reader, looks[of.number], leaps.get(of.number, ()), (since_us, until_us)))
        return found

    def _look(self, connection: Connection, versions: Versions, of: Seen, digest: str, since_us: int) -> _Look:
        least_us = least_blind_us(versions.policy(connection, digest).camera(of.camera))
        key = (of.number, of.rewritten, since_us, least_us)
        with self._lock:
            return _Look(of, digest, least_us, key, copy(self._scans.get(key, _NEW)))

    def _watching(self, reader: Reader, look: _Look, leaps: Sequence[Leap], stretch: tuple[int, int]) -> Watching:
        of, scan = look.of, look.scan
        end_us = next((leap.before_us for leap in leaps if leap.at_us is None), None)
        if end_us is None and leaps:
            scan.known_us = stretch[1]
        inside = sorted((leap for leap in leaps if leap.at_us is not None and leap.at_us > scan.at_us), key=_AT_US)
        with named_damage(0):
            glances = [glance(leap.record or b"") for leap in inside]
        reader.read(scan, inside, glances)
        if scan.at_us < 0:
            return Watching(of.site, of.camera, look.digest)
        with self._lock:
            self._scans[look.key] = scan
            self._scans.move_to_end(look.key)
            while len(self._scans) > _MOST:
                self._scans.popitem(last=False)
        if scan.is_dead and end_us is not None:
            scan = copy(scan)
            reader.judge(scan, end_us + 1)
        return _watching(look, scan, end_us, *stretch)


def least_blind_us(policy: CameraPolicy) -> int:
    """The shortest time without frames from which a sector of the camera is unobserved."""
    return min(int(sector.rules.presence.blind_s * 1e6) for sector in policy.sectors)


def _cameras_of(connection: Connection, site: str, until_us: int) -> list[tuple[Seen, str | None]]:
    """The cameras of a site by name, each with the policy that judged its last burst before an instant."""
    rows = connection.execute(_last_policies(), {"site": site, "until_us": until_us}).all()
    held = select(burst_records.c.camera).where(IS_HELD, burst_records.c.late.in_((0, LATE, SET_ASIDE))).distinct()
    holding = set(connection.execute(held).scalars())
    has_old = has_any_old_frames(connection)
    return [
        (
            Seen(
                row.number,
                site,
                row.camera,
                row.longest_us,
                row.rewritten,
                row.number in holding,
                has_old and has_old_frames(connection, site, row.camera),
            ),
            row.policy,
        )
        for row in rows
    ]


@cache
def _last_policies() -> Select[Any]:
    """The cameras of a site by name, each with the policy that judged its last burst before an instant."""
    site, until_us = bindparam("site", type_=Text), bindparam("until_us", type_=BigInteger)
    newest = (
        select(burst_records.c.context)
        .where(burst_records.c.camera == cameras.c.number, burst_records.c.first_at_us < until_us)
        .order_by(burst_records.c.first_at_us.desc())
        .limit(1)
        .correlate(cameras)
        .scalar_subquery()
    )
    own = (cameras.c[name] for name in ("number", "camera", "longest_us", "rewritten"))
    query = select(*own, contexts.c.policy).where(cameras.c.site == site).order_by(cameras.c.camera)
    return query.join_from(cameras, contexts, contexts.c.number == newest, isouter=True)


def _policies(connection: Connection, leaps: Iterable[Sequence[Leap]]) -> dict[int, str]:
    """The policy of each context in which a burst was judged."""
    numbers = sorted({leap.context for some in leaps for leap in some if leap.context is not None})
    found: dict[int, str] = {}
    for at in range(0, len(numbers), AT_ONCE):
        mine = contexts.c.number.in_(numbers[at : at + AT_ONCE])
        rows = connection.execute(select(contexts.c.number, contexts.c.policy).where(mine))
        found |= {row.number: row.policy for row in rows}
    return found


def _watching(look: _Look, scan: Scan, end_us: int | None, since_us: int, until_us: int) -> Watching:
    unseen, is_ended = list(scan.unseen), end_us is not None or scan.is_dead
    last_us = scan.look_us if scan.is_dead or end_us is None else end_us
    if is_ended and until_us - last_us > look.least_us:
        unseen.append(Unseen(last_us, until_us, is_silent=not scan.is_dead, is_over=False))
    first_us = scan.rules[0][0]
    begins = first_us if first_us > since_us else None
    inside = tuple(each for each in unseen if each.until_us > since_us and each.from_us < until_us)
    return Watching(look.of.site, look.of.camera, look.digest, inside, begins, scan.rules)


def _by_facts(connection: Connection, versions: Versions, of: Seen, since_us: int, until_us: int) -> Watching:
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
