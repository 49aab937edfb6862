"""The door to apprise: where messages go, in threads that end, and why one did not go, without secrets."""

from __future__ import annotations

import logging
import re
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from server.domain.errors import ConfigurationError
from server.domain.secrets_in_text import HIDDEN, without_secrets
from server.settings.channels import read_secret

WITHIN_S = 15.0
"""A message that is not sent by then counts as failed. If it goes later after all, it is not sent again."""
FIRST_WAIT_US = 1_000_000
LONGEST_WAIT_US = 300_000_000
_WITHOUT_PICTURE = 3
"""Failures with a picture after which a message goes without it: a service may refuse it for the picture."""
_LONGEST_TIMEOUT_S = 5.0
_LONGEST_PAUSE_S = 1.0
_SCHEME = re.compile(r"[a-z0-9]{1,20}(?=://)", re.I)
_SIGNS = re.compile(r"[^\w.+-]+")
_SHORTEST_HIDDEN = 3


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: a title (a mail's subject), a text, and a picture with its file name and media type."""

    title: str
    text: str
    picture: bytes | None = None
    picture_name: str = ""
    media_type: str = ""


class Service:
    """One URL of apprise. `place` is where its secret is."""

    def __init__(self, place: str, url: str) -> None:
        self.place = place
        self._url = url
        self._scheme = (_SCHEME.match(url) or [""])[0].lower()
        self._apprise = _apprise_for(url)
        self._running: _Attempt | None = None
        self._failures = 0
        self._resting_until_us = 0
        self._failed: tuple[str, int] = ("", 0)
        """The text that failed last, and how often in a row."""

    def __str__(self) -> str:
        return f"{self.place} ({self._scheme})"

    @property
    def fails(self) -> bool:
        """Whether it failed the last time."""
        return self._failures > 0

    def is_free(self, now_us: int) -> bool:
        """Whether it may be tried now."""
        return not 0 < self._resting_until_us - now_us <= LONGEST_WAIT_US

    def wake(self) -> None:
        """It may be tried at once."""
        self._resting_until_us = 0

    def attempt(self, message: Message) -> _Attempt:
        """Begin to send a message. The attempt that goes on is given again."""
        running = self._running
        if running is not None and (running.is_alive() or running.message.text == message.text):
            return running
        text, failures = self._failed
        picture = message.picture if text != message.text or failures < _WITHOUT_PICTURE else None
        self._running = _Attempt(self._apprise, message, picture)
        self._running.start()
        return self._running

    def result(self, attempt: _Attempt, message: Message, now_us: int) -> str | None:
        """Why the message was not sent; None: it was."""
        cause = self._cause(attempt, message)
        if not attempt.is_alive():
            self._running = None
        if cause is None:
            self._failures, self._failed = 0, ("", 0)
            return None
        text, failures = self._failed
        self._failed = message.text, failures + 1 if text == message.text else 1
        self._failures += 1
        self._resting_until_us = now_us + min(FIRST_WAIT_US * 2 ** min(self._failures - 1, 10), LONGEST_WAIT_US)
        return cause

    def _cause(self, attempt: _Attempt, message: Message) -> str | None:
        if attempt.is_alive():
            return f"no answer within {WITHIN_S:.0f} s"
        if attempt.message.text != message.text:
            return "an earlier message has just ended"
        if attempt.is_sent:
            return None
        return hidden(" ".join(attempt.causes) or "apprise gives no reason", self._url)


class _Attempt(threading.Thread):
    """Sends one message, in a thread that ends with it. `is_alive()`: it goes on."""

    def __init__(self, apprise: Any, message: Message, picture: bytes | None) -> None:
        super().__init__(name="sectorwatch-message", daemon=True)
        self.message = message
        self.is_sent = False
        self.causes: list[str] = []
        self._apprise = apprise
        self._picture = picture

    def run(self) -> None:
        with _Causes(self.causes):
            try:
                self._send()
            except Exception as error:  # noqa: BLE001  a plugin may raise anything
                self.causes.append(f"{type(error).__name__}: {error}")

    def _send(self) -> None:
        import apprise
        from apprise.attachment import file as files

        attach_file: Any = files.AttachFile
        message, attach = self.message, None
        # Many services open the file of a picture themselves. Nobody else may read the folder.
        with tempfile.TemporaryDirectory(prefix="sectorwatch-message-") as folder:
            if self._picture is not None:
                file = Path(folder) / message.picture_name
                file.write_bytes(self._picture)
                attach = attach_file(path=str(file), name=message.picture_name, mimetype=message.media_type)
            self.is_sent = bool(
                self._apprise.notify(
                    message.text, title=message.title, body_format=apprise.NotifyFormat.TEXT, attach=attach
                )
            )


class _Causes(logging.Handler):
    """Collects what apprise logs as a warning or worse in this thread, while it is entered."""

    def __init__(self, causes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._causes = causes
        self._thread = threading.get_ident()

    def __enter__(self) -> _Causes:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._causes.append(record.getMessage())


def open_services(channel: str, places: Sequence[str]) -> list[Service]:
    """The services of these secrets. Nothing is connected. Raises ConfigurationError for a package that is missing, a
    secret that cannot be read, and a URL that apprise cannot use; its message never holds the URL.
    """
    try:
        import apprise  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(f"channel `{channel}`: {error}: install sectorwatch[notify]") from None
    logger = logging.getLogger("apprise")  # its lines hold parts of URLs; what matters of them is in our own
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    services = []
    for place in places:
        url, causes = read_secret(place), list[str]()
        try:
            with _Causes(causes):
                services.append(Service(place, url))
        except ValueError:
            scheme = (_SCHEME.match(url) or [""])[0]
            cause = hidden(" ".join(causes), url) if causes else "the URL is not complete"
            what = f"begins with {scheme}://" if scheme else "has no scheme, such as mailto://"
            raise ConfigurationError(
                f"channel `{channel}`: apprise cannot use the URL in {place}, which {what}: {cause}"
            ) from None
    return services


def deliver(jobs: Mapping[Service, Message], now_us: int, within_s: float = WITHIN_S) -> dict[Service, str | None]:
    """Send to all of these at once, within some seconds: for each why it was not sent, or None."""
    attempts = {service: service.attempt(message) for service, message in jobs.items()}
    until_s = time.monotonic() + within_s
    for attempt in attempts.values():
        attempt.join(max(0.0, until_s - time.monotonic()))
    return {service: service.result(attempts[service], message, now_us) for service, message in jobs.items()}


def hidden(text: str, url: str) -> str:
    """The text without any part of the URL but its scheme."""
    rest = url.partition("://")[2] or url
    parts = {part for each in (rest, unquote(rest)) for part in _SIGNS.split(each)}
    for part in sorted(parts, key=len, reverse=True):
        if len(part) >= _SHORTEST_HIDDEN:
            text = re.sub(re.escape(part), HIDDEN, text, flags=re.IGNORECASE)
    return without_secrets(text)


def _apprise_for(url: str) -> Any:
    """Apprise with this URL alone, sending in the thread that calls it, and with short times. Raises ValueError."""
    import apprise
    from apprise.common import PersistentStoreMode

    asset = apprise.AppriseAsset(
        app_id="Sectorwatch",
        app_desc="Sectorwatch",
        async_mode=False,
        service_timeout=0,  # else it sends in threads of its own, which it leaves behind
        storage_mode=PersistentStoreMode.MEMORY,
        allow_templates=False,
        pgp_autogen=False,
        pem_autogen=False,
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is None:
        raise ValueError("apprise takes no such URL")
    service.retry = 0  # we try again, in order and later
    service.optional = False  # else a failure counts as sent
    service.request_rate_per_sec = min(service.request_rate_per_sec, _LONGEST_PAUSE_S)
    service.socket_connect_timeout = min(service.socket_connect_timeout or 0.1, _LONGEST_TIMEOUT_S)
    service.socket_read_timeout = min(service.socket_read_timeout or 0.1, _LONGEST_TIMEOUT_S)
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    return sender
