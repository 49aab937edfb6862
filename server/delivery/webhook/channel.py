"""The channel `webhook`: one HTTP request for each announcement, and what its answer means for it."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial

from policies.events import instant
from server.delivery.channel import Answered, Later, TurnedAway, Undeliverable
from server.delivery.choice import Choice
from server.delivery.surroundings import Surroundings
from server.delivery.webhook.addresses import addresses_of, fault_of_host
from server.delivery.webhook.exchange import Answer, Exchange, Target
from server.delivery.webhook.messages import Message, Messages
from server.delivery.webhook.samples import test_message
from server.delivery.webhook.signature import read_key, signed
from server.domain.announcements import NoticeGiven, Outgoing
from server.domain.errors import ConfigurationError
from server.domain.secrets_in_text import HIDDEN
from server.domain.times.clock import SECOND_US
from server.settings.channels import WebhookSettings, plain_or_secret, read_secret

_NOT_NOW = frozenset({408, 425, 429, 502, 503, 504})
"""The receiver, or a proxy before it, says that it takes nothing now: that says nothing of the announcement."""
_TURNED_AWAY = frozenset({401, 403, 404, 405, 407})
"""The address or the credentials do not fit: that says nothing of the announcement either."""
_GONE = 410
_SHOWN = 200
"""Characters of an answer that a message about it has."""
_LEAST_HIDDEN = 6


class WebhookChannel:
    """Sends to one receiver over a kept connection. Constructing connects nothing. Raises ConfigurationError."""

    def __init__(self, name: str, settings: WebhookSettings, surroundings: Surroundings) -> None:
        self.name = name
        self._settings = settings
        self._clock = surroundings.clock
        self._choice = Choice.of(settings)
        self._messages = Messages(name, settings, surroundings.console_url, surroundings.clock())
        url = plain_or_secret(settings.url)
        self._target = target = _target(name, url, allow_private=settings.allow_private)
        self._keys = list(_keys(name, settings))
        secret_headers = {key: plain_or_secret(value) for key, value in settings.headers.items()}
        self._headers = {"User-Agent": f"Sectorwatch/{surroundings.version}", **_checked(name, secret_headers)}
        if target.login:
            self._headers.setdefault("Authorization", f"Basic {base64.b64encode(target.login.encode()).decode()}")
        self._hidden = [value for key, value in secret_headers.items() if value != settings.headers[key]]
        self._hidden += [url, target.path, target.login] if url != settings.url else [target.login]
        resolve = partial(addresses_of, target.host, target.port, allow_private=settings.allow_private)
        context = _context(name, settings) if target.scheme == "https" else None
        self._exchange = Exchange(target, resolve, context, settings.timeout_s)

    def send(self, outgoing: Outgoing) -> None:
        """Send one announcement. Raises NoAnswer, Later and TurnedAway (it is sent again), Answered, Undeliverable."""
        is_notice = isinstance(outgoing, NoticeGiven)
        if (is_notice and not self._settings.notices) or not self._choice.takes(outgoing):
            return
        message = self._messages.write(outgoing)
        if message is not None:
            self._deliver(message)

    def test(self) -> str:
        """Send the test message. Raises what `send` raises."""
        site = next(iter(self._settings.sites), "test")
        message = self._messages.write(test_message(site, instant(self._clock())))
        if message is None:
            return "nothing was sent: the template leaves nothing of the test message"
        answer = self._deliver(message)
        return f"{self._target} answers HTTP {answer.status} to the test message {message.id}"

    def _deliver(self, message: Message) -> Answer:
        at_s = self._clock() // SECOND_US
        headers = {**self._headers, **message.headers, **signed(self._keys, message.id, at_s, message.body)}
        answer = self._exchange.ask(self._settings.method, headers, message.body)
        self._judge(answer)
        return answer

    def _judge(self, answer: Answer) -> None:
        """Raise what an answer other than success means."""
        status = answer.status
        if 200 <= status < 300:
            return
        said = f"{self._target} answers HTTP {status}"
        if 300 <= status < 400:
            raise Undeliverable(f"{said}: redirects are not followed; write the receiver's own address into `url`")
        said += f" {self._shown(f'{answer.reason}: ' + answer.start.decode(errors='replace'))}"
        if status in _NOT_NOW:
            raise Later(said, _pause_s(answer.headers.get("Retry-After", ""), self._clock()))
        if status in _TURNED_AWAY or status == _GONE:
            raise TurnedAway(said, is_gone=status == _GONE)
        raise Undeliverable(said) if 400 <= status < 500 else Answered(said)

    def _shown(self, text: str) -> str:
        """The begin of an answer, on one line, without our secrets."""
        for secret in sorted(self._hidden, key=len, reverse=True):
            if len(secret) >= _LEAST_HIDDEN:
                text = text.replace(secret, HIDDEN)
        return " ".join(text.split())[:_SHOWN].rstrip(": ")


def _target(name: str, url: str, *, allow_private: bool) -> Target:
    try:
        target = Target.of(url)
    except ValueError as error:
        raise ConfigurationError(f"channel `{name}`: `url`: {error}") from None
    if fault := fault_of_host(target.host, target.port, allow_private=allow_private):
        raise ConfigurationError(f"channel `{name}`: `url`: {fault}")
    return target


def _keys(name: str, settings: WebhookSettings) -> Iterator[bytes]:
    for place in settings.secrets:
        try:
            yield read_key(read_secret(place))
        except ValueError as error:
            raise ConfigurationError(f"channel `{name}`: `secrets`: {place}: {error}") from None


def _checked(name: str, headers: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"channel `{name}`: `headers`: `{key}` may have printable ASCII characters only")
    return headers


def _context(name: str, settings: WebhookSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca)
    except (OSError, ssl.SSLError) as error:
        what = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"channel `{name}`: `ca`: {settings.ca}: {what}") from None


def _pause_s(retry_after: str, now_us: int) -> float:
    """The pause that the header Retry-After asks for: seconds, or an instant (RFC 9110, 10.2.3); else 0."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - instant(now_us)).total_seconds())
