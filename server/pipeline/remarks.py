"""What is usable in a site policy and yet probably not meant."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from msgspec.structs import replace

from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from policies.site.site_policy import SitePolicy


def remarks(
    name: str, policy: SitePolicy, ensemble_info: EnsembleInfo | None, camera: str | None = None
) -> tuple[str, ...]:
    """Remarks on the policy in the file `name`, as `camera` uses it; None: every camera.

    Without `ensemble_info`, nothing is said about models.
    """
    found = [*_alike(policy), *_of_schedules(policy)]
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


def _of_schedules(policy: SitePolicy) -> Iterator[str]:
    by_clock = [entry.name for entry in policy.other.scheduled if entry.when.start is not None or entry.when.days]
    if by_clock and policy.other.place.timezone == "UTC":
        yield f"the schedule `{by_clock[0]}` goes by UTC: set `timezone` if the site keeps another clock"
