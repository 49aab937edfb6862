"""The heart: `advance(policy, state, observation) -> (state, events)`.

Live processing and replay are this one fold. Time is the observations' own; nothing here reads a clock, draws a
random number or remembers anything outside the state. Feed a camera's observations in order of
`(at_us, burst_id, index)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from policies.event_builder import Teller
from policies.events import ORDER, Event, event_id
from policies.fusion.judgement import NOTHING, Candidate, Judgement, gist, standing_in
from policies.observation import Observation
from policies.presence import Presence, given_up, stay
from policies.site.site_policy import CameraPolicy
from policies.tracking import association
from policies.tracking.track import Crossed, Sight, Track, evidence_of, is_gone, missed, over, shown
from policies.tracking.visit import Closed, Visit

_NONE: frozenset[str] = frozenset()

REMEMBERED = 8
"""So many different frames are known again. A stuck camera, or what buffers its stream, sends the same few in turn; a
living sensor's noise never makes the same bytes twice, so one more costs nothing but the state's size.
"""


class State(msgspec.Struct, frozen=True):
    """Everything a camera's past means for its future. Goes to JSON and back without loss.

    `last_at_us` is the instant of the newest frame; `seen_us` that of the newest one that told something: a frame
    sent again by a camera that is stuck, or one that no model answered for, is as good as none. `frames` holds the
    SHA-256 of the latest REMEMBERED different frames, by when they came last: whatever was before them, any stretch
    of the past that holds so many gives the same.
    """

    last_at_us: int | None = None
    last_key: tuple[str, int] = ("", -1)
    frames: tuple[str, ...] = ()
    seen_us: int | None = None
    tracks: tuple[Track, ...] = ()
    presences: tuple[Presence, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there, and nothing is waited for."""
        return not (self.tracks or self.presences)


class OutOfOrder(ValueError):
    """An observation that is not newer than what the state has already advanced past."""


def initial_state() -> State:
    return State()


def encode_state(state: State) -> bytes:
    return msgspec.json.encode(state)


_decoder = msgspec.json.Decoder(State)


def decode_state(data: bytes | str) -> State:
    return _decoder.decode(data)


def fold(policy: CameraPolicy, state: State, observations: Iterable[Observation]) -> tuple[State, tuple[Event, ...]]:
    """`advance` over many observations in order: the final state and all events."""
    told: list[Event] = []
    for seen in observations:
        state, events = advance(policy, state, seen)
        told += events
    return state, tuple(told)


def advance(policy: CameraPolicy, state: State, seen: Observation) -> tuple[State, tuple[Event, ...]]:
    """The state after one more frame, and the facts that it settled, in a fixed order.

    Raises OutOfOrder for an observation at or before the state's own instant.
    """
    check_order(state, seen)
    at_us, key = seen.at_us, (seen.burst_id, seen.index)
    if policy.scheduled:
        policy = policy.in_force(at_us, seen.brightness)
    frames, is_known = remembered(state.frames, seen.frame_sha256)
    if is_known:
        return replace(state, last_at_us=at_us, last_key=key, frames=frames), ()
    judged = gist(policy, seen)
    if judged is NOTHING and not (state.tracks or state.presences):  # most frames
        return State(at_us, key, frames, at_us), ()
    return follow(policy, state, seen, judged, frames)


def check_order(state: State, seen: Observation) -> None:
    """Raises OutOfOrder for an observation at or before the state's own instant."""
    at_us, last_us = seen.at_us, state.last_at_us
    key = (seen.burst_id, seen.index)
    if last_us is not None and (at_us < last_us or (at_us == last_us and key <= state.last_key)):
        raise OutOfOrder(f"observation at {at_us} µs is not after {last_us} µs")


def follow(
    policy: CameraPolicy, state: State, seen: Observation, judged: Judgement, frames: tuple[str, ...]
) -> tuple[State, tuple[Event, ...]]:
    """The part of `advance` that comes after judgement: `policy` is in force, `frames` are known once `seen` has come.

    Of the policy it needs nothing by which frames are judged.
    """
    at_us, key = seen.at_us, (seen.burst_id, seen.index)
    blind = _NONE
    if judged.undecided:
        blind = _blind(policy, judged)
        if len(blind) == len(policy.targets):
            return replace(state, last_at_us=at_us, last_key=key, frames=frames), ()
    is_shown = judged.candidates and any(c.present or c.kept for c in judged.candidates)
    if not (is_shown or state.tracks or state.presences):
        return State(at_us, key, frames, at_us), ()
    step = _Step(policy, seen, state.seen_us, blind)
    tracks = step.tracks(step.known(state.tracks), judged.candidates)
    presences = step.presences(state.presences, tracks)
    return State(at_us, key, frames, at_us, tracks, presences), in_order(step.events)


def in_order(events: Sequence[Event]) -> tuple[Event, ...]:
    """The events of one frame in the order in which they are told."""
    if len(events) < 2:
        return tuple(events)
    return tuple(sorted(events, key=lambda e: (e.at, ORDER.index(e.kind), e.sector or "", e.id)))


def remembered(frames: tuple[str, ...], sha256: str) -> tuple[tuple[str, ...], bool]:
    """The different frames that came last once this one has come, the newest at the end; and whether it was known."""
    if sha256 in frames:
        return (*(one for one in frames if one != sha256), sha256), True
    return frames[1 - REMEMBERED :] + (sha256,), False  # noqa: RUF005 - half the time, in every frame of a replay


def _blind(policy: CameraPolicy, judged: Judgement) -> frozenset[str]:
    """The targets of which this frame tells nothing, since none of their sectors could be decided."""
    pairs = {(target, s.name) for s in policy.sectors for target in s.rules.targets}
    open_pairs = pairs - set(judged.undecided)
    decided = {target for target, _ in open_pairs} | {c.target for c in judged.candidates}
    return frozenset(policy.targets) - decided


class _Step:
    """One frame's work: what it needs in one place, and the events it gave.

    `previous_us` is the instant of the last frame that told something; to the targets in `blind` this one does not.
    """

    def __init__(self, policy: CameraPolicy, seen: Observation, previous_us: int | None, blind: frozenset[str]) -> None:
        self.policy = policy
        self.seen = seen
        self.previous_us = previous_us
        self.blind = blind
        self.aspect = seen.size[0] / seen.size[1]
        self.tell = Teller(policy, seen)
        self.events: list[Event] = []
        self.closed: list[tuple[Track, Closed]] = []
        self.by_name = {sector.name: sector for sector in policy.sectors}

    def known(self, tracks: tuple[Track, ...]) -> tuple[Track, ...]:
        """The tracks of targets that the policy has, in places that it has; elsewhere all that was told ends."""
        after: list[Track] = []
        for track in tracks:
            for visit in track.visits:
                if not self._is_of_interest(track.target, visit.sector):
                    track = self._broken_off(track, visit)
            if track.target in self.policy.targets:
                after.append(track)
            elif track.firm:
                self.events += [self.tell.crossed(track, crossed) for crossed in track.crossed]
        return tuple(after)

    def _is_of_interest(self, target: str, sector: str) -> bool:
        return sector in self.by_name and target in self.by_name[sector].rules.targets

    def _broken_off(self, track: Track, visit: Visit) -> Track:
        """The track without a visit that nobody asks about any more: it ends with its last sight."""
        end_us, slack_us = visit.end(visit.last_us, None, self.aspect)
        closed = Closed(visit, end_us, slack_us)
        if track.firm:
            self.closed.append((track, closed))
        if visit.counted:
            self.events.append(self.tell.left(track, closed))
        return replace(track, visits=tuple(v for v in track.visits if v is not visit))

    def tracks(self, tracks: tuple[Track, ...], candidates: tuple[Candidate, ...]) -> tuple[Track, ...]:
        """The tracks after this frame: continued, begun, hidden or gone."""
        after: list[Track] = []
        for target in self.policy.targets:
            mine = [t for t in tracks if t.target == target]
            if target in self.blind:
                after += mine
                continue
            boxed = [c for c in candidates if c.target == target and c.box is not None and (c.present or c.kept)]
            after += self._followed([t for t in mine if t.motion is not None], target, boxed)
            busy = {v.sector for t in after for v in t.visits if t.target == target and v.out_us is None}
            bare = [c for c in candidates if c.target == target and c.box is None and c.present]
            bare = [c for c in bare if c.sectors[0] not in busy]
            after += self._unboxed([t for t in mine if t.motion is None], target, bare)
        alive = [self._visited(track) for track in after]
        return tuple([track for track in alive if track is not None])

    def _followed(self, tracks: list[Track], target: str, candidates: list[Candidate]) -> Iterator[Track]:
        speed = self.policy.rules.movement.fastest(target)
        known = [self._to_find(track) for track in tracks]
        found = association.match(known, candidates, self.aspect, speed)
        hurried = association.match_hurried(known, candidates, found, self.aspect, speed)
        found = [hurried.get(place, index) for place, index in enumerate(found)]
        for place, (thing, track, index) in enumerate(zip(known, tracks, found, strict=True)):
            if index is None:
                yield self._missed(track)
                continue
            box = candidates[index].box
            assert box is not None
            if place in hurried:
                motion = thing.motion.hurried(box, self.aspect, thing.ago_s)
            else:
                motion = thing.motion.after(thing.ago_s, speed).corrected(box, self.aspect)
            yield self._shown(track, candidates[index], motion)
        taken = [c.box for i, c in enumerate(candidates) if i in found and c.box is not None]
        for i, candidate in enumerate(candidates):
            if i in found or not candidate.present or candidate.box is None:
                continue
            if not association.is_twin(candidate.box, taken):
                taken.append(candidate.box)
                yield self._begun(candidate, association.Motion.begun(candidate.box, self.aspect, speed))

    def _to_find(self, track: Track) -> association.Known:
        assert track.motion is not None
        assert track.box is not None
        ago_us = self.seen.at_us - track.seen_us
        once = len(track.trail) == 1 and track.seen_us == self.previous_us and ago_us > 0
        return association.Known(track.motion, track.box, ago_us / 1e6, once)

    def _unboxed(self, tracks: list[Track], target: str, bare: list[Candidate]) -> Iterator[Track]:
        """From labels alone: one track for the target, in every sector that shows it."""
        if not bare:
            yield from map(self._missed, tracks)
            return
        best = max(bare, key=lambda c: c.score)
        seen = replace(best, sectors=tuple(c.sectors[0] for c in bare))
        yield self._shown(tracks[0], seen, None) if tracks else self._begun(seen, None)

    def _begun(self, candidate: Candidate, motion: association.Motion | None) -> Track:
        seen = self.seen
        name = event_id(seen.site, seen.camera, candidate.target, seen.at_us, candidate.box, candidate.sectors)[:12]
        track = Track(name, candidate.target, seen.at_us, seen.at_us, 0, evidence_of(seen, candidate))
        return self._shown(track, candidate, motion)

    def _shown(self, track: Track, candidate: Candidate, motion: association.Motion | None) -> Track:
        ground, sectors = None, candidate.sectors
        if motion is not None:
            ground = motion.ground(self.aspect)
            sectors = tuple([s.name for s in standing_in(self.policy, candidate.target, ground)])
        evidence = evidence_of(self.seen, candidate)
        at_us = self.seen.at_us
        sight = Sight(candidate, motion, ground, sectors, at_us, self.previous_us, self.aspect, evidence)
        return shown(self.policy, track, sight)

    def _missed(self, track: Track) -> Track:
        return missed(self.policy, track, self.seen.at_us)

    def _visited(self, track: Track) -> Track | None:
        """The track with its visits closed, counted and told; None once it has been hidden for too long."""
        at_us, aspect = self.seen.at_us, self.aspect
        lost = track.missed_us is not None and is_gone(self.policy, track, at_us)
        ending = [v for v in track.visits if lost or over(track, self.by_name[v.sector], v, at_us, aspect)]
        for visit in sorted(ending, key=lambda v: (v.end(track.missed_us, track.motion, aspect), v.sector)):
            track = self._close(track, visit)
        if track.firm and track.visits:
            visits = tuple([self._count(track, v) for v in track.visits])
            if visits != track.visits:
                track = replace(track, visits=visits)
        if track.firm and track.crossed:
            track = replace(track, crossed=tuple(self._crossed(track, lost)))
        return None if lost else track

    def _close(self, track: Track, visit: Visit) -> Track:
        rules = self.policy.rules.movement
        end_us, slack_us = visit.end(track.missed_us, track.motion, self.aspect)
        track = replace(track, visits=tuple(v for v in track.visits if v is not visit))
        closed = Closed(visit, end_us, slack_us)
        if track.firm:
            self.closed.append((track, closed))
        dwell_us = int(self.by_name[visit.sector].rules.movement.dwell_s * 1e6)
        if not track.firm or not (visit.counted or visit.lasted_us(end_us, dwell_us) >= dwell_us):
            return track
        if not visit.counted:
            self._entered(track, visit)
        self.events.append(self.tell.left(track, closed))
        recent = tuple(c for c in track.closed if end_us - c.end_us <= rules.join_s * 1e6 * 2)
        return replace(track, closed=(*recent, closed))

    def _count(self, track: Track, visit: Visit) -> Visit:
        rules = self.by_name[visit.sector].rules.movement
        dwell_us = int(rules.dwell_s * 1e6)
        if not visit.counted and visit.lasted_us(visit.last_us, dwell_us) >= dwell_us:
            self._entered(track, visit)
            visit = replace(visit, counted=True)
        long_enough = rules.linger_s and visit.last_us - visit.entry_us >= rules.linger_s * 1e6
        if visit.counted and not visit.lingered and visit.out_us is None and long_enough:
            self.events.append(self.tell.lingered(track, visit))
            visit = replace(visit, lingered=True)
        return visit

    def _entered(self, track: Track, visit: Visit) -> None:
        """Tells that a visit counts and, if it followed another closely, that the track moved."""
        self.events.append(self.tell.entered(track, visit))
        join_us = int(self.policy.rules.movement.join_s * 1e6)
        before = [
            c
            for c in track.closed
            if (c.visit.sector, visit.sector) in self.policy.apart
            and -visit.entry_slack_us <= visit.entry_us - c.end_us <= join_us
        ]
        if before:
            self.events.append(self.tell.moved(track, max(before, key=lambda c: c.end_us), visit))

    def _crossed(self, track: Track, lost: bool) -> Iterator[Crossed]:
        wait_us = self.policy.rules.movement.outside_s * 1e6
        for crossed in track.crossed:
            if lost or self.seen.at_us - crossed.at_us >= wait_us:
                self.events.append(self.tell.crossed(track, crossed))
            else:
                yield crossed

    def presences(self, presences: tuple[Presence, ...], tracks: tuple[Track, ...]) -> tuple[Presence, ...]:
        """Presence in every sector after this frame's visits."""
        after: list[Presence] = []
        known = {(p.target, p.sector): p for p in presences}
        here: dict[tuple[str, str], list[tuple[Track, Visit]]] = {}
        for track in tracks:
            for visit in track.visits:
                here.setdefault((track.target, visit.sector), []).append((track, visit))
        closed: dict[tuple[str, str], list[Closed]] = {}
        for track, one in self.closed:
            closed.setdefault((track.target, one.visit.sector), []).append(one)
        for sector in self.policy.sectors:
            for target in sector.rules.targets:
                place = (target, sector.name)
                before = known.pop(place, None)
                if before is None and place not in here and place not in closed:
                    continue
                presence = before
                if target not in self.blind:
                    there = (here.get(place, ()), closed.get(place, ()))
                    presence, changes = stay(before, target, sector, *there, self.seen.at_us)
                    self.events += [self.tell.presence(change) for change in changes]
                if presence is not None:
                    after.append(presence)
        for orphan in known.values():
            gone = closed.get((orphan.target, orphan.sector), ())
            self.events.append(self.tell.presence(given_up(orphan, gone, self.seen.at_us)))
        return tuple(after)
