"""What an event rests on, frame by frame: the frames of its visit, who saw what in them, and the path of its track.

The frames are folded again, so that a path is that of the track. Only some minutes are folded while somebody waits:
where no checkpoint is near, the fold begins a minute before the visit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from policies.events import Event, microseconds
from policies.fold import State
from policies.fusion.judge import judge
from policies.fusion.judgement import Candidate
from policies.observation import Box, Observation
from policies.site.site_policy import CameraPolicy
from policies.tracking.track import Track
from server.analysis.explain.arithmetic import Arithmetic, arithmetic_of, nearest
from server.analysis.explain.minute import Store
from server.domain.folding.refold import steps
from server.domain.pictures.kept_frames import FrameFate
from server.domain.records import Checkpoint, LoggedEvent, Recorded
from server.domain.times.clock import SECOND_US

Picture = Literal["kept", "no_longer_kept", "never_kept"]

MOST = 60
"""So many frames are shown at most; of more, some evenly spread ones."""
_SLACK_US = 2 * SECOND_US
_HEAD_US, _TAIL_US = 180 * SECOND_US, 60 * SECOND_US
_NEAR_US, _RUN_UP_US = 300 * SECOND_US, 60 * SECOND_US
_VISIT_US = 3600 * SECOND_US
_NEIGHBOURS = 100
_WEAK = 0.1
_MARKS = 12
_PATHS = 5
_START = Checkpoint(None, None)


class Mark(msgspec.Struct, frozen=True):
    """A box of the target that a model saw. `is_mine`: it lies on the thing that the event is about."""

    model: str
    label: str
    score: float
    box: Box
    is_mine: bool


class SceneFrame(msgspec.Struct, frozen=True):
    """One frame. `decides`: the event's votes are those of this frame; `settles`: it made the event.

    `arithmetic` is that of the candidate that the event is about, else of the nearest in its place; None: no model saw
    the target there.
    """

    at_us: int
    sha256: str
    burst_id: str
    index: int
    size: tuple[int, int]
    brightness: float | None
    picture: Picture
    decides: bool
    settles: bool
    is_repeat: bool
    silent: tuple[str, ...]
    marks: tuple[Mark, ...]
    arithmetic: Arithmetic | None


class Path(msgspec.Struct, frozen=True):
    """Where the feet of a track were, in 0..1 of the frame, and when (us); in order."""

    track: str
    points: tuple[tuple[int, float, float], ...]


class Scene(msgspec.Struct, frozen=True):
    """The frames from `since_us` to `until_us` that are shown; `left_out` more are stored. `visit` holds the events of
    the same stay, in order.
    """

    since_us: int
    until_us: int
    frames: tuple[SceneFrame, ...]
    left_out: int
    paths: tuple[Path, ...]
    visit: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame, the policy in force in it, and the tracks of the event after it. `is_repeat`: the fold ignored it."""

    recorded: Recorded
    policy: CameraPolicy
    tracks: tuple[Track, ...]
    is_repeat: bool = False

    @property
    def seen(self) -> Observation:
        return self.recorded.observation


def scene_of(store: Store, logged: LoggedEvent) -> Scene:
    """The scene of an event. Without frames where its bursts are no longer kept."""
    event = logged.event
    visit = _visit(store, logged)
    since_us = min(microseconds(each.started_at) for each in visit) - _SLACK_US
    until_us = max(microseconds(each.confirmed_at) for each in visit) + _SLACK_US
    seen: list[_Seen] = []
    for first_us, last_us in _windows(since_us, until_us):
        seen += _fold(store, event, first_us, last_us)
    seen = _with_deciding(store, event, seen)
    shown = _chosen(event, seen)
    fates = store.frames.fates(event.site, event.camera, [each.seen.frame_sha256 for each in shown])
    frames = tuple(_frame(event, each, fates[each.seen.frame_sha256]) for each in shown)
    return Scene(since_us, until_us, frames, len(seen) - len(shown), tuple(_paths(seen)), tuple(visit))


def picture_of(fate: FrameFate) -> Picture:
    """What became of a picture, in the words of the API."""
    return "never_kept" if fate == "unknown" else fate


def marks_of(policy: CameraPolicy, seen: Observation, target: str, mine: Box | None) -> Iterator[Mark]:
    """The strongest boxes of a target in a frame, those on `mine` first."""
    classes = policy.targets.get(target, frozenset())
    found = [
        Mark(model, each.label, each.score, each.box, is_mine=mine is not None and _overlaps(each.box, mine))
        for model, answer in seen.answers.items()
        for each in answer or ()
        if each.box is not None and each.label in classes and each.score >= _WEAK
    ]
    yield from sorted(found, key=lambda mark: (not mark.is_mine, -mark.score))[:_MARKS]


def _overlaps(a: Box, b: Box) -> bool:
    """Whether one of two boxes holds the middle of the other."""
    return any(
        x1 <= (u1 + u2) / 2 <= x2 and y1 <= (v1 + v2) / 2 <= y2
        for (x1, y1, x2, y2), (u1, v1, u2, v2) in ((a, b), (b, a))
    )


def _visit(store: Store, logged: LoggedEvent) -> list[Event]:
    """The events of the stay that an event belongs to, itself among them, as far as they lie within an hour."""
    event, found = logged.event, [logged.event]
    if event.sector is None or logged.is_withdrawn:
        return found
    start_us = microseconds(event.started_at)
    place = (event.site, event.camera)
    if event.kind == "left":
        before = store.begun(start_us - _VISIT_US, start_us + 1, *place, "entered", backwards=True, limit=_NEIGHBOURS)
        entered = next((each.event for each in before if _stay(each.event) == _stay(event)), None)
        if entered is None:
            return found
        start_us = microseconds(entered.started_at)
    with_it = [each.event for each in store.begun(start_us, start_us + 1, *place, limit=_NEIGHBOURS)]
    found += [each for each in with_it if (each.sector, each.label) == (event.sector, event.label)]
    for entered in [each for each in found if each.kind == "entered"]:
        after = store.begun(start_us, start_us + _VISIT_US, *place, "left", limit=_NEIGHBOURS)
        found += [each.event for each in after if _stay(each.event) == _stay(entered)][:1]
    return sorted({each.id: each for each in found}.values(), key=lambda each: (each.at, each.id))


def _stay(event: Event) -> tuple[str | None, str | None]:
    return event.track, event.sector


def _windows(since_us: int, until_us: int) -> list[tuple[int, int]]:
    """The parts of a visit that are shown: all of a short one, the beginning and the end of a long one."""
    if until_us - since_us <= _HEAD_US + _TAIL_US:
        return [(since_us, until_us)]
    return [(since_us, since_us + _HEAD_US), (until_us - _TAIL_US, until_us)]


def _fold(store: Store, event: Event, since_us: int, until_us: int) -> list[_Seen]:
    """The frames of a window, with what a fold of them knows."""
    start = store.checkpoint(event.site, event.camera, since_us)
    if start.at_us is None or start.at_us < since_us - _NEAR_US:
        start, from_us = _START, since_us - _RUN_UP_US
    else:
        from_us = start.at_us + 1
    history = store.history(event.site, event.camera, from_us, until_us + 1)
    found: list[tuple[Recorded, State, bool]] = []
    frames: tuple[str, ...] = ()
    for step in steps(history, start, store.policy):
        seen = step.recorded.observation
        if seen.at_us >= since_us:
            found.append((step.recorded, step.state, seen.frame_sha256 in frames))
        frames = step.state.frames
    policies = {digest: store.policy(digest).camera(event.camera) for digest in {each.policy for each, *_ in found}}
    is_known = any(track.id == event.track for _, state, _ in found for track in state.tracks)
    return [
        _Seen(
            recorded,
            policies[recorded.policy].in_force(recorded.observation.at_us, recorded.observation.brightness),
            tuple(track for track in state.tracks if _is_of(event, track, is_known=is_known)),
            is_repeat,
        )
        for recorded, state, is_repeat in found
    ]


def _is_of(event: Event, track: Track, *, is_known: bool) -> bool:
    """Whether an event is about a track: its own or, where it names none that is known, one that was in its sector."""
    if is_known:
        return track.id == event.track
    places = {event.sector, event.from_sector, event.to_sector}
    return track.target == event.label and any(visit.sector in places for visit in track.visits)


def _with_deciding(store: Store, event: Event, seen: list[_Seen]) -> list[_Seen]:
    """The frames with the deciding one, which may be far before: a track's best frame."""
    if any(_decides(event, each.seen) for each in seen):
        return seen
    burst_id = event.provenance.burst_ids[0]
    if store.past.burst(burst_id) is None:
        return seen
    kept = store.kept(burst_id)
    policy = store.policy(kept.policy).camera(event.camera)
    best = [
        _Seen(Recorded(kept.policy, each), policy.in_force(each.at_us, each.brightness), ())
        for each in kept.observations
        if _decides(event, each)
    ]
    return [*best[:1], *seen]


def _decides(event: Event, seen: Observation) -> bool:
    source = event.provenance
    return (seen.burst_id, seen.frame_sha256) == (source.burst_ids[0], source.frame_sha256[0])


def _settles(event: Event, seen: Observation) -> bool:
    source = event.provenance
    return (seen.burst_id, seen.frame_sha256) == (source.burst_ids[-1], source.frame_sha256[-1])


def _chosen(event: Event, seen: Sequence[_Seen]) -> list[_Seen]:
    """At most MOST of the frames: those that the event names, and others evenly spread, the first and the last too."""
    if len(seen) <= MOST:
        return list(seen)
    wanted = {round(i * (len(seen) - 1) / (MOST - 3)) for i in range(MOST - 2)}
    wanted |= {i for i, each in enumerate(seen) if _decides(event, each.seen) or _settles(event, each.seen)}
    return [each for i, each in enumerate(seen) if i in wanted][:MOST]


def _frame(event: Event, each: _Seen, fate: FrameFate) -> SceneFrame:
    seen, policy = each.seen, each.policy
    mine = _mine(event, each)
    best = nearest([arithmetic_of(policy, seen, candidate) for candidate in mine])
    return SceneFrame(
        at_us=seen.at_us,
        sha256=seen.frame_sha256,
        burst_id=seen.burst_id,
        index=seen.index,
        size=seen.size,
        brightness=seen.brightness,
        picture=picture_of(fate),
        decides=_decides(event, seen),
        settles=_settles(event, seen),
        is_repeat=each.is_repeat,
        silent=tuple(model for model, answer in seen.answers.items() if answer is None),
        marks=tuple(marks_of(policy, seen, event.label, None if best is None else best.box)),
        arithmetic=best,
    )


def _mine(event: Event, each: _Seen) -> list[Candidate]:
    """The candidates of a frame that the event is about: in the deciding frame the one with its votes, else that of its
    track, else those in its place.
    """
    seen = each.seen
    known = [candidate for candidate in judge(each.policy, seen).candidates if candidate.target == event.label]
    voted = (event.votes, event.margin, event.score)
    if _decides(event, seen) and (same := [c for c in known if (c.votes, c.ruling.margin, c.score) == voted]):
        return same
    boxes = [track.box for track in each.tracks if track.seen_us == seen.at_us and track.box is not None]
    places = {event.sector, event.from_sector, event.to_sector} - {None}
    return [c for c in known if c.box is not None and c.box in boxes] or [
        c for c in known if not places or places & set(c.sectors)
    ]


def _paths(seen: Iterable[_Seen]) -> Iterator[Path]:
    points: dict[str, list[tuple[int, float, float]]] = {}
    for each in seen:
        for track in each.tracks:
            if track.trail and track.trail[-1][0] == each.seen.at_us:
                points.setdefault(track.id, []).append(track.trail[-1])
    for track_id, where in list(points.items())[:_PATHS]:
        yield Path(track_id, tuple(where))
