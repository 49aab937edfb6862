"""Every setting of `agent.toml`. `config.load` reads the file."""

from __future__ import annotations

import codecs
import errno
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from camera_agent.config.active_hours import PATTERN
from camera_agent.config.toml_locations import suggestion
from camera_agent.imaging.frame import FrameFormat
from camera_agent.imaging.masks import Polygons, check_polygons
from camera_agent.network.addresses import HIDDEN, address_advice, address_fault, shown
from camera_agent.network.certificates import Trust, read_fingerprint

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Positive = Annotated[float, Meta(gt=0, le=31_622_400)]
"""Up to a year in seconds: clocks and timers do not accept infinity."""
Spacing = Annotated[float, Meta(ge=0.01, le=3600)]
_MAX_SPAN_S = 3600.0
"""From a burst's first frame to its last; servers accept no longer burst."""

_LIVE_ONLY = ("hours", "mb_per_day")
_RECORDED_ONLY = ("speed", "started_at", "frames_per_s", "first_picture", "pictures_per_s", "at_end")
_MAX_PORT = 65_535
_SOURCES = ("device", "picamera", "rtsp", "mjpeg", "snapshot", "video", "folder")


class InvalidSettings(Exception):
    """The file cannot be used. The message says where (`agent.toml:12: ...`) and what to write instead."""


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where bursts go. The token is text or, better, a file that only the agent can read. Without either, the systemd
    credential `token` is used, else a file beside the settings: `gate.token` or `token` for `gate.toml`.
    `fingerprint` or `ca_file`: which certificate an https:// server presents.
    """

    url: str
    token: str | None = None
    token_file: str | None = None
    ca_file: str | None = None
    fingerprint: str | None = None
    heartbeat_s: Annotated[float, Meta(ge=0, le=86_400)] = 60.0
    connect_timeout_s: Positive = 5.0
    read_timeout_s: Positive = 60.0

    def __post_init__(self) -> None:
        _check_address("url", self.url, ("http", "https"))
        _check_token(self.token, self.token_file)
        _check_fingerprint(self.fingerprint, self.ca_file)
        if self.fingerprint is not None and not self.url.lower().startswith("https://"):
            raise ValueError("`fingerprint` is for a `url` that begins with https://")

    def __repr__(self) -> str:
        return f"ServerSettings(url={self.shown_url!r}, token={self.token and HIDDEN!r})"

    @property
    def trust(self) -> Trust:
        """Which certificate the server may present."""
        return Trust(self.ca_file, None if self.fingerprint is None else read_fingerprint(self.fingerprint))

    @property
    def shown_url(self) -> str:
        """The address for people: without a password."""
        return shown(self.url)


class SpoolSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bursts that the server does not have yet: at most `max_bytes`, then the least important are dropped. `dir`:
    default `<state_dir>/spool`.

    `sync = "late"`: a live burst is written to disk when it has waited for `memory_s`, or memory holds more than
    `memory_bytes`. `"always"`: at once, as recordings always are.
    """

    dir: str | None = None
    max_bytes: Annotated[int, Meta(ge=1_000_000)] = 256_000_000
    sync: Literal["late", "always"] = "late"
    memory_s: Positive = 30.0
    memory_bytes: Annotated[int, Meta(ge=0)] = 8_000_000
    send: Literal["oldest_first", "newest_first"] = "oldest_first"
    keep_refused: Annotated[int, Meta(ge=0)] = 20


class BurstSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`frames` stills `spacing_s` apart, begun every `every_s`. The default of `every_s` leaves no gap."""

    frames: Annotated[int, Meta(ge=1, le=64)] = 5
    spacing_s: Spacing | None = None
    every_s: Positive | None = None


class GateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The motion gate. With this table, even an empty one, frames are sent when something moves instead of evenly.

    `threshold`: grey levels by which a pixel must differ. `min_area`: the smallest changed part of the view that is
    motion. `lighting`: a larger part that changes at once is light instead. `ignore`: polygons that are not watched.
    """

    looks_per_s: Annotated[float, Meta(ge=0.01, le=10)] = 2.0
    threshold: Annotated[int, Meta(ge=3, le=128)] = 12
    min_area: Annotated[float, Meta(gt=0, le=0.5)] = 0.0008
    lighting: Annotated[float, Meta(gt=0, le=1)] = 0.5
    ignore: Polygons = ()
    before_s: Annotated[float, Meta(ge=0, le=30)] = 2.0
    after_s: Annotated[float, Meta(ge=0, le=600)] = 3.0
    quiet_every_s: Positive = 30.0

    def __post_init__(self) -> None:
        check_polygons("ignore", self.ignore)


class CameraSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One camera: a name, exactly one source, its bursts, and how a recording is played.

    `strict_jpeg`: a JPEG without its end marker, or with stray bytes before its start, is damaged instead of mended.
    `redirect_hosts`: other hosts to which an http:// or https:// camera may send the agent for its picture.
    `fingerprint` or `ca_file`: which certificate an https:// or rtsps:// camera presents.
    """

    name: Name
    device: Annotated[int, Meta(ge=0)] | None = None
    picamera: Annotated[int, Meta(ge=0)] | None = None
    rtsp: str | None = None
    mjpeg: str | None = None
    snapshot: str | None = None
    ca_file: str | None = None
    fingerprint: str | None = None
    redirect_hosts: tuple[str, ...] = ()
    video: str | None = None
    folder: str | None = None
    burst: BurstSettings = BurstSettings()
    gate: GateSettings | None = None
    masks: Polygons = ()
    quality: Annotated[int, Meta(ge=10, le=100)] = 85
    max_width: Annotated[int, Meta(ge=0)] = 1280
    strict_jpeg: bool = False
    timeout_s: Positive = 10.0
    stuck_after_s: Positive = 60.0
    hours: tuple[Annotated[str, Meta(pattern=PATTERN)], ...] = ()
    mb_per_day: Positive | None = None
    token: str | None = None
    token_file: str | None = None
    speed: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    started_at: Annotated[datetime, Meta(tz=True)] | None = None
    frames_per_s: Annotated[float, Meta(gt=0, le=100)] | None = None
    first_picture: Annotated[int, Meta(ge=0)] | None = None
    pictures_per_s: Positive | None = None
    at_end: Literal["stop", "wait"] | None = None

    def __post_init__(self) -> None:
        sources = [source for source in _SOURCES if getattr(self, source) is not None]
        if len(sources) != 1:
            raise ValueError(
                f"a camera has exactly one source of {', '.join(_SOURCES)}; found {', '.join(sources) or 'none'}"
            )
        for key in () if self.is_recorded else _RECORDED_ONLY:
            if getattr(self, key) is not None:
                raise ValueError(f"`{key}` is for recordings (video, folder); this camera is live")
        for key in _LIVE_ONLY if self.is_recorded else ():
            if getattr(self, key):
                raise ValueError(f"`{key}` is for live cameras; this one is a recording")
        self._check_burst()
        check_polygons("masks", self.masks)
        _check_address("address", self.rtsp, ("rtsp", "rtsps", "http", "https"))
        _check_address("address", self.mjpeg if self.snapshot is None else self.snapshot, ("http", "https"))
        _check_token(self.token, self.token_file)
        self._check_certificate()
        if self.redirect_hosts and self.mjpeg is None and self.snapshot is None:
            raise ValueError("`redirect_hosts` is for a camera with `mjpeg` or `snapshot`")

    def _check_certificate(self) -> None:
        _check_fingerprint(self.fingerprint, self.ca_file)
        for key in ("ca_file", "fingerprint"):
            if getattr(self, key) is not None and not re.match("(?i)(https|rtsps)://", self.address or ""):
                raise ValueError(f"`{key}` is for a camera with an https:// or rtsps:// address")

    @property
    def trust(self) -> Trust:
        """Which certificate the camera may present."""
        return Trust(self.ca_file, None if self.fingerprint is None else read_fingerprint(self.fingerprint))

    def _check_burst(self) -> None:
        span_s = self.burst.frames * self.spacing_s
        if self.frames_per_s is not None and self.burst.spacing_s is not None:
            raise ValueError("`frames_per_s` and `burst.spacing_s` have the same meaning: give one of them")
        if self.every_s < span_s * (1 - 1e-9):
            raise ValueError(f"`burst.every_s` must be at least frames x spacing = {span_s:g} s")
        if span_s * (2 if self.gate is not None and self.mb_per_day else 1) > _MAX_SPAN_S:
            raise ValueError(
                "a burst would last for more than an hour, and no server accepts it: fewer frames, or closer"
            )

    @property
    def is_recorded(self) -> bool:
        """Whether the source is a recording."""
        return self.video is not None or self.folder is not None

    @property
    def frame_format(self) -> FrameFormat:
        """How each picture is encoded."""
        return FrameFormat(quality=self.quality, max_width=self.max_width, masks=self.masks, is_strict=self.strict_jpeg)

    @property
    def spacing_s(self) -> float:
        if self.frames_per_s is not None:
            return 1.0 / self.frames_per_s
        return 1.0 if self.burst.spacing_s is None else self.burst.spacing_s

    @property
    def every_s(self) -> float:
        return self.burst.frames * self.spacing_s if self.burst.every_s is None else self.burst.every_s

    @property
    def slot_s(self) -> float:
        """The length of a slot of the schedule; with a gate, long enough for one look."""
        return self.every_s if self.gate is None else max(self.every_s, 1.0 / self.gate.looks_per_s)

    @property
    def source(self) -> str:
        """`video vtest.avi` and the like, for people. Passwords in an address are hidden."""
        kind = next(source for source in _SOURCES if getattr(self, source) is not None)
        return f"{kind} {(self.address and shown(self.address)) or getattr(self, kind)}"

    @property
    def address(self) -> str | None:
        """The address of a camera in the network; None for another source."""
        return self.rtsp or self.mjpeg or self.snapshot

    @property
    def advice(self) -> str | None:
        """What to write instead in a usable address; None where nothing is to be changed."""
        return self.address and address_advice(self.address)

    def __repr__(self) -> str:
        return f"CameraSettings(name={self.name!r}, source={self.source!r})"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file. `state_dir`: default `$STATE_DIRECTORY` (systemd), else `~/.local/state/camera-agent`.
    Metrics for Prometheus: `metrics_file` for node-exporter's textfile collector, or `metrics_listen`, `address:port`.
    """

    site: Name
    server: ServerSettings
    cameras: Annotated[tuple[CameraSettings, ...], Meta(min_length=1)]
    spool: SpoolSettings = SpoolSettings()
    state_dir: str | None = None
    metrics_file: str | None = None
    metrics_listen: str | None = None

    def __post_init__(self) -> None:
        listen = re.fullmatch(r"[^\s:]+:(\d{1,5})", self.metrics_listen or "0:0")
        if listen is None or int(listen[1]) > _MAX_PORT:
            raise ValueError(f"`metrics_listen` {self.metrics_listen!r} is not of the form 127.0.0.1:9110")
        names = [camera.name for camera in self.cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two cameras are called {twice[0]!r}")

    @property
    def state_folder(self) -> Path:
        if self.state_dir is not None:
            return Path(self.state_dir)
        if of_unit := os.environ.get("STATE_DIRECTORY", "").split(":")[0]:
            return Path(of_unit)
        return Path(os.environ.get("XDG_STATE_HOME") or _home() / ".local/state") / "camera-agent"

    @property
    def runtime_folder(self) -> Path:
        """Where files go that are rewritten every few seconds: `$RUNTIME_DIRECTORY` (systemd; in memory), else the
        state folder.
        """
        folder = os.environ.get("RUNTIME_DIRECTORY")
        return self.state_folder if not folder else Path(folder.split(":")[0])

    @property
    def spool_folder(self) -> Path:
        return self.state_folder / "spool" if self.spool.dir is None else Path(self.spool.dir)

    def camera(self, name: str | None) -> CameraSettings:
        """The camera of that name; for None, the first one. Raises `InvalidSettings` with a suggestion."""
        for camera in self.cameras:
            if name in (None, camera.name):
                return camera
        names = [camera.name for camera in self.cameras]
        hint = suggestion(str(name), names) or f"; there is {', '.join(names)}"
        raise InvalidSettings(f"no camera is called {name!r}{hint}")


def read_token(token: str | None, token_file: str | None) -> str | None:
    """The bearer token; None for an empty file. It is read each time, so that it can be replaced while the agent runs.

    Raises `OSError`, also for content that is not a token.
    """
    if token_file is None:
        return token
    content = Path(token_file).read_bytes().removeprefix(codecs.BOM_UTF8).strip().decode("latin-1")
    if content and not _TOKEN.fullmatch(content):
        raise OSError(errno.EINVAL, _NO_TOKEN, token_file)
    return content or None


def _home() -> Path:
    """This user's home. A user of a container may have none."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise InvalidSettings("this user has no home folder: set `state_dir`") from error


def credential_file() -> str | None:
    """The credential `token` of this systemd unit (`LoadCredential=`), if there is one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / "token" if folder else None
    return str(path) if path is not None and path.is_file() else None


_TOKEN = re.compile(r"[!-~]+")
_NO_TOKEN = "a token is one word, as `sectorwatch tokens add` prints it"  # noqa: S105 - a message


def _check_token(token: str | None, token_file: str | None) -> None:
    if token is not None and token_file is not None:
        raise ValueError("`token` and `token_file` have the same meaning: give one of them")
    if token is not None and not _TOKEN.fullmatch(token):
        raise ValueError(_NO_TOKEN)


def _check_fingerprint(fingerprint: str | None, ca_file: str | None) -> None:
    if fingerprint is None:
        return
    if ca_file is not None:
        raise ValueError("`fingerprint` already names the one certificate: leave `ca_file` out, or `fingerprint`")
    read_fingerprint(fingerprint)


def _check_address(name: str, address: str | None, schemes: tuple[str, ...]) -> None:
    if address is None:
        return
    if fault := address_fault(address, schemes):
        raise ValueError(f"{name} {fault}")
