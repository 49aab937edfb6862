"""Reading `agent.toml`: what cannot be used is refused with its line, its path and, for a misspelt key, what it
may have meant.

Relative paths are relative to the file itself; `~` and `$VARIABLES` in paths are expanded, so that a unit can say
`token_file = "$CREDENTIALS_DIRECTORY/token"`.
"""

from __future__ import annotations

import os
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, get_args, get_type_hints

import msgspec

from camera_agent import whereabouts
from camera_agent.settings import InvalidSettings, Settings, credential_file

_NAME_FORM = "a name has 1 to 63 lower-case letters, digits, `-` or `_`"
_WINDOW_FORM = "a window of the day is of the form `06:00-22:00`"


def load_settings(path: Path) -> Settings:
    """Read and check `agent.toml`. Raises `InvalidSettings`, whose message is fit to be shown to a user."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        settings = msgspec.convert(tomllib.loads(text), Settings)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        raise InvalidSettings(f"{path}:{found[1] if found else 1}: not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise InvalidSettings(_explain(path, text, str(error))) from error
    settings = _with_absolute_paths(settings, path.resolve().parent)
    for fault in _faults(settings):
        raise InvalidSettings(_placed(path, text, fault.at, fault.message))
    return settings


class _Fault(NamedTuple):
    at: whereabouts.Path
    message: str


def _explain(path: Path, text: str, complaint: str) -> str:
    """msgspec's sentence with file, line and path, and for an unknown key what it may have meant."""
    message, _, where = complaint.rpartition(" - at `")
    message, at = (message, whereabouts.steps(where.rstrip("`"))) if message else (complaint, ())
    if unknown := re.search(r"unknown field `([^`]*)`", message):
        message = "unknown key" + whereabouts.suggestion(unknown[1], _keys_at(at))
        at = (*at, unknown[1])
    elif missing := re.search(r"missing required field `([^`]*)`", message):
        message = f"`{missing[1]}` is missing"
    elif "matching regex" in message:
        message = _WINDOW_FORM if "hours" in at else _NAME_FORM
    return _placed(path, text, at, message)


def _placed(path: Path, text: str, at: whereabouts.Path, message: str) -> str:
    place = f"{path}:{whereabouts.line_of(text, at) or 1}"
    return f"{place}: {whereabouts.spelled(at)}: {message}" if at else f"{place}: {message}"


def _keys_at(at: whereabouts.Path) -> tuple[str, ...]:
    """The keys that the table at `at` knows, found by walking the declarations above."""
    struct: type = Settings
    for step in at:
        if isinstance(step, str):
            struct = _struct_in(get_type_hints(struct)[step]) or struct
    return tuple(field.encode_name for field in msgspec.structs.fields(struct))


def _struct_in(annotation: object) -> type | None:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next((found for part in get_args(annotation) if (found := _struct_in(part))), None)


def _with_absolute_paths(settings: Settings, folder: Path) -> Settings:
    def absolute(given: str | None) -> str | None:
        return None if given is None else str(folder / Path(os.path.expandvars(given)).expanduser())

    replace = msgspec.structs.replace
    has_token = settings.server.token is not None or settings.server.token_file is not None
    token_file = absolute(settings.server.token_file) if has_token else credential_file()
    return replace(
        settings,
        state_dir=absolute(settings.state_dir),
        metrics_file=absolute(settings.metrics_file),
        spool=replace(settings.spool, dir=absolute(settings.spool.dir)),
        server=replace(settings.server, token_file=token_file, ca_file=absolute(settings.server.ca_file)),
        cameras=tuple(
            replace(
                camera,
                video=absolute(camera.video),
                folder=absolute(camera.folder),
                token_file=absolute(camera.token_file),
            )
            for camera in settings.cameras
        ),
    )


def _faults(settings: Settings) -> list[_Fault]:
    """What only the machine can tell: files that are not there, an instant that has not come yet."""
    faults: list[_Fault] = []

    def need(path: str | None, is_there: bool, *at: str | int) -> None:
        if path is not None and not is_there:
            faults.append(_Fault(at, f"{path} is not there"))

    def need_file(path: str | None, *at: str | int) -> None:
        need(path, path is not None and Path(path).is_file(), *at)

    need_file(settings.server.token_file, "server", "token_file")
    need_file(settings.server.ca_file, "server", "ca_file")
    for index, camera in enumerate(settings.cameras):
        need_file(camera.token_file, "cameras", index, "token_file")
        need_file(camera.video, "cameras", index, "video")
        need(camera.folder, camera.folder is not None and Path(camera.folder).is_dir(), "cameras", index, "folder")
        if camera.started_at is not None and camera.started_at > datetime.now(UTC):
            faults.append(_Fault(("cameras", index, "started_at"), "lies in the future"))
    return faults
