"""The server's settings, declared once in `ServerSettings`.

`load_settings` reads them from a TOML file (an argument, or `SECTORWATCH_CONFIG`), then from the environment
(`SECTORWATCH_<NAME>`), then from the command line. What none of them gives is as at the last start of the server with
that data folder. The annotations are the help that `sectorwatch serve --help` and
the README print. An unknown or invalid setting is refused with its line and, for a misspelt name, the nearest one.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import msgspec
import platformdirs
from msgspec import Meta

from policies.site.toml_errors import suggest
from policies.site.toml_lines import line_of
from server.domain.errors import ConfigurationError
from server.domain.keeping import Keep, SiteKeeping, site_faults
from server.domain.lateness import DEFAULT as DEFAULT_LATENESS
from server.domain.lateness import read_lateness
from server.domain.picture_header import Format
from server.domain.remembered import FILE, recall
from server.domain.text_files import SETTINGS_BYTES, UnreadableText, read_text

ENV_PREFIX = "SECTORWATCH_"
CONFIG_VARIABLE = "SECTORWATCH_CONFIG"
_OTHERS = frozenset({CONFIG_VARIABLE, "SECTORWATCH_CACHE_DIR"})
"""Variables with that prefix that are not settings of the server."""

_REMOVED = {"provisional": "events are announced once their burst is judged"}
"""Settings of earlier versions: ignored with a warning, so that a server starts with an old file."""

_LINK_NAME = re.compile(r"(?:\w+_)?(?:service_(?:host|port)(?:_\w+)?|port_\d+_(?:tcp|udp|sctp)(?:_\w+)?|env_\w+)")
_LINK = re.compile(r"(?:tcp|udp|sctp)://", re.I)
"""The variables with which Kubernetes and Docker link containers: not settings, even where a service has our name."""

_MIB = 1024 * 1024


class InvalidSettings(ConfigurationError):
    """A setting that cannot be used. The message names its place: file and line, or variable."""


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
    data_dir: Annotated[Path, Meta(description="Folder of everything this server writes.")] = msgspec.field(
        default_factory=lambda: Path(platformdirs.user_data_dir("sectorwatch"))
    )
    database_url: Annotated[str, Meta(description="SQLAlchemy URL of the database: SQLite, or PostgreSQL.")] = (
        "sqlite:///{data_dir}/sectorwatch.sqlite"
    )
    sites_dir: Annotated[Path, Meta(description="Folder of the site policies, one TOML file per site.")] = Path(
        "{data_dir}/sites"
    )
    models: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="The ensemble: names from the catalogue, in the order of the answers."),
    ] = ("yolov3-tiny", "hog-people", "hog-people-small", "frame-change")
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
    retention: Annotated[
        dict[str, SiteKeeping],
        Meta(description="The four settings before this one for single sites, as tables `[retention.SITE]`."),
    ] = {}
    late_within: Annotated[
        str,
        Meta(
            description="How much older than its camera's newest frame a burst may be to change the log: `7d`; others "
            "for some sites: `7d, north-yard=30d`. What is older is kept, and marked.",
        ),
    ] = DEFAULT_LATENESS
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

    def keep(self, site: str) -> Keep:
        """What a site keeps."""
        usual = Keep(self.keep_observations_days, self.keep_events_days, self.max_bytes, self.keep_annotated)
        return self.retention.get(site, SiteKeeping()).over(usual)


_FIELDS = {field.name: field for field in msgspec.structs.fields(ServerSettings)}


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
        Setting(name, ENV_PREFIX + name.upper(), _default(field), _help(field)) for name, field in _FIELDS.items()
    )


def load_settings(path: Path | str | None = None, *, remembered: bool = True, **overrides: object) -> ServerSettings:
    """The settings of this process: those of the last start, under file, environment and `overrides` that are not None.

    `path` None means the file that `SECTORWATCH_CONFIG` names or, without it, no file. Relative paths in
    the file count from the file's folder, others from the working folder. Without `remembered`, the last start does not
    count: `serve` begins with what it is given. Raises InvalidSettings.
    """
    given = given_settings(path, **overrides)
    if remembered:
        given = _recalled(given) | given
    settings = ServerSettings(**given)
    if settings.threads <= settings.admission_limit:
        raise InvalidSettings(
            f"threads ({settings.threads}) must exceed admission_limit ({settings.admission_limit}): "
            "otherwise uploads occupy all threads and probes wait"
        )
    if (settings.tls_cert is None) != (settings.tls_key is None):
        given_one, missing = ("tls_cert", "tls_key") if settings.tls_key is None else ("tls_key", "tls_cert")
        raise InvalidSettings(f"{given_one} is set and {missing} is not: HTTPS needs both (`sectorwatch tls init`)")
    if settings.max_queued_images < settings.max_frames:
        raise InvalidSettings(
            f"max_queued_images ({settings.max_queued_images}) must not be below max_frames ({settings.max_frames}): "
            "otherwise an upload of that many frames would always be refused"
        )
    return settings


def given_settings(path: Path | str | None = None, **overrides: object) -> dict[str, Any]:
    """What file, environment and `overrides` that are not None give, by name. Raises InvalidSettings."""
    file = config_file(path)
    chosen = {name: value for name, value in overrides.items() if value is not None}
    values = _from_file(file) if file else {}
    values |= _from_environment({name: value for name, value in os.environ.items() if value.strip()}, chosen)
    return values | {
        name: _converted(name, value, f"--{name}", strict=False, folder=Path.cwd()) for name, value in chosen.items()
    }


def config_file(path: Path | str | None) -> Path | None:
    """The settings file of this process: `path`, else the one that `SECTORWATCH_CONFIG` names."""
    file = path or os.environ.get(CONFIG_VARIABLE, "").strip()
    return Path(file) if file else None


def file_faults(path: Path) -> tuple[str, ...]:
    """Every fault of a settings file, each with the file and, where it has one, its line."""
    return _read_file(path)[1]


def _recalled(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the last start with the data folder of `given`."""
    folder = ServerSettings(**{name: value for name, value in given.items() if name == "data_dir"}).data_dir
    kept = recall(folder)
    for name in kept.left_out:
        if name not in given:
            source = f"--config {kept.config}, " if kept.config else ""
            raise InvalidSettings(
                f"the server with the data folder {folder} was started with a `{name}` that holds a password, which is "
                f"not kept there: give {source}{ENV_PREFIX}{name.upper()} or --database"
            )
    values = {}
    for name, value in kept.settings.items():
        if name in _FIELDS:
            with suppress(InvalidSettings):  # of another version
                values[name] = _converted(name, value, str(folder / FILE), strict=False, folder=folder)
    return values


def _from_file(path: Path) -> dict[str, Any]:
    values, faults = _read_file(path)
    if faults:
        raise InvalidSettings("; ".join(faults))
    return values


def _read_file(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the file gives, and all its faults."""
    try:
        text = read_text(path, SETTINGS_BYTES)
        document = tomllib.loads(text)
    except UnreadableText as error:
        return {}, (f"settings file {path}: {error}",)
    except (ValueError, RecursionError) as error:
        return {}, (f"settings file {path}: not valid TOML: {error}",)
    values, faults = {}, []
    for name, value in document.items():
        place = f"{path}, line {line_of(text, [name]) or '?'}"
        if name in _REMOVED:
            _warn_of_removed(name, place)
        elif name not in _FIELDS:
            faults.append(f"{place}: unknown setting `{name}`{suggest(name, _FIELDS)}")
        elif name == "retention" and (wrong := list(site_faults(value))):
            faults += [f"{path}, line {line_of(text, [name, *where]) or '?'}: {what}" for where, what in wrong]
        else:
            try:
                values[name] = _converted(name, value, place, strict=True, folder=path.resolve().parent)
            except InvalidSettings as error:
                faults.append(error.detail)
    return values, tuple(faults)


def _from_environment(environ: Mapping[str, str], chosen: Mapping[str, object]) -> dict[str, Any]:
    """What the variables give that are not `chosen` otherwise, without those by which containers are linked."""
    values = {}
    for variable in sorted(name for name in environ.keys() - _OTHERS if name.startswith(ENV_PREFIX)):
        name = variable.removeprefix(ENV_PREFIX).lower()
        if name in chosen or _LINK_NAME.fullmatch(name) or _is_link(name, environ[variable]):
            continue
        if name in _REMOVED:
            _warn_of_removed(name, variable)
        elif name in _FIELDS:
            values[name] = _converted(name, environ[variable], variable, strict=False, folder=Path.cwd())
        elif difflib.get_close_matches(
            name, _FIELDS, cutoff=0.75
        ):  # a name unlike any of these belongs to another program
            raise InvalidSettings(f"{variable}: unknown setting{suggest(name, _FIELDS)}")
    return values


def _is_link(name: str, value: str) -> bool:
    """Whether a container platform set it: `SECTORWATCH_PORT=tcp://10.0.0.1:8765` for a service of that name."""
    return name.rpartition("_")[2] == "port" and _LINK.match(value) is not None


def _warn_of_removed(name: str, place: str) -> None:
    sys.stderr.write(f"Warning: {place}: the setting `{name}` is gone and has no effect: {_REMOVED[name]}.\n")


def _converted(name: str, value: object, place: str, *, strict: bool, folder: Path) -> object:
    kind = _FIELDS[name].type
    if not strict and isinstance(value, str) and get_origin(get_args(kind)[0]) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not strict and isinstance(value, str) and name == "retention":
        value = _json(value, place)
    try:
        converted = msgspec.convert(value, kind, strict=strict, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"{place}: `{name}`: {str(error).lower()} ({_help(_FIELDS[name])})") from None
    if name == "late_within":
        _check_lateness(str(converted), place)
    is_complete = not str(converted).startswith("{")  # `{data_dir}` is filled in later
    return folder / converted if isinstance(converted, Path) and is_complete else converted


def _json(text: str, place: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidSettings(
            f'{place}: not valid JSON, such as {{"north-yard": {{"keep_events_days": 30}}}}: {error}'
        ) from None


def _check_lateness(text: str, place: str) -> None:
    try:
        read_lateness(text)
    except ValueError as error:
        raise InvalidSettings(f"{place}: `late_within`: {error}") from None


def _path(kind: type, value: object) -> object:
    if kind is not Path:
        raise NotImplementedError(kind)
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("expected a path")
    return Path(value).expanduser()


def _help(field: msgspec.structs.FieldInfo) -> str:
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
