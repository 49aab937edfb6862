"""Stage: the lines that tracks crossed.

A step straight back undoes a crossing, so a fact waits for `outside_s`, and while its thing stands on the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from policies.events import Fact
from policies.geometry import crossing, side_of
from policies.site.site_policy import CameraPolicy
from policies.tracking import facts
from policies.tracking.lifetime import is_on_line, is_settled, is_undone
from policies.tracking.track import Crossed, Followed, Frame, Track


def update_crossings(
    policy: CameraPolicy, frame: Frame, followed: Sequence[Followed]
) -> tuple[Sequence[Followed], Sequence[Fact]]:
    """The tracks with the crossings that are not settled yet, and the facts of those that are."""
    after: list[Followed] = []
    settled: list[Fact] = []
    for each in followed:
        track, pending = each.track, each.track.crossed
        if each.sight is not None and each.sight.ground is not None:
            pending = _without_undone(policy, frame, track, pending, tuple(_crossed(policy, each)))
        if pending and track.confirmed:
            done = [c for c in pending if each.is_gone or _is_settled(policy, frame, track, c)]
            settled += [facts.crossed(track, crossed) for crossed in done]
            pending = tuple([c for c in pending if c not in done])
        after.append(each if pending == track.crossed else replace(each, track=replace(track, crossed=pending)))
    return after, settled


def _crossed(policy: CameraPolicy, followed: Followed) -> Iterator[Crossed]:
    """The lines between a track's last two steps."""
    trail = followed.track.trail
    if len(trail) < 2 or not policy.lines:
        return
    assert followed.evidence is not None
    (before_us, *_), (at_us, *_) = trail[-2:]
    there, here = trail[-2][1:], trail[-1][1:]
    for line in policy.reaching_lines:
        part = crossing(line.a, line.b, there, here)
        if part is not None:
            gap_us = at_us - before_us
            direction = line.directions[0 if side_of(line.a, line.b, there) > 0 else 1]
            yield Crossed(line.name, direction, before_us + int(part * gap_us), gap_us // 2, followed.evidence)


def _is_settled(policy: CameraPolicy, frame: Frame, track: Track, crossed: Crossed) -> bool:
    return is_settled(crossed, policy.rules.movement, frame.at_us) and not _is_on_line(policy, frame, track, crossed)


def _is_on_line(policy: CameraPolicy, frame: Frame, track: Track, crossed: Crossed) -> bool:
    line = next((line for line in policy.reaching_lines if line.name == crossed.line), None)
    return line is not None and is_on_line(line, track, policy.rules.movement, crossed.at_us, frame.aspect)


def _without_undone(
    policy: CameraPolicy, frame: Frame, track: Track, pending: tuple[Crossed, ...], steps: tuple[Crossed, ...]
) -> tuple[Crossed, ...]:
    """The pending crossings and the latest ones, without those that a step back takes back, and without that step."""
    kept = list(pending)
    for step in steps:
        back = next((c for c in kept if c.line == step.line and c.direction != step.direction), None)
        if back is not None and (
            is_undone(back, step.at_us, track, policy.rules.movement) or _is_on_line(policy, frame, track, back)
        ):
            kept.remove(back)
        else:
            kept.append(step)
    return tuple(kept)
