"""The server's settings: names, types, defaults, and the help that `sectorwatch serve --help` and the README print."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
import platformdirs
from msgspec import Meta

from server.domain.fleet import default_instance
from server.domain.keeping import FramesKept, Keep, KeepFrames, SiteKeeping
from server.domain.pictures.picture_header import Format
from server.domain.times.lateness import DEFAULT as DEFAULT_LATENESS
from server.settings.channels import AnyChannel

ENV_PREFIX = "SECTORWATCH_"
_MIB = 1024 * 1024
_BACKGROUND = 18
"""Threads that ask the database beside those of requests and declared channels: for the most part the runtime's."""


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one server. `{data_dir}` in a path or URL stands for that setting."""

    host: Annotated[str, Meta(description="Address to listen on. Until a token exists, only loopback is used.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="Port to listen on; 0 takes any free one.")] = 8765
    tls_cert: Annotated[
        Path | None,
        Meta(description="Certificate for HTTPS (PEM); unset: the one that `sectorwatch tls init` made, if any."),
    ] = None
    tls_key: Annotated[Path | None, Meta(description="Key of tls_cert (PEM), readable by the server's user only.")] = (
        None
    )
    admin_port: Annotated[
        int,
        Meta(ge=0, le=65535, description="Port of probes and metrics only, answered under any load; 0: none."),
    ] = 0
    admin_host: Annotated[str, Meta(description="Address of the admin port, which needs no token.")] = "127.0.0.1"
    instance: Annotated[
        str,
        Meta(
            max_length=64,
            pattern=r"^([A-Za-z0-9][A-Za-z0-9_.:-]*)?$",
            description="Name of this server among the replicas on its database; unset: that of the machine, and four "
            "letters for data_dir.",
        ),
    ] = ""
    data_dir: Annotated[Path, Meta(description="Folder of everything this server writes.")] = msgspec.field(
        default_factory=lambda: Path(platformdirs.user_data_dir("sectorwatch"))
    )
    database_url: Annotated[str, Meta(description="SQLAlchemy URL of the database: SQLite, or PostgreSQL.")] = (
        "sqlite:///{data_dir}/sectorwatch.sqlite"
    )
    sites: Annotated[
        Literal["folder", "database"],
        Meta(
            description="Where the site policies in force are: in the files of sites_dir, or in the database "
            "(`policy import`), for all servers on it."
        ),
    ] = "folder"
    sites_dir: Annotated[Path, Meta(description="Folder of the site policies, one TOML file per site.")] = Path(
        "{data_dir}/sites"
    )
    models: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="The ensemble: names from the catalogue, in the order of the answers."),
    ] = ("yolov3-tiny", "nanodet-g", "frame-change")
    models_dir: Annotated[
        Path | None, Meta(description="Folder of your own models: one folder each, with a card.toml.")
    ] = None
    lock: Annotated[
        Path | None, Meta(description="Lock of the ensemble (`models lock`): an ensemble that differs is not served.")
    ] = None
    execution: Annotated[
        Literal["fp32", "bf16"],
        Meta(description="Precision of models; bf16 serves only what the golden set approves."),
    ] = "fp32"
    device: Annotated[
        Literal["cpu", "cuda"],
        Meta(description="Where models compute: the processor, or one CUDA card (not measured)."),
    ] = "cpu"
    ensemble: Annotated[
        Literal["local", "ray"],
        Meta(description="Where the models answer: in this process, or in replicas on a Ray cluster (extra `ray`)."),
    ] = "local"
    ray_address: Annotated[
        str, Meta(description="The Ray cluster: `auto` finds that of this machine, `host:6379` names its head.")
    ] = "auto"
    ray_min_replicas: Annotated[int, Meta(ge=1, description="Replicas of the ensemble, each with all models.")] = 1
    ray_max_replicas: Annotated[
        int, Meta(ge=0, description="Most replicas, while frames wait; up to ray_min_replicas: always as many as that.")
    ] = 0
    ray_queued_images: Annotated[
        int, Meta(ge=1, description="Waiting frames for which there is another replica, up to ray_max_replicas.")
    ] = 32
    ray_cpus: Annotated[
        float,
        Meta(gt=0, description="Processors of one replica; it has as many workers, unless inference_threads says so."),
    ] = 1.0
    ray_gpus: Annotated[
        float,
        Meta(ge=0, description='GPUs of one replica, with device = "cuda"; 0.25: four replicas share one.'),
    ] = 0.0
    golden: Annotated[
        Path | None, Meta(description="Folder of the golden set (`models approve`); unset: the shipped one.")
    ] = None
    golden_every_s: Annotated[
        float, Meta(ge=0, description="How often the golden set is replayed while serving; 0: only at load.")
    ] = 21600.0
    max_frames: Annotated[int, Meta(ge=1, le=1024, description="Most frames in one burst or batch.")] = 64
    max_body_bytes: Annotated[
        int,
        Meta(ge=1024, description="Largest request body; a longer one is refused before it is read."),
    ] = 64 * _MIB
    max_pixels: Annotated[
        int, Meta(ge=1024, description="Largest frame, width times height; read from its header.")
    ] = 16_000_000
    burst_formats: Annotated[
        tuple[Format, ...],
        Meta(min_length=1, description="Formats of a burst's frames: jpeg, png, webp, bmp; others are refused (415)."),
    ] = ("jpeg",)
    admission_limit: Annotated[
        int,
        Meta(ge=1, description="Most uploads in work, and most received beside them; clients share them (503)."),
    ] = 32
    max_queued_images: Annotated[
        int,
        Meta(ge=1, description="Most frames waiting for the ensemble; further uploads are refused (503)."),
    ] = 256
    client_images_per_minute: Annotated[
        int,
        Meta(
            ge=0,
            description="Most frames a minute of one client (a token; without one, an address); more are refused "
            "(429); 0: no limit. Large frames, PNG and WebP count as several.",
        ),
    ] = 0
    answer_within_s: Annotated[
        float,
        Meta(gt=0, description="How long an upload may wait for its answer; a later one is refused (503)."),
    ] = 50.0
    threads: Annotated[
        int,
        Meta(ge=2, description="Request threads beside those that receive uploads. Must exceed admission_limit."),
    ] = 40
    inference_threads: Annotated[
        int, Meta(ge=0, description="Workers for inference, one core each; 0: one per processor.")
    ] = 0
    memory_limit_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="`doctor` and the start warn of a larger need; 0: the memory of machine or container.",
        ),
    ] = 0
    graceful_timeout_s: Annotated[
        int, Meta(ge=1, description="How long a stopping server works on uploads it has accepted.")
    ] = 60
    open_classify: Annotated[
        bool,
        Meta(description="Leave /classify, /batch and /models open to all, as FlexServe's client expects."),
    ] = False
    late_after_s: Annotated[
        float, Meta(gt=0, description="How many seconds after its due time a missing burst makes its camera late.")
    ] = 30.0
    silent_after_s: Annotated[
        float, Meta(gt=0, description="The same for silent; the sectors of a silent camera are unobserved.")
    ] = 120.0
    keep_observations_days: Annotated[
        float,
        Meta(ge=0, description="How many days bursts are kept, by the newest frame of their camera; 0: for ever."),
    ] = 365.0
    keep_events_days: Annotated[float, Meta(ge=0, description="The same for events; 0: for ever.")] = 365.0
    max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Most bytes of a site in the database; the oldest bursts go first, then the oldest events; 0: "
            "no limit.",
        ),
    ] = 0
    keep_annotated: Annotated[
        bool, Meta(description="Annotated events stay beyond these limits, with the bursts that prove them.")
    ] = True
    keep_frames: Annotated[
        FramesKept | None,
        Meta(
            description="Which frames are kept as pictures: none, events (of visits and annotations, of the last 24 "
            "hours, one a day) or all. Unset: events; none for a site that an earlier version has served.",
        ),
    ] = None
    keep_frames_days: Annotated[
        float,
        Meta(ge=0, description="How many days pictures are kept, by the newest frame of their camera; 0: for ever."),
    ] = 14.0
    keep_frames_bytes: Annotated[
        int,
        Meta(
            ge=0, description="Most bytes of a site's pictures; the oldest go first, annotated ones last; 0: no limit."
        ),
    ] = 2_000_000_000
    frames_url: Annotated[
        str,
        Meta(
            description="Where pictures are: a folder, or an object store by the URL of an fsspec file system "
            "(`s3://bucket/folder`)."
        ),
    ] = "{data_dir}/frames"
    retention: Annotated[
        dict[str, SiteKeeping],
        Meta(
            description="The settings `keep_...` and `max_bytes` before this one for single sites, as tables "
            "`[retention.SITE]`."
        ),
    ] = {}
    late_within: Annotated[
        str,
        Meta(
            description="How much older than its camera's newest frame a burst may be to change the log: `7d`; others "
            "for some sites: `7d, north-yard=30d`. What is older is kept, and marked.",
        ),
    ] = DEFAULT_LATENESS
    channels: Annotated[
        dict[str, AnyChannel],
        Meta(
            description="Where events go beside the log: one table `[channels.NAME]` each, with its `kind`; "
            "server/delivery/README.md has the keys."
        ),
    ] = {}
    console_url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://\S+)?$",
            description="Where people open the console, for links in messages: `https://watch.example.org`; empty: no "
            "links.",
        ),
    ] = ""
    log_style: Annotated[
        Literal["text", "json"], Meta(description="One readable line, or one JSON object, per event.")
    ] = "text"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="The lowest level to log.")] = (
        "info"
    )
    access_log: Annotated[bool, Meta(description="Log every request, not only refused ones.")] = False

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, str | Path) and "{data_dir}" in str(value):
                filled = type(value)(str(value).replace("{data_dir}", str(self.data_dir)))
                msgspec.structs.force_setattr(self, name, filled)

    @property
    def tls_files(self) -> tuple[Path, Path]:
        """Where the certificate and its key are, or where `sectorwatch tls init` puts them."""
        if self.tls_cert is not None and self.tls_key is not None:
            return self.tls_cert, self.tls_key
        return self.data_dir / "tls.crt", self.data_dir / "tls.key"

    @property
    def is_https(self) -> bool:
        """Whether the server speaks HTTPS instead of HTTP."""
        return self.tls_cert is not None or self.tls_files[0].exists()

    @property
    def replica(self) -> str:
        """The name of this server among the replicas on its database."""
        return self.instance or default_instance(self.data_dir)

    @property
    def connections(self) -> int:
        """The most connections that this server opens to PostgreSQL: one for each thread that may ask it."""
        return self.threads + len(self.channels) + _BACKGROUND

    def keep(self, site: str) -> Keep:
        """What a site keeps."""
        frames = KeepFrames(self.keep_frames, self.keep_frames_days, self.keep_frames_bytes)
        usual = Keep(self.keep_observations_days, self.keep_events_days, self.max_bytes, self.keep_annotated, frames)
        return self.retention.get(site, SiteKeeping()).over(usual)


FIELDS = {field.name: field for field in msgspec.structs.fields(ServerSettings)}


def processors() -> int:
    """The processors that this process may use, or all where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Setting(NamedTuple):
    """One setting, for help and documentation."""

    name: str
    variable: str
    default: str
    help: str


def described() -> tuple[Setting, ...]:
    """Every setting with its environment variable, default and one line of help, in order of declaration."""
    return tuple(
        Setting(name, ENV_PREFIX + name.upper(), _default(field), help_of(field)) for name, field in FIELDS.items()
    )


def help_of(field: msgspec.structs.FieldInfo) -> str:
    return next(str(note.description) for note in get_args(field.type) if isinstance(note, Meta))


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.default_factory is dict:
        return "none"
    if field.default is msgspec.NODEFAULT:
        return "the user's data folder"  # the only computed default
    if isinstance(field.default, tuple):
        return ", ".join(field.default)
    if field.default is None:
        return "unset"
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
