"""What is usable in a site policy and yet probably not meant."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from msgspec.structs import replace

from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from policies.site.site_policy import CameraPolicy, SitePolicy

_ABOVE, _BELOW = ("above", "upper"), ("below", "lower")
_SIDES = {"left": ("left",), "right": ("right",), "top": _ABOVE, "above": _ABOVE, "bottom": _BELOW, "below": _BELOW}
"""How the name of a way may begin -> the words for a side of the picture that it fits (`Line.sides`)."""


def remarks(
    name: str, policy: SitePolicy, ensemble_info: EnsembleInfo | None, camera: str | None = None
) -> tuple[str, ...]:
    """Remarks on the policy in the file `name`, as `camera` uses it; None: every camera.

    Without `ensemble_info`, nothing is said about models.
    """
    found = [*_alike(policy), *_of_lines(policy), *_of_enlarged(policy), *_of_schedules(policy)]
    if ensemble_info is not None:
        judged = policy if camera is None else replace(policy, cameras={camera: policy.camera(camera)})
        found += misfits(judged, ensemble_info)
    of_camera = () if camera is None else _of_camera(policy, camera)
    return *(f"{name} {what}" for what in of_camera), *(f"{name}: {what}" for what in found)


def nearest_site(site: str, known: tuple[str, ...]) -> str | None:
    """The known site that was probably meant."""
    return next(iter(get_close_matches(site, known, n=1)), None)


def _of_camera(policy: SitePolicy, camera: str) -> Iterator[str]:
    if not policy.cameras or camera in policy.cameras:
        return
    close = get_close_matches(camera, policy.cameras, n=1)
    names = ", ".join(f"[cameras.{each}]" for each in policy.cameras)
    meant = f"did you mean [cameras.{close[0]}]?" if close else f"it has {names}"
    yield f"has no [cameras.{camera}]: this camera is judged on its whole view by the site's rules; {meant}"


def _alike(policy: SitePolicy) -> Iterator[str]:
    """Names of cameras, and of sectors of a camera, that only a dash tells apart."""
    places = {"cameras": list(policy.cameras)}
    for name, camera in policy.cameras.items():
        places[f"cameras.{name}.sectors"] = [sector.name for sector in camera.sectors]
    for place, names in places.items():
        first: dict[str, str] = {}
        for name in names:
            before = first.setdefault(name.replace("-", "").replace("_", ""), name)
            if before != name:
                yield f"[{place}.{before}] and [{place}.{name}] have names that are easily taken for each other"


def _of_lines(policy: SitePolicy) -> Iterator[str]:
    """Ways over lines whose names say another side of the picture than the one they come from."""
    for camera in policy.cameras.values():
        for line in camera.lines:
            wrong = [
                f"`{name}` comes from {in_picture(side)}"
                for name, side in zip(line.directions, line.sides, strict=True)
                if not _fits(name, side)
            ]
            if wrong:
                place = f"cameras.{camera.camera}.lines.{line.name}.directions"
                yield f"{place}: {' and '.join(wrong)}: swap `a` and `b`, or give the two ways other names"


def _of_enlarged(policy: SitePolicy) -> Iterator[str]:
    """Sectors that ask to be enlarged and are seen no larger."""
    for camera in policy.cameras.values():
        for sector in camera.sectors:
            if sector.enlarge and sector.times_larger == 1:
                place = f"cameras.{camera.camera}.sectors.{sector.name}.enlarge"
                yield f"{place} has no effect: the sector and its margin are nearly the whole frame; draw a smaller one"


def enlarged_in_words(camera: CameraPolicy, ensemble_info: EnsembleInfo) -> str:
    """What detectors see of a camera besides the frame, and how many images that makes; empty if nothing."""
    sectors = camera.enlarged_sectors(ensemble_info)
    if not sectors:
        return ""
    names = ", ".join(f"`{sector.name}` {sector.times_larger:.1f} times as large" for sector in sectors)
    return f"detectors see {1 + len(camera.enlarged(ensemble_info))} images of each frame, with {names}"


def _fits(name: str, side: str) -> bool:
    """Whether a name such as `left_to_right` begins with the side that the way comes from; other names always fit."""
    word, joined, _ = name.partition("_to_")
    return not joined or word not in _SIDES or any(fitting in side for fitting in _SIDES[word])


def in_picture(side: str) -> str:
    """A side of `Line.sides` in words: `the left of the picture`."""
    return f"{side} the line" if side in ("above", "below") else f"the {side} of the picture"


def _of_schedules(policy: SitePolicy) -> Iterator[str]:
    by_clock = [entry.name for entry in policy.other.scheduled if entry.when.start is not None or entry.when.days]
    if by_clock and policy.other.place.timezone == "UTC":
        yield f"the schedule `{by_clock[0]}` goes by UTC: set `timezone` if the site keeps another clock"
