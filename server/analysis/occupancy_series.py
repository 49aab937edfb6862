"""A long stretch of a camera's past as spans, hour by hour: occupied, clear, unobserved, or no longer kept.

It is the fold of all frames, as `server.analysis.occupancy` gives it for a short stretch, and its memory is flat: the
state goes from one part to the next. A part ends where an hour does, and where frames are no longer kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple, Protocol

from policies.fold import decode_state, encode_state, initial_state
from policies.occupancy import Interval, timeline
from policies.site.site_policy import CameraPolicy, SitePolicy
from server.analysis.day import SpanState
from server.analysis.occupancy import AROUND_US, around_us
from server.domain.folding.refold import steps
from server.domain.keeping import Gone
from server.domain.records import BurstFacts, Checkpoint, Recorded
from server.domain.times.clock import SECOND_US

PART_US = 3600 * SECOND_US
"""No part is longer. Its frames are in memory."""


class LaneSpan(NamedTuple):
    """A stretch, from `from_us` to before `until_us`, in which a sector's state by a target is the same."""

    sector: str
    target: str
    state: SpanState
    from_us: int
    until_us: int


class Past(Protocol):
    def before(self, site: str, camera: str, at_us: int, limit: int) -> list[BurstFacts]: ...
    def after(self, site: str, camera: str, at_us: int, limit: int) -> list[BurstFacts]: ...


class Retention(Protocol):
    def gone(self, site: str, camera: str) -> Gone: ...


class Store(Protocol):
    @property
    def past(self) -> Past: ...
    @property
    def retention(self) -> Retention: ...
    def policy(self, digest: str) -> SitePolicy: ...
    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint: ...
    def history(
        self, site: str, camera: str, since_us: int | None = ..., until_us: int | None = ...
    ) -> Iterator[Recorded]: ...


def occupancy_series(
    store: Store, site: str, camera: str, since_us: int, until_us: int, now_us: int
) -> Iterator[list[LaneSpan]]:
    """The spans of every sector and target of a camera from `since_us` to before `until_us`, a part at a time.

    The spans of each sector and target leave no instant of a part out. A sector has spans in the parts in which some
    policy in force names it, and in parts without a frame if the one before did; where no policy in force names it,
    it is unobserved. Nothing before the first burst of the camera is asked of the store.
    """
    series = _Series(store, site, camera, min(until_us, now_us), now_us)
    for part in _parts(since_us, min(until_us, now_us), series.lost):
        yield series.spans(part)


def _parts(since_us: int, until_us: int, lost: Sequence[Interval]) -> Iterator[Interval]:
    """The stretch, cut at whole hours and where frames begin and cease to be kept."""
    edges = {edge for stretch in lost for edge in stretch if since_us < edge < until_us}
    first_us = (since_us // PART_US + 1) * PART_US
    edges.update(range(first_us, until_us, PART_US), (since_us, until_us))
    yield from pairwise(sorted(edges)) if since_us < until_us else ()


class _Series:
    """What goes on from part to part: the state, and the policy that named the sectors last."""

    def __init__(self, store: Store, site: str, camera: str, until_us: int, now_us: int) -> None:
        self._store, self._site, self._camera = store, site, camera
        gone = store.retention.gone(site, camera).bursts
        self.lost = [(0 if each.since_us is None else each.since_us, each.until_us) for each in gone]
        self._now_us = now_us
        self._start: Checkpoint | None = None
        self._policy: CameraPolicy | None = None

    def spans(self, part: Interval) -> list[LaneSpan]:
        since_us, until_us = part
        if any(from_us <= since_us and until_us <= end_us for from_us, end_us in self.lost):
            self._start = None
            return [LaneSpan(*lane, "not_kept", *part) for lane in self._lanes(self._named(since_us))]
        self._named(since_us)
        start = self._advanced(since_us)
        from_us = since_us - self._around_us if start.at_us is None else start.at_us + 1
        lost_us = [from_us for from_us, _ in self.lost if from_us >= until_us]  # a frame came there, and is gone
        end_us = min([until_us + self._around_us, self._now_us, *lost_us])
        frames = list(self._store.history(self._site, self._camera, from_us, end_us))
        ruled = list(self._ruled(frames, part))
        spans = [span for policy, mine in ruled for span in self._of_policy(policy, mine, start, frames, end_us)]
        self._policy = ruled[-1][0] if ruled else self._policy
        lanes = dict.fromkeys(lane for policy, _ in ruled for lane in self._lanes(policy))
        return [each for lane in lanes for each in _filled(lane, [s for s in spans if s[:2] == lane], part)]

    @property
    def _around_us(self) -> int:
        """Time on either side of a part that is folded as well: then presences that began or ended in it are known."""
        return AROUND_US if self._policy is None else around_us(self._policy)

    def _advanced(self, since_us: int) -> Checkpoint:
        """The state `_around_us` before a part, or where its frames begin to be kept, if that is later."""
        kept_us = max([since_us - self._around_us, *(end_us for _, end_us in self.lost if end_us <= since_us)])
        start = self._start or self._store.checkpoint(self._site, self._camera, kept_us)
        after_us = None if start.at_us is None else start.at_us + 1
        frames = self._store.history(self._site, self._camera, after_us, kept_us)
        last = None
        for last in steps(frames, start, self._store.policy):  # noqa: B007 - the last one is what is wanted
            pass
        if last is not None:
            start = Checkpoint(last.recorded.observation.at_us, encode_state(last.state))
        self._start = start
        return start

    def _ruled(self, frames: Sequence[Recorded], part: Interval) -> Iterator[tuple[CameraPolicy, Interval]]:
        """The policies of a part, in order, each with the stretch in which it was in force."""
        since_us, until_us = part
        inside = [each for each in frames if since_us <= each.observation.at_us < until_us]
        begins = [(next(mine).observation.at_us, digest) for digest, mine in groupby(inside, lambda each: each.policy)]
        if not begins:
            named = self._named(since_us)
            yield from () if named is None else ((named, part),)
            return
        edges = [since_us, *(at_us for at_us, _ in begins[1:]), until_us]
        for (_, digest), mine in zip(begins, pairwise(edges), strict=True):
            yield self._store.policy(digest).camera(self._camera), mine

    def _named(self, since_us: int) -> CameraPolicy | None:
        """The policy that named the sectors last, or else does so first."""
        if self._policy is None:
            past = self._store.past
            near = past.before(self._site, self._camera, since_us, 1) or past.after(
                self._site, self._camera, since_us, 1
            )
            if near:
                self._policy = self._store.policy(near[0].policy).camera(self._camera)
        return self._policy

    def _lanes(self, policy: CameraPolicy | None) -> list[tuple[str, str]]:
        sectors = () if policy is None else policy.sectors
        return [(sector.name, target) for sector in sectors for target in sector.rules.targets]

    def _of_policy(
        self, policy: CameraPolicy, mine: Interval, start: Checkpoint, frames: Sequence[Recorded], end_us: int
    ) -> Iterator[LaneSpan]:
        """The spans of a policy's sectors while it was in force."""
        rules = {digest: self._store.policy(digest).camera(self._camera) for digest in {f.policy for f in frames}}
        state = initial_state() if start.state is None else decode_state(start.state)
        judged = ((rules[each.policy], each.observation) for each in frames)
        for span in timeline(policy, state, judged, end_us):
            from_us, until_us = max(span.from_us, mine[0]), min(span.until_us, mine[1])
            if from_us < until_us:
                yield LaneSpan(span.sector, span.target, span.occupancy.value, from_us, until_us)


def _filled(lane: tuple[str, str], spans: Sequence[LaneSpan], part: Interval) -> Iterator[LaneSpan]:
    """The spans of a lane in order, with unobserved ones where there are none."""
    at_us = part[0]
    for span in sorted(spans, key=lambda each: each.from_us):
        if at_us < span.from_us:
            yield LaneSpan(*lane, "unobserved", at_us, span.from_us)
        yield span
        at_us = span.until_us
    if at_us < part[1]:
        yield LaneSpan(*lane, "unobserved", at_us, part[1])
