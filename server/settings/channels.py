"""The tables `[channels.NAME]` of the settings: what each kind of channel needs.

A secret is never written into the settings. They say where it is: `env:NAME` (a variable), `file:PATH` or
`credential:NAME` (of systemd's `LoadCredential=`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from policies.events import Kind
from policies.site.toml_errors import NAME, suggest
from server.domain.errors import ConfigurationError
from server.domain.files.private_files import holds_password

LOG = "log"
"""The name of the channel that is always there."""

_TOPIC = r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$"
_PLACE = r"^(env|file|credential):.+$"
_LONGEST_SECRET = 65_536
_SAY_WHERE = "say where the secret is: `env:NAME`, `file:PATH` or `credential:NAME`"
_EVENTS = frozenset(get_args(Kind))

_QUIET = (
    r"^((mon|tue|wed|thu|fri|sat|sun)(,(mon|tue|wed|thu|fri|sat|sun))* )?"
    r"([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$"
)
_MUTE = r"^[^/]+/[^/]+/[^/]+/[^/]+$"

_HINTS = {
    _PLACE: _SAY_WHERE,
    _QUIET: "hours are written as `22:00-06:00`, or with days as `sat,sun 00:00-09:30`",
    _MUTE: "a pattern is written as `site/camera/sector/target`, each part a name or with `*`",
}
"""What a text that does not match a pattern should be."""

Quiet = Annotated[str, Meta(pattern=_QUIET)]
Mute = Annotated[str, Meta(pattern=_MUTE)]

Secret = Annotated[str, Meta(pattern=_PLACE)]
"""Where a secret is."""


class ChannelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """What all channels have: which events they send. An empty list stands for all."""

    sites: Annotated[tuple[str, ...], Meta(description="Only events of these sites.")] = ()
    targets: Annotated[tuple[str, ...], Meta(description="Only events of these targets.")] = ()
    events: Annotated[tuple[Kind, ...], Meta(description="Only events of these kinds.")] = ()


class MqttSettings(ChannelSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="mqtt"):
    """A broker of MQTT."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^mqtts?://[^\s/?#@]+/?$", description="Broker: mqtt://HOST[:1883], or mqtts://HOST[:8883] by TLS."
        ),
    ]
    user: Annotated[str, Meta(description="Name at the broker.")] = ""
    password: Annotated[Secret | None, Meta(description="Where the password is.")] = None
    ca: Annotated[Path | None, Meta(description="Authorities that the broker's certificate is checked by (PEM).")] = (
        None
    )
    certificate: Annotated[Path | None, Meta(description="Our certificate, for brokers that ask for one (PEM).")] = None
    key: Annotated[Path | None, Meta(description="Its key; unset: it is in the same file (PEM).")] = None
    version: Annotated[Literal["5", "3.1.1"], Meta(description="Version of MQTT.")] = "5"
    client_id: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9_-]{0,64}$", description="Our name in sessions. Unset: one that is made once.")
    ] = ""
    prefix: Annotated[str, Meta(pattern=_TOPIC, description="Begin of all our topics.")] = "sectorwatch"
    discovery: Annotated[
        str,
        Meta(
            pattern=rf"{_TOPIC}|^$", description="Home Assistant's discovery prefix; empty: it is not told of entities."
        ),
    ] = "homeassistant"
    frigate: Annotated[bool, Meta(description="Publish events and reviews in Frigate's form, too.")] = True
    pictures: Annotated[bool, Meta(description="Publish the newest kept frame of each camera.")] = True
    fresh_s: Annotated[
        float, Meta(ge=0, description="Older movement is published as event, but not as movement of an entity.")
    ] = 300.0


class WebhookSettings(ChannelSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="webhook"):
    """A receiver of HTTP requests."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://\S+|(?:env|file|credential):.+)$",
            description="Where each announcement goes: https://HOST/PATH, or the place of that address, if it is a "
            "secret.",
        ),
    ]
    method: Annotated[Literal["POST", "PUT"], Meta(description="The method of the requests.")] = "POST"
    body: Annotated[
        Literal["event", "cloudevents", "cloudevents-binary", "template"],
        Meta(description="What a request holds: the event as it is, a CloudEvent, or what a template makes of it."),
    ] = "event"
    template: Annotated[str, Meta(description="The template (Jinja).")] = ""
    template_file: Annotated[Path | None, Meta(description="The template's file, instead of `template`.")] = None
    content_type: Annotated[
        str,
        Meta(
            pattern=r"^[\x21-\x7e][\x20-\x7e]{0,199}$",
            description="The type of what a template makes. JSON is checked before it is sent.",
        ),
    ] = "application/json"
    notices: Annotated[bool, Meta(description="Send notices of the server as well.")] = True
    headers: Annotated[
        dict[Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")], str],
        Meta(description="More headers; a value may be the place of a secret."),
    ] = {}
    secrets: Annotated[
        tuple[Secret, ...],
        Meta(max_length=4, description="Where the keys are that sign each request; several while they are changed."),
    ] = ()
    timeout_s: Annotated[
        float, Meta(ge=0.1, le=20, description="How long a request and its answer may take together.")
    ] = 10.0
    ca: Annotated[Path | None, Meta(description="Certificates (PEM) to trust instead of the system's.")] = None
    allow_private: Annotated[
        bool, Meta(description="Also send to addresses that are not public: this machine, the local network.")
    ] = False

    def __post_init__(self) -> None:
        has_template = bool(self.template) + (self.template_file is not None)
        if self.body == "template" and has_template != 1:
            raise ValueError('`body = "template"` needs either `template` or `template_file`')
        if self.body != "template" and has_template:
            raise ValueError('a template is used with `body = "template"` only')
        if own := sorted(name for name in self.headers if _is_ours(name)):
            raise ValueError(f"`headers`: Sectorwatch writes `{own[0]}` itself")


def _is_ours(header: str) -> bool:
    own = ("connection", "content-length", "content-type", "host", "transfer-encoding")
    return header.lower() in own or header.lower().startswith(("webhook-", "ce-"))


class NotifySettings(ChannelSettings, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="notify"):
    """People's phones and mail, by `apprise`."""

    urls: Annotated[
        tuple[Secret, ...], Meta(min_length=1, description="Where apprise sends: one URL in each of these secrets.")
    ]
    what: Annotated[
        tuple[Literal["visits", "movements", "server"], ...],
        Meta(
            min_length=1,
            description="What is told: visits (a target is present in a sector), movements, and that the ensemble is "
            "refused or not approved (server).",
        ),
    ] = ("visits", "server")
    ends: Annotated[bool, Meta(description="Also tell the end of a visit that was told.")] = True
    cooldown_s: Annotated[
        float,
        Meta(
            ge=0, description="How long after a visit the next one of its sector and target is not told, only counted."
        ),
    ] = 300.0
    quiet: Annotated[
        tuple[Quiet, ...],
        Meta(description="Hours without messages, on the site's clock: `22:00-06:00`, `sat,sun 00:00-09:30`."),
    ] = ()
    quiet_digest: Annotated[
        bool, Meta(description="Count what happens in quiet hours into one message at their end; false: drop it.")
    ] = True
    mute: Annotated[
        tuple[Mute, ...],
        Meta(description="What is never told: patterns `site/camera/sector/target`, each part a name or with `*`."),
    ] = ()
    most_an_hour: Annotated[
        int, Meta(ge=1, le=1000, description="Most messages within an hour; what is more is counted into a digest.")
    ] = 20
    max_age_s: Annotated[
        float, Meta(gt=0, description="What happened longer ago when it would be sent is counted into a digest.")
    ] = 1800.0
    unobserved_after_s: Annotated[
        float,
        Meta(ge=0, description="Tell that a camera or a sector is not watched for so long, and its end; 0: never."),
    ] = 600.0
    picture: Annotated[bool, Meta(description="Attach the frame of the event, where frames are kept.")] = True
    link: Annotated[bool, Meta(description="Add the address of the event's page, where `console_url` is set.")] = True


AnyChannel = MqttSettings | WebhookSettings | NotifySettings
KINDS: Mapping[str, type[ChannelSettings]] = {
    str(kind.__struct_config__.tag): kind for kind in (MqttSettings, WebhookSettings, NotifySettings)
}


def read_secret(where: str) -> str:
    """The secret, without blanks around it. Raises ConfigurationError, which names the place and never the secret."""
    kind, _, name = where.partition(":")
    if kind == "env":
        value = os.environ.get(name, "").strip()
        if not value:
            raise ConfigurationError(f"the variable {name}, which holds a secret of a channel, is not set")
        return value
    if kind == "credential":
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if not folder:
            raise ConfigurationError(
                f"there is no credential `{name}`: systemd gives it with LoadCredential={name}:PATH in the unit"
            )
        return _from_file(Path(folder) / name)
    return _from_file(Path(name).expanduser())


def plain_or_secret(value: str) -> str:
    """A value that may be the place of a secret: the secret, or the value itself. Raises ConfigurationError."""
    return read_secret(value) if re.match(_PLACE, value) else value


def _from_file(path: Path) -> str:
    try:
        value = path.read_bytes()[:_LONGEST_SECRET].decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the secret in {path} cannot be read: {error}") from None
    if not value:
        raise ConfigurationError(f"the file {path}, which holds a secret of a channel, is empty")
    return value


def channel_faults(channels: object) -> Iterator[tuple[list[str], str]]:
    """What is wrong in the tables of channels, each with its place in them."""
    if not isinstance(channels, dict):
        yield [], "`channels`: expected a table for each channel, as `[channels.NAME]`"
        return
    brokers: dict[str, MqttSettings] = {}
    for name, table in channels.items():
        if not isinstance(table, dict):
            yield [name], f"`channels`: expected a table for each channel, as `[channels.{name}]`"
        elif not NAME.fullmatch(name):
            yield [name], f"`channels`: the name `{name}` may have lower-case letters, digits, - and _"
        elif name == LOG:
            yield [name], f"`channels`: `{LOG}` is the log, which is always there; see the setting `log_style`"
        else:
            wrong = list(_faults(table)) or list(_faults_together(table))
            yield from (([name, *where], f"channel `{name}`: {what}") for where, what in wrong)
            if not wrong and table["kind"] == "mqtt":
                brokers[name] = msgspec.convert(table, MqttSettings, dec_hook=_path)
    yield from _in_each_other_s_way(brokers)


def _in_each_other_s_way(channels: Mapping[str, MqttSettings]) -> Iterator[tuple[list[str], str]]:
    """Two channels that publish on the same topics of a broker, and delete what the other retains there, or that shut
    each other out by the same name.
    """
    first: dict[tuple[str, ...], str] = {}
    for name, settings in channels.items():
        url = settings.url.lower().rstrip("/").removesuffix(":8883" if settings.url.startswith("mqtts") else ":1883")
        for key, value in (("prefix", settings.prefix), ("client_id", settings.client_id)):
            other = first.setdefault((url, key, value), name) if value else name
            if other != name:
                what = f"`{key}`: channel `{other}` has `{value}` at the same broker too: give one of them another"
                yield [name, key], f"channel `{name}`: {what}"


def _faults(table: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    kind = table.get("kind")
    chosen = KINDS.get(kind) if isinstance(kind, str) else None
    if chosen is None:
        hint = suggest(kind, KINDS) if isinstance(kind, str) else ""
        yield ["kind"], f"`kind` is one of {', '.join(KINDS)}{hint}"
        return
    fields = {field.name: field for field in msgspec.structs.fields(chosen)}
    yield from (
        ([field.name], f"`{field.name}` is missing: {_help(field)}")
        for field in fields.values()
        if field.required and field.name not in table
    )
    for key, value in table.items():
        if key == "kind":
            continue
        if key not in fields:
            yield [key], f"unknown setting `{key}`{suggest(key, fields)}"
            continue
        if (what := _fault(fields[key], value)) is not None:
            yield [key], f"`{key}`: {what}"


def _faults_together(table: Mapping[str, Any]) -> Iterator[tuple[list[str], str]]:
    """What is wrong with keys that are right by themselves."""
    try:
        msgspec.convert(table, AnyChannel, dec_hook=_path)
    except msgspec.ValidationError as error:
        yield [], str(error)


def _fault(field: msgspec.structs.FieldInfo, value: object) -> str | None:
    """What is wrong with a value; None: nothing. It never repeats a secret that was written into the settings."""
    if field.name == "events" and isinstance(value, list):
        unknown = [each for each in value if isinstance(each, str) and each not in _EVENTS]
        if unknown:
            return f"there is no event `{unknown[0][:80]}`{suggest(unknown[0], _EVENTS)}"
    if any(holds_password(text) for text in _texts(value)):
        return f"it holds a password, and the settings are no place for one. {_SAY_WHERE}"
    try:
        msgspec.convert(value, field.type, dec_hook=_path)
    except msgspec.ValidationError as error:
        hint = next((hint for pattern, hint in _HINTS.items() if pattern in str(error)), None)
        return hint or f"{str(error).lower()} ({_help(field)})"
    return None


def _texts(value: object) -> Iterator[str]:
    """All texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for each in value.values() for text in _texts(each))
    elif isinstance(value, list | tuple):
        yield from (text for each in value for text in _texts(each))


def _help(field: msgspec.structs.FieldInfo) -> str:
    notes = (str(note.description) for note in get_args(field.type) if isinstance(note, Meta) and note.description)
    return next(notes, "it has no default")


def _path(kind: type, value: object) -> object:
    if kind is not Path:
        raise NotImplementedError(kind)
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("expected a path")
    return Path(value).expanduser()


def in_folder(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A table whose relative paths, also those of secrets, count from `folder`."""
    kind = table.get("kind")
    chosen = KINDS.get(kind) if isinstance(kind, str) else None
    if chosen is None:
        return dict(table)
    paths = {field.name for field in msgspec.structs.fields(chosen) if Path in get_args(field.type) or _is_path(field)}
    return {key: _placed(value, folder, is_path=key in paths) for key, value in table.items()}


def _is_path(field: msgspec.structs.FieldInfo) -> bool:
    return any(Path in get_args(part) or part is Path for part in get_args(field.type))


def _placed(value: Any, folder: Path, *, is_path: bool) -> Any:
    if isinstance(value, list | tuple):
        return [_placed(each, folder, is_path=is_path) for each in value]
    if isinstance(value, dict):
        return {key: _placed(each, folder, is_path=is_path) for key, each in value.items()}
    if isinstance(value, str) and is_path:
        return str(folder / Path(value).expanduser())
    if isinstance(value, str) and re.match(r"file:[^/~]", value):
        return f"file:{folder / value.removeprefix('file:')}"
    return value
