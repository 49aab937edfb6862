"""What a request of a webhook holds: an announcement as it is, as a CloudEvent, or as a template writes it.

A message's id names what the announcement says now: the event's id and the number of its newest announcement. A
receiver that remembers the ids does each thing once, and takes a correction for what it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from policies.events import Event, instant
from server.delivery.channel import Undeliverable
from server.delivery.lines import json_line, notice_line, text_line
from server.delivery.webhook.samples import samples
from server.delivery.webhook.template import Template, TemplateFault
from server.domain.announcements import Announcement, NoticeGiven, Outgoing
from server.domain.errors import ConfigurationError
from server.domain.files.text_files import SETTINGS_BYTES, UnreadableText, read_text
from server.settings.channels import WebhookSettings

SOURCE = "/sectorwatch"
_JSON = "application/json"
_HEADER = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


class Message(NamedTuple):
    """The body of a request, with the headers that describe it."""

    id: str
    body: bytes
    headers: Mapping[str, str]


class Messages:
    """Writes the messages of one channel. Raises ConfigurationError for a template that cannot be used."""

    def __init__(self, name: str, settings: WebhookSettings, console_url: str, now_us: int) -> None:
        self._settings = settings
        self._console_url = console_url
        self._template: Template | None = None
        if settings.body != "template":
            return
        place = str(settings.template_file or "`template`")
        try:
            self._template = Template(_template_of(settings))
            for outgoing in samples(settings.events, notices=settings.notices, at=instant(now_us)):
                self._from_template(self._template, outgoing)
        except UnreadableText as error:
            raise ConfigurationError(f"channel `{name}`: {place}: {error}") from None
        except TemplateFault as error:
            line = "" if error.line is None else f", line {error.line}"
            raise ConfigurationError(f"channel `{name}`: {place}{line}: {error}") from None

    def write(self, outgoing: Outgoing) -> Message | None:
        """The message; None where a template leaves nothing of it. Raises Undeliverable."""
        number = message_id(outgoing)
        if self._template is not None:
            try:
                text = self._from_template(self._template, outgoing)
            except TemplateFault as error:
                line = "" if error.line is None else f" in line {error.line}"
                raise Undeliverable(f"the template cannot write it{line}: {error}") from None
            headers = {"Content-Type": self._settings.content_type}
            return Message(number, text.encode(), headers) if text.strip() else None
        data = json_line(_content(outgoing)).encode()
        if self._settings.body == "event":
            return Message(number, data, {"Content-Type": _JSON})
        attributes = cloud_attributes(outgoing)
        if self._settings.body == "cloudevents-binary":
            headers = {f"ce-{key}": quote(value, safe=_HEADER) for key, value in attributes.items()}
            return Message(number, data, {"Content-Type": _JSON, **headers})
        body = msgspec.json.encode({**attributes, "datacontenttype": _JSON, "data": msgspec.Raw(data)})
        return Message(number, body, {"Content-Type": "application/cloudevents+json; charset=UTF-8"})

    def _from_template(self, template: Template, outgoing: Outgoing) -> str:
        text = template.render(self._values(outgoing))
        if text.strip() and _is_json(self._settings.content_type):
            try:
                msgspec.json.decode(text)
            except (msgspec.DecodeError, RecursionError) as error:
                kind = _content(outgoing).as_wire()["kind"]
                raise TemplateFault(
                    f"what it makes of `{kind}` is not JSON ({error}): write values as `{{{{ value|tojson }}}}`, "
                    "without quotes, or set another `content_type`",
                    None,
                ) from None
        return text

    def _values(self, outgoing: Outgoing) -> dict[str, Any]:
        """The names that a template may use."""
        content, link = _content(outgoing), ""
        if isinstance(outgoing, NoticeGiven):
            what, line = "notice", notice_line(outgoing.notice)
        else:
            what = str(outgoing.what)
            line = text_line(outgoing.logged, None if what == "event" else what)
            if self._console_url:
                link = f"{self._console_url}/events/{outgoing.logged.event.id}"
        return {
            "event": msgspec.to_builtins(content.as_wire()),
            "what": what,
            "line": line,
            "link": link,
            "message_id": message_id(outgoing),
        }


def message_id(outgoing: Outgoing) -> str:
    """The same for the same content, whenever it is sent; without a full stop, which a signature has between parts."""
    if isinstance(outgoing, NoticeGiven):
        return outgoing.notice.id
    return f"{outgoing.logged.event.id}-{outgoing.logged.seq}"


def cloud_attributes(outgoing: Outgoing) -> dict[str, str]:
    """The context attributes of CloudEvents 1.0. The type of a correction or a withdrawal is one of its own, so that
    nobody takes it for something new.
    """
    attributes = {"specversion": "1.0", "id": message_id(outgoing)}
    if isinstance(outgoing, NoticeGiven):
        notice = outgoing.notice
        at = _instant(instant(notice.at_us))
        return {**attributes, "source": SOURCE, "type": f"sectorwatch.notice.{notice.what}", "time": at}
    event = outgoing.logged.event
    attributes["source"] = f"{SOURCE}/{quote(event.site, safe='')}/{quote(event.camera, safe='')}"
    attributes["type"] = f"sectorwatch.{event.kind}{_again(outgoing)}"
    if place := _place(event):
        attributes["subject"] = place
    return {**attributes, "time": _instant(event.at)}


def _again(outgoing: Announcement) -> str:
    if outgoing.logged.is_withdrawn:
        return ".withdrawn"
    return "" if outgoing.what == "event" else f".{outgoing.what}"


def _place(event: Event) -> str | None:
    return event.sector or event.line or event.to_sector


def _instant(at: Any) -> str:
    return str(msgspec.to_builtins(at))


def _content(outgoing: Outgoing) -> Any:
    return outgoing.notice if isinstance(outgoing, NoticeGiven) else outgoing.logged


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == _JSON or media_type.endswith("+json")


def _template_of(settings: WebhookSettings) -> str:
    if settings.template_file is None:
        return settings.template
    return read_text(settings.template_file, SETTINGS_BYTES)
