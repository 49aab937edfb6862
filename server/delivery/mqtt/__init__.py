"""The channel of kind `mqtt`: events, retained states and Home Assistant's discovery over a broker. See README.md."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

from server.delivery.choice import Choice
from server.delivery.surroundings import Surroundings
from server.domain.errors import ConfigurationError
from server.settings.channels import MqttSettings, read_secret

try:
    from server.delivery.mqtt.channel import MqttChannel, Options
    from server.delivery.mqtt.session import Address
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "paho":
        raise
    raise ConfigurationError(f"a channel of kind `mqtt` needs paho-mqtt ({error}): install sectorwatch[mqtt]") from None
from server.delivery.mqtt.topics import Topics

__all__ = ["MqttChannel", "make"]


def make(name: str, settings: MqttSettings, surroundings: Surroundings) -> MqttChannel:
    """The channel of these settings. Nothing is connected. Raises ConfigurationError."""
    url = urlsplit(settings.url)
    tls = _tls(name, settings) if url.scheme == "mqtts" else None
    if tls is None and (settings.ca or settings.certificate or settings.key):
        raise ConfigurationError(
            f"channel `{name}`: `ca`, `certificate` and `key` need a url that begins with mqtts://"
        )
    password = None if settings.password is None else read_secret(settings.password)
    if password is not None and not settings.user:
        raise ConfigurationError(f"channel `{name}`: `password` needs `user`")
    try:
        port = url.port or (1883 if tls is None else 8883)
    except ValueError:
        raise ConfigurationError(f"channel `{name}`: `url` has no port between 1 and 65535") from None
    return MqttChannel(
        name,
        Address(url.hostname or "", port, tls, settings.user, password, settings.version),
        Topics(settings.prefix, settings.discovery),
        Options(settings.client_id, settings.frigate, settings.pictures, settings.fresh_s),
        Choice.of(settings),
        surroundings,
    )


def _tls(name: str, settings: MqttSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key, password=_no_password)
        elif settings.key is not None:
            raise ConfigurationError(f"channel `{name}`: `key` needs `certificate`")
    except OSError as error:
        files = [str(file) for file in (settings.ca, settings.certificate, settings.key) if file is not None]
        raise ConfigurationError(f"channel `{name}`: {', '.join(files)} cannot be used: {error}") from None
    return context


def _no_password() -> str:
    """Instead of a question on the terminal."""
    return ""
