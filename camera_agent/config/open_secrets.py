"""Tokens and passwords in files that every user of the machine can read."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from camera_agent.config.settings import Settings
from camera_agent.network.addresses import credentials


def open_secrets(file: Path, settings: Settings) -> Iterator[str]:
    """One sentence for each file with a token or a password that others can read, with what mends it.

    `file` is the settings file. Others are users beside the owner and the group, where the folders let them through.
    """
    if _is_open(file) and (held := list(_held(settings))):
        yield f"{file}: every user of this machine can read {', '.join(held)} in it: chmod o= {file}"
    token_files = [settings.server.token_file, *(camera.token_file for camera in settings.cameras)]
    for path in dict.fromkeys(Path(name) for name in token_files if name is not None):
        if _is_open(path):
            yield f"{path}: every user of this machine can read the token in it: chmod o= {path}"


def _held(settings: Settings) -> Iterator[str]:
    if settings.server.token:
        yield "`token` of [server]"
    for camera in settings.cameras:
        if camera.token:
            yield f"`token` of camera {camera.name}"
        if camera.address and (credentials(camera.address) or "?" in camera.address):
            yield f"the address of camera {camera.name}"


def _is_open(path: Path) -> bool:
    try:
        place = path.resolve(strict=True)
        return bool(place.stat().st_mode & stat.S_IROTH) and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in place.parents
        )
    except OSError:
        return False
