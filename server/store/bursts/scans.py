"""How far a stretch of a camera was looked through, burst by burst."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

from sqlalchemy import Connection, select

from policies.fold import REMEMBERED, remembered
from policies.fusion.judge import blind_targets, relevant_judgement
from server.domain.records import Recorded
from server.domain.watching import Unseen
from server.store.bursts.burst_log import read_frames
from server.store.bursts.leaps import Leap
from server.store.bursts.packing import Glance, all_differ, unpack
from server.store.rows import Versions
from server.store.schema import burst_records

_RECENT = 4
"""Bursts read before, of which a burst may repeat frames."""
_AT_ONCE = 120
"""Bursts that are looked at together, where nothing in them is doubtful."""


class _Before(NamedTuple):
    """The frames of a burst that was read, and the scan before it."""

    hashes: frozenset[bytes | str]
    at_us: int
    look_us: int
    unseen: tuple[Unseen, ...]


@dataclass(slots=True)
class Scan:
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


class Seen(NamedTuple):
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


class Reader:
    """Looks through one camera."""

    def __init__(
        self, connection: Connection, versions: Versions, of: Seen, least_us: int, policies: Mapping[int, str]
    ) -> None:
        self._connection = connection
        self._versions = versions
        self._of = of
        self._least_us = least_us
        self._policies = policies

    def read(self, scan: Scan, leaps: Sequence[Leap], glances: Sequence[Glance]) -> None:
        """Look at more bursts, of whose records `glances` are the part that matters.

        Mostly every frame was judged and is new. This is found out of many bursts at once, which is much faster.
        """
        begin = 0
        while begin < len(leaps):
            end = begin + (1 if scan.at_us < 0 else _AT_ONCE)
            some, seen = leaps[begin:end], glances[begin:end]
            passed = max(0, len(some) - _RECENT) if self._is_plain(scan, seen) else 0
            for leap in some[:passed]:
                self._pass(scan, leap)
            for leap, its in zip(some[passed:], seen[passed:], strict=True):
                self._advance(scan, leap, its)
            begin = end

    def _is_plain(self, scan: Scan, seen: Sequence[Glance]) -> bool:
        """Whether `_advance` finds nothing doubtful in some bursts."""
        if scan.at_us < 0 or scan.is_dead or self._of.longest_us > self._least_us:
            return False
        recent = chain.from_iterable(each.hashes for each in scan.recent)
        return all_differ(seen, recent) and not any(each.may_lack_answers for each in seen)

    def _pass(self, scan: Scan, row: Leap) -> None:
        """Note a burst whose frames were judged. Those that others may repeat are not remembered."""
        assert row.at_us is not None
        self._note_rules(scan, row)
        if row.before_us is not None and row.at_us - row.before_us > self._least_us:
            scan.unseen = (*scan.unseen, Unseen(row.before_us, row.at_us, is_silent=True))
        scan.look_us = scan.at_us = row.at_us

    def _note_rules(self, scan: Scan, row: Leap) -> None:
        assert row.at_us is not None
        assert row.context is not None
        digest = self._policies[row.context]
        if not scan.rules or scan.rules[-1][1] != digest:
            scan.rules = (*scan.rules, (row.at_us, digest))

    def _advance(self, scan: Scan, row: Leap, seen: Glance) -> None:
        """Look at one more burst, and remember its frames."""
        at_us = row.at_us
        assert at_us is not None
        self._note_rules(scan, row)
        if scan.at_us < 0:
            scan.at_us = scan.look_us = at_us
        hashes = seen.frame_digests
        before = _Before(hashes, scan.at_us, scan.look_us, scan.unseen)
        repeated = next((each for each in scan.recent if not hashes.isdisjoint(each.hashes)), None)
        if not scan.is_dead and repeated is not None:  # they may repeat since before that burst
            scan.at_us, scan.look_us, scan.unseen = repeated.at_us, repeated.look_us, repeated.unseen
        is_doubtful = scan.is_dead or repeated is not None or len(hashes) < seen.frames
        if is_doubtful or self._is_doubtful(seen, row, scan):
            self._judge(scan, row)
            scan.at_us = at_us
        else:
            self._pass(scan, row)
        scan.recent = (*scan.recent[1 - _RECENT :], before)

    def _is_doubtful(self, seen: Glance, row: Leap, scan: Scan) -> bool:
        """Whether frames of a burst may tell nothing, or may be too far apart."""
        if seen.may_lack_answers:
            return True
        if self._of.longest_us <= self._least_us:
            return False
        is_unread = row.before_us is not None and row.left_us != scan.at_us
        return is_unread or any(b - a > self._least_us for a, b in pairwise(unpack(row.record or b"").offsets_us))

    def _judge(self, scan: Scan, row: Leap) -> None:
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

    def judge(self, scan: Scan, end_us: int) -> None:
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
