"""The heart: `advance(policy, state, observation) -> (state, events)`.

Live processing and replay are this one fold. Time is the observations' own: nothing here reads a clock, draws a random
number or keeps anything outside the state. Feed a camera's observations in order of `(at_us, burst_id, index)`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from policies.event_builder import build_events
from policies.events import Event
from policies.fusion.judge import blind_targets, relevant_judgement
from policies.fusion.judgement import NOTHING, Judgement
from policies.observation import Observation
from policies.presence import Presence, update_presences
from policies.scene.memory import Scene, learned, remembered_scene
from policies.site.site_policy import CameraPolicy
from policies.tracking.associate import associate
from policies.tracking.crossings import update_crossings
from policies.tracking.follow import follow
from policies.tracking.gather import gather
from policies.tracking.going import went_nowhere
from policies.tracking.retire import retire
from policies.tracking.track import Frame, Track
from policies.tracking.visits import update_visits

REMEMBERED = 8
"""How many of the latest different frames are recognised. A stuck camera, or a buffer of its stream, repeats a few
frames in turn. A working sensor's noise never makes the same bytes twice.
"""

Judge = Callable[[CameraPolicy, Observation], Judgement]


class State(msgspec.Struct, frozen=True):
    """Everything a camera's past means for its future. Goes to JSON and back without loss.

    `last_at_us` is the instant of the newest frame; `seen_us` that of the newest one that could be judged, which a
    repeated frame or one that no model answered for cannot. `frames` holds the SHA-256 of the latest REMEMBERED
    different frames, in the order of their latest arrival. Any part of the past with so many different frames gives
    the same ones. `scene` is what is remembered of the view where the policy asks for `moving`; else there is none.
    """

    last_at_us: int | None = None
    last_key: tuple[str, int] = ("", -1)
    frames: tuple[str, ...] = ()
    seen_us: int | None = None
    tracks: tuple[Track, ...] = ()
    presences: tuple[Presence, ...] = ()
    scene: Scene | UnsetType = UNSET

    @property
    def is_empty(self) -> bool:
        """Whether there is no track and no presence."""
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


def advance(
    policy: CameraPolicy, state: State, seen: Observation, judge: Judge = relevant_judgement
) -> tuple[State, tuple[Event, ...]]:
    """The state after one more frame, and the events that it settled, in a fixed order.

    `judge` may return a judgement that is known already. Raises OutOfOrder for an observation at or before the state's
    own instant.
    """
    at_us, key, last_us = seen.at_us, (seen.burst_id, seen.index), state.last_at_us
    if last_us is not None and at_us <= last_us and (at_us < last_us or key <= state.last_key):
        raise OutOfOrder(f"observation at {at_us} µs is not after {last_us} µs")
    is_moving, looked_us = policy.asks_for_moving, policy.looked_us
    if policy.scheduled:
        policy = policy.in_force(at_us, seen.brightness)
    frames, is_known = remembered(state.frames, seen.frame_sha256)
    if is_known:
        scene = state.scene if is_moving else UNSET
        return replace(state, last_at_us=at_us, last_key=key, frames=frames, scene=scene), ()
    scene = remembered_scene(state.scene or None, seen, looked_us) or UNSET if is_moving else UNSET
    if scene and scene.turned_us is not None:
        return replace(state, last_at_us=at_us, last_key=key, frames=frames, scene=scene), ()
    judged = judge(policy, seen)
    if judged is NOTHING and not (state.tracks or state.presences):  # most frames
        return State(at_us, key, frames, at_us, scene=scene), ()
    blind = blind_targets(policy, judged)
    if blind and len(blind) == len(policy.targets):
        return replace(state, last_at_us=at_us, last_key=key, frames=frames, scene=scene), ()
    if state.is_empty and not any(c.present or c.kept for c in judged.candidates):
        return State(at_us, key, frames, at_us, scene=scene), ()
    places, is_doubted = (scene.places, scene.doubt is not None) if scene else ((), False)
    frame = Frame(seen, at_us, state.seen_us, blind, seen.size[0] / seen.size[1], places, is_doubted)

    tracks, retired, retirements = retire(policy, state.tracks)
    judged = gather(policy, frame, tracks, judged)
    matches = associate(policy, frame, tracks, judged)
    followed = follow(policy, frame, matches)
    if is_moving:
        scene = learned(scene or None, at_us, went_nowhere(frame, followed)) or UNSET
    followed, crossings = update_crossings(policy, frame, followed)
    tracks, closed, visits = update_visits(policy, frame, followed)
    presences, changes = update_presences(policy, frame, state.presences, tracks, (*retired, *closed))
    events = build_events(policy, seen, (*retirements, *crossings, *visits, *changes))
    return State(at_us, key, frames, at_us, tracks, presences, scene), events


def remembered(frames: tuple[str, ...], sha256: str) -> tuple[tuple[str, ...], bool]:
    """The latest different frames once this one has come, the newest at the end; and whether it was among them."""
    if sha256 in frames:
        return (*(frame for frame in frames if frame != sha256), sha256), True
    return frames[1 - REMEMBERED :] + (sha256,), False  # noqa: RUF005 - half the time, in every frame of a replay
