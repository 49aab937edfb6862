"""Reads `agent.toml`. An error names the line, the path and, for a misspelt key, a suggestion.

Relative paths are relative to the file. `~` and `$VARIABLES` in paths are expanded, so that a unit can contain
`token_file = "$CREDENTIALS_DIRECTORY/token"`.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import msgspec

from camera_agent.config import toml_locations
from camera_agent.config.settings import InvalidSettings, Settings, credential_file, read_token

_NAME_HINT = "a name has 1 to 63 lower-case letters, digits, `-` or `_`"
_DEVICE_HINT = ": 0 stands for /dev/video0"
_TABLES: dict[str, toml_locations.Path] = {
    "the top of the file": (),
    "[server]": ("server",),
    "[spool]": ("spool",),
    "[[cameras]], above the tables of the camera": ("cameras",),
    "[cameras.burst]": ("cameras", "burst"),
    "[cameras.gate]": ("cameras", "gate"),
}
_WINDOW_HINT = "a window of the day is of the form `06:00-22:00`"


def load_settings(path: Path) -> Settings:
    """Read and check `agent.toml`. Raises `InvalidSettings` with a message for the user."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except PermissionError as error:
        raise InvalidSettings(f"{path}: this user may not read it: try `sudo`") from error
    except OSError as error:
        raise InvalidSettings(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidSettings(f"{path}: not TOML: save it as UTF-8 text ({error})") from error
    try:
        settings = msgspec.convert(tomllib.loads(text), Settings)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        hint = ": is a closing quote missing?" if "Illegal character" in str(error) else ""
        raise InvalidSettings(f"{path}:{line[1] if line else 1}: not TOML: {error}{hint}") from error
    except msgspec.ValidationError as error:
        raise InvalidSettings(_explain(path, text, str(error))) from error
    settings = _with_absolute_paths(settings, path.resolve())
    for fault in _faults(settings):
        raise InvalidSettings(_located(path, text, *fault))
    return settings


def _explain(path: Path, text: str, msgspec_error: str) -> str:
    """msgspec's error with file, line and path, and for an unknown key a suggestion."""
    message, _, where = msgspec_error.rpartition(" - at `")
    message, at = (message, toml_locations.steps(where.rstrip("`"))) if message else (msgspec_error, ())
    if unknown := re.search(r"unknown field `([^`]*)`", message):
        message = "unknown key" + (_elsewhere(unknown[1]) or toml_locations.suggestion(unknown[1], _keys_at(at)))
        at = (*at, unknown[1])
    elif missing := re.search(r"missing required field `([^`]*)`", message):
        message = f"`{missing[1]}` is missing"
    elif "matching regex" in message:
        message = _WINDOW_HINT if "hours" in at else _NAME_HINT
    elif "Expected" in message:
        message = message.replace(" | null", "") + (_DEVICE_HINT if at[-1:] == ("device",) else "")
    return _located(path, text, at, message)


def _located(path: Path, text: str, at: toml_locations.Path, message: str) -> str:
    location = f"{path}:{toml_locations.line_of(text, at) or 1}"
    return f"{location}: {toml_locations.spelled(at)}: {message}" if at else f"{location}: {message}"


def _keys_at(at: toml_locations.Path) -> tuple[str, ...]:
    """The keys of the table at `at`, from the declarations in `settings`."""
    struct: type = Settings
    for step in at:
        if isinstance(step, str):
            struct = _struct_in(get_type_hints(struct)[step]) or struct
    return tuple(field.encode_name for field in msgspec.structs.fields(struct))


def _elsewhere(key: str) -> str:
    """The table that has this key: a common mistake is a key below the header of another table."""
    table = next((name for name, at in _TABLES.items() if key in _keys_at(at)), None)
    return "" if table is None else f" here: it belongs to {table}"


def _struct_in(annotation: object) -> type | None:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next((struct for part in get_args(annotation) if (struct := _struct_in(part))), None)


def _with_absolute_paths(settings: Settings, path: Path) -> Settings:
    def absolute(written: str | None) -> str | None:
        return None if written is None else str(path.parent / os.path.expanduser(os.path.expandvars(written)))  # noqa: PTH111 - `Path.expanduser` may raise

    replace = msgspec.structs.replace
    has_token = settings.server.token is not None or settings.server.token_file is not None
    token_file = absolute(settings.server.token_file) if has_token else credential_file() or _token_beside(path)
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
                ca_file=absolute(camera.ca_file),
            )
            for camera in settings.cameras
        ),
    )


def _token_beside(path: Path) -> str | None:
    """Where `deploy/install-agent` puts it, so that commands run by hand use the service's token."""
    candidates = (str(file) for file in (path.with_suffix(".token"), path.with_name("token")))
    return next(filter(os.path.isfile, candidates), None)


def _faults(settings: Settings) -> Iterator[tuple[toml_locations.Path, str]]:
    """What only this machine can check: files that are missing or invalid, and instants in the future."""
    server = settings.server
    yield from _faults_of_file(server.token_file, "server", "token_file", check=partial(read_token, None))
    yield from _faults_of_file(server.ca_file, "server", "ca_file", check=_check_authority)
    for index, camera in enumerate(settings.cameras):
        at = ("cameras", index)
        yield from _faults_of_file(camera.token_file, *at, "token_file", check=partial(read_token, None))
        yield from _faults_of_file(camera.ca_file, *at, "ca_file", check=_check_authority)
        yield from _faults_of_file(camera.video, *at, "video")
        if camera.folder is not None and not os.path.isdir(camera.folder):  # noqa: PTH112 - `Path.is_dir` may raise
            yield ((*at, "folder"), f"{camera.folder} does not exist")
        if camera.started_at is not None and camera.started_at > datetime.now(UTC):
            yield ((*at, "started_at"), "is in the future")


def _faults_of_file(
    path: str | None, *at: str | int, check: Callable[[str], object] = lambda path: None
) -> Iterator[tuple[toml_locations.Path, str]]:
    if path is None:
        return
    if not os.path.isfile(path):  # noqa: PTH113 - `Path.is_file` may raise
        yield (at, f"{path} {'is not a file' if os.path.exists(path) else 'does not exist'}")  # noqa: PTH110 - as above
    elif not os.access(path, os.R_OK):
        yield (at, f"this user may not read {path}: try `sudo`")
    else:
        try:
            check(path)
        except OSError as error:
            yield (at, f"{path}: {error.strerror}")


def _check_authority(path: str) -> None:
    """Raises `OSError` for a file without a certificate."""
    import ssl

    if Path(path).read_bytes().startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise OSError(errno.EINVAL, "begins with a byte order mark, which hides a certificate: save it as plain text")
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise OSError(errno.EINVAL, "contains no certificate in PEM form") from error
