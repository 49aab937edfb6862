"""The stored cameras that the options --site and --camera select."""

from __future__ import annotations

import difflib

from server.domain.errors import Unknown
from server.domain.records import CameraHead
from server.store import Store


def find_cameras(store: Store, site: str | None, camera: str | None) -> list[CameraHead]:
    """The stored cameras of these names (None: any). Raises Unknown if there are none."""
    stored = store.cameras()
    matching = [c for c in stored if site in (None, c.site) and camera in (None, c.camera)]
    if not matching:
        near = difflib.get_close_matches(camera or "", [c.camera for c in stored], n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"cameras with data: {_names(stored)}"
        raise Unknown(f"nothing is stored of {site or 'any site'}/{camera or '*'}; {hint}")
    return matching


def find_camera(store: Store, site: str | None, camera: str | None) -> CameraHead:
    """The only camera of these names. Raises Unknown if there are none or several."""
    matching = find_cameras(store, site, camera)
    if len(matching) > 1:
        raise Unknown(f"several cameras match; name one with --site and --camera: {_names(matching)}")
    return matching[0]


def check_camera_is_stored(store: Store, site: str | None, camera: str | None = None) -> None:
    """Raises Unknown if a named site or camera never sent anything."""
    if site is not None or camera is not None:
        find_cameras(store, site, camera)


def _names(cameras: list[CameraHead]) -> str:
    return ", ".join(f"{c.site}/{c.camera}" for c in cameras) or "none"
