"""Frames as pages show them: the picture or why there is none, and the shapes to draw over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from policies.events import Event, instant
from policies.observation import Observation
from policies.site.site_policy import CameraPolicy
from server.analysis.explain.arithmetic import score_text
from server.analysis.explain.explanation import FrameRecord
from server.analysis.explain.scene import Mark, Path, Picture, SceneFrame, marks_of
from server.analysis.explain.text import weighing_text, worth_showing
from server.console.drawing import Arrow, Outline, Rectangle, Scale, outlines, ranked
from server.domain.times.local_time import LocalTime

_REPEATS = "repeats a recent frame, as a stuck camera sends them: ignored"
_REASONS = {
    "kept": None,
    "no_longer_kept": "This picture is no longer kept.",
    "never_kept": "This picture was never kept (keep_frames).",
}


class FrameShown(msgspec.Struct, frozen=True):
    """A frame: when, what became of its picture (`why_not`: why it is not shown), the boxes in it, and its verdict in
    words.
    """

    sha256: str
    at: datetime
    at_local: str
    burst_id: str
    index: int
    picture: Picture
    why_not: str | None
    height: int
    decides: bool
    settles: bool
    boxes: tuple[Rectangle, ...]
    verdict: str
    words: str


class LineShown(msgspec.Struct, frozen=True):
    """A line of the camera, and the arrow of its first direction."""

    name: str
    points: str
    arrow: Arrow


class Overlay(msgspec.Struct, frozen=True):
    """What lies over every frame of a page, in a view box that is 1000 wide and `height` high."""

    height: int
    sectors: tuple[Outline, ...]
    polygons: tuple[str, ...]
    enlarged: tuple[Rectangle, ...]
    nuisances: tuple[Rectangle, ...]
    lines: tuple[LineShown, ...]
    courses: tuple[Arrow, ...]


def initials_of(models: Iterable[str]) -> dict[str, str]:
    """A letter for each model, with a number where two begin alike."""
    initials: dict[str, str] = {}
    for model in dict.fromkeys(models):
        letter = model[:1].upper()
        same = sum(each[:1] == letter for each in initials.values())
        initials[model] = f"{letter}{same + 1}" if same else letter
    return initials


def shown_frame(frame: SceneFrame, local: LocalTime, initials: dict[str, str]) -> FrameShown:
    """A frame with its instant in local time."""
    scale = Scale(frame.size)
    return FrameShown(
        sha256=frame.sha256,
        at=instant(frame.at_us),
        at_local=local.precise(frame.at_us),
        burst_id=frame.burst_id,
        index=frame.index,
        picture=frame.picture,
        why_not=_REASONS[frame.picture],
        height=scale.height,
        decides=frame.decides,
        settles=frame.settles,
        boxes=ranked(_rectangle(scale, mark, initials) for mark in frame.marks),
        verdict="" if frame.arithmetic is None else frame.arithmetic.verdict,
        words=_words(frame),
    )


def minute_frame(
    policy: CameraPolicy,
    seen: Observation,
    record: FrameRecord,
    picture: Picture,
    local: LocalTime,
    initials: dict[str, str],
) -> FrameShown:
    """A frame of an explained minute; `policy` is that in force in it."""
    scale = Scale(seen.size)
    marks = [mark for target in policy.targets for mark in marks_of(policy, seen, target, None)]
    shown = [] if record.repeats else [weighing_text(weighing) for weighing in worth_showing(record)]
    silent = [f"{model} did not answer" for model in record.silent]
    verdicts = {weighing.verdict for weighing in record.weighings if weighing.sectors}
    return FrameShown(
        sha256=seen.frame_sha256,
        at=instant(seen.at_us),
        at_local=local.precise(seen.at_us),
        burst_id=seen.burst_id,
        index=seen.index,
        picture=picture,
        why_not=_REASONS[picture],
        height=scale.height,
        decides=False,
        settles=False,
        boxes=ranked(_rectangle(scale, mark, initials) for mark in marks),
        verdict="ignored" if record.repeats else "present" if "present" in verdicts else "",
        words=_REPEATS if record.repeats else ". ".join([*shown, *silent]) or "no model saw anything",
    )


def overlay_of(policy: CameraPolicy, size: tuple[int, int], event: Event | None, paths: Sequence[Path]) -> Overlay:
    """Sectors (those of an event marked), enlarged parts, known nuisances, lines with arrows, and courses."""
    scale = Scale(size)
    mine = set() if event is None else {event.sector, event.from_sector, event.to_sector}
    sectors = tuple(
        msgspec.structs.replace(each, state="occupied" if each.name in mine else "") for each in outlines(policy)
    )
    return Overlay(
        height=scale.height,
        sectors=sectors,
        polygons=tuple(scale.points(each.corners) for each in sectors),
        enlarged=tuple(
            scale.rectangle(each.window, each.name, "enlarged") for each in policy.sectors if each.times_larger > 1
        ),
        nuisances=tuple(scale.rectangle(each.box, each.name, "nuisance") for each in policy.suppressions),
        lines=tuple(
            LineShown(line.name, scale.points((line.a, line.b)), scale.across(line.a, line.b, line.directions[0]))
            for line in policy.lines
        ),
        courses=tuple(scale.course([(x, y) for _, x, y in path.points]) for path in paths if len(path.points) > 1),
    )


def _rectangle(scale: Scale, mark: Mark, initials: dict[str, str]) -> Rectangle:
    initial = initials.get(mark.model, mark.model[:1].upper())
    return scale.rectangle(mark.box, f"{initial} {score_text(mark.score)}", "mine" if mark.is_mine else "other")


def _words(frame: SceneFrame) -> str:
    if frame.is_repeat:
        return _REPEATS
    silent = f"; {', '.join(frame.silent)} did not answer" if frame.silent else ""
    if frame.arithmetic is None:
        return f"no model saw it{silent}"
    return f"{frame.arithmetic.verdict}: {frame.arithmetic.sentence}"
