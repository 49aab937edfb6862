"""Makes channels from the settings. What a kind needs is imported when the settings have a channel of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from server.delivery.channel import Testable
from server.delivery.surroundings import Surroundings
from server.settings.channels import AnyChannel, NotifySettings

Make = Callable[[str, AnyChannel, Surroundings], Testable]


def _notify(name: str, settings: AnyChannel, surroundings: Surroundings) -> Testable:
    from server.delivery.notify.channel import make_notify

    assert isinstance(settings, NotifySettings)
    return make_notify(name, settings, surroundings)


MAKERS: Mapping[type, Make] = {NotifySettings: _notify}


def make_channels(settings: Mapping[str, AnyChannel], surroundings: Surroundings) -> list[Testable]:
    """The channels of these settings, by name. Raises ConfigurationError for a secret or a package that is missing.

    Nothing is connected yet.
    """
    return [MAKERS[type(each)](name, each, surroundings) for name, each in settings.items()]
