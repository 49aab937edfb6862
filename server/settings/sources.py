"""Where the server's settings come from: a file, the environment, the command line, and the last start.

An unknown or invalid setting is refused with its line and, for a misspelt name, the nearest one.
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
from typing import Any, get_args, get_origin

import msgspec

from policies.site.toml_errors import suggest
from policies.site.toml_lines import line_of
from server.domain.errors import ConfigurationError
from server.domain.files.text_files import SETTINGS_BYTES, UnreadableText, read_text
from server.domain.keeping import site_faults
from server.domain.remembered import FILE, recall
from server.domain.times.lateness import read_lateness
from server.settings.channels import channel_faults, in_folder
from server.settings.declaration import ENV_PREFIX, FIELDS, ServerSettings, help_of

CONFIG_VARIABLE = "SECTORWATCH_CONFIG"
_LEAST_GPU = 0.0001
"""The smallest part of a GPU that Ray counts."""

_OTHERS = frozenset({CONFIG_VARIABLE, "SECTORWATCH_CACHE_DIR"})
"""Variables with that prefix that are not settings of the server."""

_IN_FILE = "_file"
"""`SECTORWATCH_DATABASE_URL_FILE` names a file with the value of `database_url`: so containers are given secrets."""

_REMOVED = {"provisional": "events are announced once their burst is judged"}
"""Settings of earlier versions: ignored with a warning, so that a server starts with an old file."""

_LINK_NAME = re.compile(r"(?:\w+_)?(?:service_(?:host|port)(?:_\w+)?|port_\d+_(?:tcp|udp|sctp)(?:_\w+)?|env_\w+)")
_LINK = re.compile(r"(?:tcp|udp|sctp)://", re.I)
"""The variables with which Kubernetes and Docker link containers: not settings, even where a service has our name."""


_TABLES = {"retention": site_faults, "channels": channel_faults}
"""Settings that are tables, and what finds the faults in them."""

_EXAMPLES = {
    "retention": '{"north-yard": {"keep_events_days": 30}}',
    "channels": '{"home": {"kind": "mqtt", "url": "mqtt://localhost"}}',
}


class InvalidSettings(ConfigurationError):
    """A setting that cannot be used. The message names its place: file and line, or variable."""


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
    if settings.ensemble == "ray":
        _check_ray(settings)
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
        if name in FIELDS:
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
        elif name not in FIELDS:
            faults.append(f"{place}: unknown setting `{name}`{suggest(name, FIELDS)}")
        elif name in _TABLES and (wrong := list(_TABLES[name](value))):
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
    environ = _with_files(environ, chosen)
    for variable in sorted(name for name in environ.keys() - _OTHERS if name.startswith(ENV_PREFIX)):
        name = variable.removeprefix(ENV_PREFIX).lower()
        if name in chosen or _LINK_NAME.fullmatch(name) or _is_link(name, environ[variable]):
            continue
        if name in _REMOVED:
            _warn_of_removed(name, variable)
        elif name in FIELDS:
            values[name] = _converted(name, environ[variable], variable, strict=False, folder=Path.cwd())
        elif difflib.get_close_matches(
            name, FIELDS, cutoff=0.75
        ):  # a name unlike any of these belongs to another program
            raise InvalidSettings(f"{variable}: unknown setting{suggest(name, FIELDS)}")
    return values


def _with_files(environ: Mapping[str, str], chosen: Mapping[str, object]) -> dict[str, str]:
    """The environment with the content of the file that `SECTORWATCH_<NAME>_FILE` names as `SECTORWATCH_<NAME>`, unless
    the setting is `chosen` otherwise.
    """
    values = dict(environ)
    for variable in environ:
        name = variable.removeprefix(ENV_PREFIX).removesuffix(_IN_FILE.upper())
        if variable != f"{ENV_PREFIX}{name}{_IN_FILE.upper()}" or name.lower() not in FIELDS:
            continue
        file = Path(values.pop(variable))
        if name.lower() in chosen:
            continue
        if ENV_PREFIX + name in environ:
            raise InvalidSettings(f"{ENV_PREFIX}{name} and {variable} are both set: leave one out")
        try:
            values[ENV_PREFIX + name] = read_text(file, SETTINGS_BYTES).strip()
        except UnreadableText as error:
            raise InvalidSettings(f"{variable}: {error}") from None
        if not values[ENV_PREFIX + name]:
            raise InvalidSettings(f"{variable}: {file} is empty")
    return values


def _is_link(name: str, value: str) -> bool:
    """Whether a container platform set it: `SECTORWATCH_PORT=tcp://10.0.0.1:8765` for a service of that name."""
    return name.rpartition("_")[2] == "port" and _LINK.match(value) is not None


def _warn_of_removed(name: str, place: str) -> None:
    sys.stderr.write(f"Warning: {place}: the setting `{name}` is gone and has no effect: {_REMOVED[name]}.\n")


def _converted(name: str, value: object, place: str, *, strict: bool, folder: Path) -> object:
    kind = FIELDS[name].type
    if not strict and isinstance(value, str) and get_origin(get_args(kind)[0]) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not strict and isinstance(value, str) and name in _TABLES:
        value = _json(name, value, place)
        if wrong := [what for _where, what in _TABLES[name](value)]:
            raise InvalidSettings(f"{place}: {'; '.join(wrong)}")
    if name == "channels" and isinstance(value, dict):
        value = {key: in_folder(table, folder) for key, table in value.items()}
    try:
        converted = msgspec.convert(value, kind, strict=strict, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise InvalidSettings(f"{place}: `{name}`: {str(error).lower()} ({help_of(FIELDS[name])})") from None
    if name == "late_within":
        _check_lateness(str(converted), place)
    if name == "frames_url" and "://" not in str(converted) and not str(converted).startswith("{"):
        return str(folder / Path(str(converted)).expanduser())
    is_complete = not str(converted).startswith("{")  # `{data_dir}` is filled in later
    return folder / converted if isinstance(converted, Path) and is_complete else converted


def _json(name: str, text: str, place: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidSettings(f"{place}: not valid JSON, such as {_EXAMPLES[name]}: {error}") from None


def _check_ray(settings: ServerSettings) -> None:
    """Raises InvalidSettings for an address that names no cluster, and for GPUs that no replica can use."""
    gpus, (host, _, port) = settings.ray_gpus, settings.ray_address.rpartition(":")
    if settings.ray_address != "auto" and ("://" in host or not host or not port.isdigit()):
        raise InvalidSettings(
            f'ray_address is "{settings.ray_address}": name the head of the cluster as "host:6379", or write "auto" '
            "for the cluster of this machine; an address ray:// of Ray's client does not do"
        )
    if gpus and (gpus < _LEAST_GPU or (gpus > 1 and gpus != int(gpus))):
        raise InvalidSettings(
            f"ray_gpus is {gpus:g}: a replica gets a part of one GPU ({_LEAST_GPU:g} to 1) or a whole number of them"
        )
    if gpus and settings.device != "cuda":
        raise InvalidSettings(
            f'ray_gpus is {gpus:g}, and device is "{settings.device}": the models would leave the GPUs idle; '
            'set device = "cuda", or ray_gpus = 0'
        )
    if settings.device == "cuda" and not gpus:
        raise InvalidSettings(
            'device is "cuda", and ray_gpus is 0: Ray shows a replica only the GPUs that it asks for; set ray_gpus, '
            "0.25 for four replicas on one GPU"
        )


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
