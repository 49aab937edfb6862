"""What a user may say in `agent.toml`, declared once; unknown keys and impossible values are refused with their line.

Relative paths are relative to the file itself; `~` and `$VARIABLES` in paths are expanded, so that a unit can say
`token_file = "$CREDENTIALS_DIRECTORY/token"`.
"""

from __future__ import annotations

import os
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from camera_agent import whereabouts

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Positive = Annotated[float, Meta(gt=0)]

_RECORDED_ONLY = ("speed", "started_at", "frames_per_s", "first_picture", "pictures_per_s", "at_end")
_SOURCES = ("device", "rtsp", "video", "snapshot", "folder")


class InvalidSettings(Exception):
    """The file cannot be used; the message says where (`agent.toml:12: ...`) and what to write instead."""


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where bursts go. A token is given as text or, better, as a file that only the agent can read."""

    url: str
    token: str | None = None
    token_file: str | None = None
    connect_timeout_s: Positive = 5.0
    read_timeout_s: Positive = 60.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url {self.url!r} is not http://host:port or https://host")
        _refuse_two_tokens(self.token, self.token_file)


class SpoolSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bursts waiting on the disk: at most `max_bytes`, then the oldest are dropped. `dir`: default `<state_dir>/spool`."""

    dir: str | None = None
    max_bytes: Annotated[int, Meta(ge=1_000_000)] = 256_000_000
    keep_refused: Annotated[int, Meta(ge=0)] = 20


class BurstSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`frames` stills `spacing_s` apart, begun every `every_s`. The default of `every_s` leaves no blind time."""

    frames: Annotated[int, Meta(ge=1, le=64)] = 10
    spacing_s: Positive | None = None
    every_s: Positive | None = None


class CameraSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One camera: a name, exactly one source, its bursts, and for recordings how they are played."""

    name: Name
    device: Annotated[int, Meta(ge=0)] | None = None
    rtsp: str | None = None
    video: str | None = None
    snapshot: str | None = None
    folder: str | None = None
    burst: BurstSettings = BurstSettings()
    quality: Annotated[int, Meta(ge=10, le=100)] = 85
    max_width: Annotated[int, Meta(ge=0)] = 1280
    timeout_s: Positive = 10.0
    token: str | None = None
    token_file: str | None = None
    speed: Annotated[float, Meta(ge=0)] | None = None
    started_at: Annotated[datetime, Meta(tz=True)] | None = None
    frames_per_s: Positive | None = None
    first_picture: Annotated[int, Meta(ge=0)] | None = None
    pictures_per_s: Positive | None = None
    at_end: Literal["stop", "wait"] | None = None

    def __post_init__(self) -> None:
        given = [source for source in _SOURCES if getattr(self, source) is not None]
        if len(given) != 1:
            raise ValueError(f"a camera has exactly one source of {', '.join(_SOURCES)}; found {', '.join(given) or 'none'}")
        if not self.is_recorded:
            for key in _RECORDED_ONLY:
                if getattr(self, key) is not None:
                    raise ValueError(f"`{key}` is for recordings (video, folder); this camera is live")
        if self.frames_per_s is not None and self.burst.spacing_s is not None:
            raise ValueError("`frames_per_s` and `burst.spacing_s` say the same thing: give one of them")
        if self.every_s < self.burst.frames * self.spacing_s * (1 - 1e-9):
            needed_s = self.burst.frames * self.spacing_s
            raise ValueError(f"`burst.every_s` must be at least frames x spacing = {needed_s:g} s")
        _check_stream(self.rtsp, ("rtsp", "rtsps", "http", "https"))
        _check_stream(self.snapshot, ("http", "https"))
        _refuse_two_tokens(self.token, self.token_file)

    @property
    def is_recorded(self) -> bool:
        """Whether the source is finite footage with instants of its own."""
        return self.video is not None or self.folder is not None

    @property
    def spacing_s(self) -> float:
        if self.frames_per_s is not None:
            return 1.0 / self.frames_per_s
        return 1.0 if self.burst.spacing_s is None else self.burst.spacing_s

    @property
    def every_s(self) -> float:
        return self.burst.frames * self.spacing_s if self.burst.every_s is None else self.burst.every_s

    @property
    def source(self) -> str:
        """`video vtest.avi` and the like, for people; a password in an address is not shown."""
        kind = next(source for source in _SOURCES if getattr(self, source) is not None)
        return f"{kind} {re.sub(r'//[^/@]*@', '//***@', str(getattr(self, kind)))}"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file. `state_dir`: default `$STATE_DIRECTORY` (systemd), else `~/.local/state/camera-agent`."""

    site: Name
    server: ServerSettings
    cameras: Annotated[tuple[CameraSettings, ...], Meta(min_length=1)]
    spool: SpoolSettings = SpoolSettings()
    state_dir: str | None = None

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two cameras are called {twice[0]!r}")

    @property
    def state_folder(self) -> Path:
        if self.state_dir is not None:
            return Path(self.state_dir)
        if "STATE_DIRECTORY" in os.environ:
            return Path(os.environ["STATE_DIRECTORY"].split(":")[0])
        return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "camera-agent"

    @property
    def spool_folder(self) -> Path:
        return self.state_folder / "spool" if self.spool.dir is None else Path(self.spool.dir)

    def camera(self, name: str | None) -> CameraSettings:
        """The camera of that name, the first one for None. Raises `InvalidSettings` with a suggestion."""
        for camera in self.cameras:
            if name in (None, camera.name):
                return camera
        names = [camera.name for camera in self.cameras]
        hint = whereabouts.suggestion(str(name), names) or f"; there is {', '.join(names)}"
        raise InvalidSettings(f"no camera is called {name!r}{hint}")


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


def read_token(token: str | None, token_file: str | None) -> str | None:
    """The bearer token, read anew each time so that it can be exchanged while the agent runs. Raises `OSError`."""
    if token_file is not None:
        return Path(token_file).read_text(encoding="utf-8").strip()
    return token


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
        message = "a name has letters, digits, `-` and `_` only, at most 64"
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


def _refuse_two_tokens(token: str | None, token_file: str | None) -> None:
    if token is not None and token_file is not None:
        raise ValueError("`token` and `token_file` are two ways to say one thing: give one of them")


def _check_stream(address: str | None, schemes: tuple[str, ...]) -> None:
    if address is not None and urlsplit(address).scheme not in schemes:
        raise ValueError(f"address {address!r} does not begin with {' or '.join(f'{s}://' for s in schemes)}")


def _with_absolute_paths(settings: Settings, folder: Path) -> Settings:
    def absolute(given: str | None) -> str | None:
        return None if given is None else str(folder / Path(os.path.expandvars(given)).expanduser())

    replace = msgspec.structs.replace
    return replace(
        settings,
        state_dir=absolute(settings.state_dir),
        spool=replace(settings.spool, dir=absolute(settings.spool.dir)),
        server=replace(settings.server, token_file=absolute(settings.server.token_file)),
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
    for index, camera in enumerate(settings.cameras):
        need_file(camera.token_file, "cameras", index, "token_file")
        need_file(camera.video, "cameras", index, "video")
        need(camera.folder, camera.folder is not None and Path(camera.folder).is_dir(), "cameras", index, "folder")
        if camera.started_at is not None and camera.started_at > datetime.now(UTC):
            faults.append(_Fault(("cameras", index, "started_at"), "lies in the future"))
    return faults
