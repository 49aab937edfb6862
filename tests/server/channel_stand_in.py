"""A channel of the settings that is made in place of every webhook: what it sends is kept, and it may refuse."""

from __future__ import annotations

import pytest

from server.delivery import factory
from server.delivery.surroundings import Surroundings
from server.domain.errors import ConfigurationError
from server.settings.channels import AnyChannel, WebhookSettings, read_secret
from tests.stand_ins import RecordingChannel

TABLE = '[channels.phone]\nkind = "webhook"\nurl = "https://example.org/in"\n'


class Tried(RecordingChannel):
    """A recording channel that people can try. `refuses`: what a test raises."""

    def __init__(self, name: str, refuses: Exception | None, tests: list[str]) -> None:
        super().__init__(name)
        self._refuses = refuses
        self._tests = tests

    def test(self) -> str:
        if self._refuses is not None:
            raise self._refuses
        self._tests.append(self.name)
        return f"A test went to {self.name}."


class Hooks:
    """Makes the channels; `tests` has the names of those that were tried."""

    def __init__(self) -> None:
        self.made: list[Tried] = []
        self.tests: list[str] = []
        self.refuses: Exception | None = None
        self.secret: str | None = None
        self.missing: str | None = None

    def make(self, name: str, _table: AnyChannel, _surroundings: Surroundings) -> Tried:
        if self.missing is not None:
            raise ConfigurationError(self.missing)
        if self.secret is not None:
            read_secret(self.secret)
        self.made.append(Tried(name, self.refuses, self.tests))
        return self.made[-1]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Hooks:
    """Have this process make stand-ins for webhooks."""
    hooks = Hooks()
    monkeypatch.setitem(factory.MAKERS, WebhookSettings, hooks.make)  # type: ignore[arg-type]
    return hooks
