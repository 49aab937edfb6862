"""Receivers, and a house whose channel sends to one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.server.delivery.notify.house import House
from tests.server.delivery.notify.receivers import HttpReceiver, http_receiver


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReceiver]:
    """A phone; the variable PHONE holds its URL."""
    with http_receiver() as receiver:
        monkeypatch.setenv("PHONE", receiver.url())
        yield receiver


@pytest.fixture
def house(receiver: HttpReceiver) -> Callable[..., House]:
    """Makes a house with these settings."""

    def make(**settings: Any) -> House:
        return House(**settings)

    return make
