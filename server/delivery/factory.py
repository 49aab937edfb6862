"""Makes channels from the settings. What a kind needs is imported when the settings have a channel of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from server.delivery.channel import Testable
from server.delivery.surroundings import Surroundings
from server.settings.channels import AnyChannel, MqttSettings, NotifySettings, WebhookSettings

Make = Callable[[str, AnyChannel, Surroundings], Testable]


def _mqtt(name: str, settings: AnyChannel, surroundings: Surroundings) -> Testable:
    from server.delivery.mqtt import make

    assert isinstance(settings, MqttSettings)
    return make(name, settings, surroundings)


def _webhook(name: str, settings: AnyChannel, surroundings: Surroundings) -> Testable:
    from server.delivery.webhook.channel import WebhookChannel

    assert isinstance(settings, WebhookSettings)
    return WebhookChannel(name, settings, surroundings)


def _notify(name: str, settings: AnyChannel, surroundings: Surroundings) -> Testable:
    from server.delivery.notify.channel import make_notify

    assert isinstance(settings, NotifySettings)
    return make_notify(name, settings, surroundings)


MAKERS: Mapping[type, Make] = {MqttSettings: _mqtt, NotifySettings: _notify, WebhookSettings: _webhook}


def make_channels(settings: Mapping[str, AnyChannel], surroundings: Surroundings) -> list[Testable]:
    """The channels of these settings, by name. Raises ConfigurationError for a secret or a package that is missing.

    Nothing is connected yet.
    """
    return [MAKERS[type(each)](name, each, surroundings) for name, each in settings.items()]
