"""What a camera's state remembers of its scene, of cameras whose policy asks for `moving`.

It is folded from the evidence that `frame-change` gives with the first frame of a burst. A signature is replaced once
eight more are kept, within 80 minutes of a view that brings evidence. The view of a camera that was turned is not: it
waits for its owner to look.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from policies.geometry import Point
from policies.observation import Observation
from policies.scene.nuisances import Places, remembered_places, with_places
from policies.scene.signature import agreement, move_of, profiles_of

MOST_SHOWN = 8
FEWEST_SHOWN = 3
"""Signatures before there is a scene to compare with."""
FIRST_SLOT_US, SLOT_US = 5_000_000, 600_000_000
"""The first signature of each such stretch of Unix time is kept, while a scene is not known yet and later: a burst that
comes late changes few of them.
"""
UNLIKE = 0.54
"""Nothing but another view agrees less with what was shown: light, infrared and a lorry before it do not."""
SURE = 0.9
"""A view that agrees so much lies nowhere else."""
SAME = 0.7
"""Signatures that agree so much, each with its noise, are of one view. So is the view of a camera that was turned back,
or before which something stood, although the light is another one by now.
"""
FEWEST_DOUBTS = 3
MOVED_US = 15_000_000
"""A view that lies elsewhere for so long was moved."""
GONE_US = 300_000_000
"""A view that is nowhere for so long is another one, or something stands before all of it."""


class Doubt(msgspec.Struct, frozen=True, array_like=True):
    """Signatures in a row that speak against what is believed of the view: since `since_us`, `count` of them, the first
    of which was `evidence`, moved by these places.
    """

    since_us: int
    count: int
    evidence: str
    across: int = 0
    down: int = 0


class Scene(msgspec.Struct, frozen=True, array_like=True):
    """`shown`: signatures of the view with their instants, rising. `turned_us`: since when the camera shows another
    one. `places`: see `nuisances`.
    """

    shown: tuple[tuple[int, str], ...] = ()
    doubt: Doubt | None = None
    turned_us: int | None = None
    places: Places = ()


UNKNOWN = Scene()


def evidence_of(seen: Observation) -> str | None:
    """The evidence of the scene that a frame brings; most bring none."""
    for answer in seen.answers.values():
        if answer and answer[0].evidence is not None and profiles_of(answer[0].evidence) is not None:
            return answer[0].evidence
    return None


def remembered_scene(scene: Scene | None, seen: Observation, looked_us: int | None) -> Scene | None:
    """What is remembered once a frame has come. At `looked_us` the owner looked: what was shown before is forgotten."""
    if looked_us is not None and scene is not None and seen.at_us >= looked_us:
        scene = _since(scene, looked_us)
    evidence = evidence_of(seen)
    if scene is not None and scene.places and (places := remembered_places(scene.places, seen.at_us)) != scene.places:
        scene = replace(scene, places=places)
    if evidence is None:
        return scene
    scene = UNKNOWN if scene is None else scene
    shown = tuple(text for _, text in scene.shown)
    alike = agreement(shown, evidence) if len(shown) >= FEWEST_SHOWN else None
    if alike is None:
        return _shown(scene, seen.at_us, evidence, FIRST_SLOT_US)
    across, down = (0, 0) if alike >= SURE else move_of(shown, evidence)
    if scene.turned_us is not None:
        return _turned(scene, seen.at_us, evidence, is_back=alike >= SAME and (across, down) == (0, 0))
    if (across, down) == (0, 0) and alike >= UNLIKE:
        return _shown(replace(scene, doubt=None) if scene.doubt else scene, seen.at_us, evidence, SLOT_US)
    doubt = _doubted(scene.doubt, seen.at_us, evidence, across, down)
    least_us = MOVED_US if doubt.across or doubt.down else GONE_US
    if doubt.count >= FEWEST_DOUBTS and seen.at_us - doubt.since_us >= least_us:
        return replace(scene, doubt=None, turned_us=doubt.since_us)
    return replace(scene, doubt=doubt)


def learned(scene: Scene | None, at_us: int, nowhere: Sequence[Point]) -> Scene | None:
    """What is remembered once something that moved was given up at these points, before it had gone anywhere."""
    if not nowhere:
        return scene
    scene = UNKNOWN if scene is None else scene
    return replace(scene, places=with_places(scene.places, at_us, nowhere))


def _since(scene: Scene, looked_us: int) -> Scene:
    if not any(at_us < looked_us for at_us in (scene.turned_us, *(at for at, _ in scene.shown)) if at_us is not None):
        return scene
    return Scene(tuple(each for each in scene.shown if each[0] >= looked_us), places=scene.places)


def _shown(scene: Scene, at_us: int, evidence: str, slot_us: int) -> Scene:
    if scene.shown and at_us // slot_us == scene.shown[-1][0] // slot_us:
        return scene
    return replace(scene, shown=(*scene.shown, (at_us, evidence))[-MOST_SHOWN:])


def _turned(scene: Scene, at_us: int, evidence: str, *, is_back: bool) -> Scene:
    """The scene of a camera that was turned. One that was turned back, or only covered, looks where it should."""
    if not is_back:
        return replace(scene, doubt=None) if scene.doubt else scene
    doubt = Doubt(at_us, 1, evidence) if scene.doubt is None else replace(scene.doubt, count=scene.doubt.count + 1)
    if doubt.count >= FEWEST_DOUBTS and at_us - doubt.since_us >= MOVED_US:
        return replace(scene, doubt=None, turned_us=None)
    return replace(scene, doubt=doubt)


def _doubted(doubt: Doubt | None, at_us: int, evidence: str, across: int, down: int) -> Doubt:
    """The doubt with one more signature; a new one where that shows something else than the first of them did."""
    alike = None if doubt is None else agreement((doubt.evidence,), evidence)
    if doubt is None or alike is None or alike < SAME:
        return Doubt(at_us, 1, evidence, across, down)
    if abs(doubt.across - across) > 1 or abs(doubt.down - down) > 1:  # where it lies is not known
        across = down = 0
    return replace(doubt, count=doubt.count + 1, across=across, down=down)
