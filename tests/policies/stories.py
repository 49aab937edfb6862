"""Histories drawn as text or as paths, turned into observations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from policies.events import Event
from policies.fold import State, advance, initial_state
from policies.observation import Box, EnsembleInfo, ModelInfo, Observation, Prediction
from policies.site.site_policy import CameraPolicy, parse_site_policy

START_US = 1_790_000_000_000_000
DETECTOR = ModelInfo("eye", frozenset({"person", "car"}), boxes=True)
SECOND = ModelInfo("eye.2", frozenset({"person"}), boxes=True)
CLASSIFIER = ModelInfo("namer", frozenset({"person", "road"}), boxes=False)
CHANGE = ModelInfo("frame-change", frozenset({"moving", "still"}), boxes=True, votes=False)

TWO_HALVES = """
site = "yard"
[cameras.gate.sectors.west]
polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
[cameras.gate.sectors.east]
polygon = [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]
[cameras.gate.lines.middle]
a = [0.5, 0]
b = [0.5, 1]
directions = ["eastward", "westward"]
"""


def policy(text: str = TWO_HALVES, extra: str = "") -> CameraPolicy:
    """The gate's policy; `extra` is TOML put before the tables of `text`."""
    head, _, tail = text.strip().partition("\n")
    return parse_site_policy(f"{head}\n{extra}\n{tail}").camera("gate")


def observation(
    at_s: float,
    answers: dict[str, Sequence[Prediction] | None],
    models: Sequence[ModelInfo] = (DETECTOR,),
    number: int | None = None,
) -> Observation:
    """One frame `at_s` seconds into the story; models that `answers` leaves out saw nothing."""
    index = round(at_s * 1000) if number is None else number
    return Observation(
        site="yard",
        camera="gate",
        burst_id=f"burst-{index // 10_000:04d}",
        index=index % 10_000,
        at_us=START_US + round(at_s * 1e6),
        ensemble_info=EnsembleInfo("ensemble", tuple(models)),
        answers={s.model: _tuple(answers.get(s.model, ())) for s in models},
        frame_sha256=f"sha-{index}",
        size=(640, 480),
    )


def _tuple(seen: Sequence[Prediction] | None) -> tuple[Prediction, ...] | None:
    return None if seen is None else tuple(seen)


def person_at(x: float, y: float = 0.8, height: float = 0.2, score: float = 0.9) -> Prediction:
    """A person whose feet stand at (x, y)."""
    half = height * 0.15
    box: Box = (round(x - half, 5), round(y - height, 5), round(x + half, 5), round(y, 5))
    return Prediction("person", score, box)


def walk(
    path: Callable[[float], float | None], until_s: float, every_s: float = 0.5, score: float = 0.9
) -> list[Observation]:
    """A person whose feet are at `path(t)` across the frame (None: not seen), one frame each `every_s`."""
    frames = []
    for i in range(round(until_s / every_s) + 1):
        x = path(i * every_s)
        frames.append(observation(i * every_s, {"eye": [] if x is None else [person_at(x, score=score)]}))
    return frames


def drawn(picture: str, every_s: float = 0.5, sector: str = "west") -> list[Observation]:
    """A classifier's labels for one sector: `P` person, `.` nobody, `?` the model did not answer."""
    shown = {"P": [Prediction("person", 0.8, sector=sector)], ".": [Prediction("road", 0.9, sector=sector)], "?": None}
    return [observation(i * every_s, {"namer": shown[mark]}, [CLASSIFIER]) for i, mark in enumerate(picture)]


def fold(rules: CameraPolicy, state: State, frames: Iterable[Observation]) -> tuple[State, tuple[Event, ...]]:
    """`advance` over many frames in order: the final state and all events."""
    events: list[Event] = []
    for seen in frames:
        state, new = advance(rules, state, seen)
        events += new
    return state, tuple(events)


def events_of(rules: CameraPolicy, frames: Iterable[Observation]) -> tuple[Event, ...]:
    """All events of a history."""
    return fold(rules, initial_state(), frames)[1]


def lines(events: Sequence[Event]) -> list[str]:
    """Events as short text: `1.2 entered west`, in their order, with the instant of the fact."""
    text = []
    for event in events:
        second = (event.at.timestamp() * 1e6 - START_US) / 1e6
        place = event.sector or event.line or f"{event.from_sector}->{event.to_sector}"
        way = f" {event.direction}" if event.direction else ""
        text.append(f"{second:g} {event.kind} {place}{way}")
    return text
