"""Requests are signed as Standard Webhooks says: its own library accepts them, and refuses what was changed."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from server.domain.errors import ConfigurationError
from tests.server.delivery.webhook.parts import announced, channel
from tests.server.delivery.webhook.receiver import Received, Receiver
from tests.stand_ins import ManualClock

OLD, NEW = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))


@pytest.fixture
def signed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Received]:
    monkeypatch.setenv("OLD", OLD)
    monkeypatch.setenv("NEW", NEW.removeprefix("whsec_"))

    def send(*secrets: str, at_s: float = 0.0) -> Received:
        clock = ManualClock(round((at_s or time.time()) * 1e6))
        channel(receiver.url, clock, secrets=[f"env:{name}" for name in secrets]).send(announced())
        return receiver.received[-1]

    return send


def test_the_library_of_the_standard_accepts_a_request(signed: Callable[..., Received]) -> None:
    request = signed("OLD")
    assert Webhook(OLD).verify(request.body, dict(request.headers)) == request.json


def test_while_keys_change_both_sign(signed: Callable[..., Received]) -> None:
    request = signed("NEW", "OLD")
    for key in (OLD, NEW):
        assert Webhook(key).verify(request.body, dict(request.headers))


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp"])
def test_a_changed_request_is_refused(signed: Callable[..., Received], changed: str) -> None:
    request = signed("OLD")
    headers, body = dict(request.headers), request.body
    if changed == "body":
        body = body.replace(b"entered", b"left")
    else:
        headers[changed] += "1" if changed == "webhook-id" else ".5"
        headers["webhook-timestamp"] = str(int(float(headers["webhook-timestamp"])) + (changed != "webhook-id"))
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(OLD).verify(body, headers)


def test_a_request_of_before_is_refused_when_it_is_played_again(signed: Callable[..., Received]) -> None:
    request = signed("OLD", at_s=time.time() - 3600)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(OLD).verify(request.body, dict(request.headers))


def test_without_a_key_a_request_has_its_id_and_no_signature(signed: Callable[..., Received]) -> None:
    request = signed()
    assert request.headers["webhook-id"] == f"{request.json['id']}-1"
    assert "webhook-signature" not in request.headers


@pytest.mark.parametrize(
    "secret", ["hush", "whsec_", "whsec_" + "A" * 20, "not base64 at all, but long enough", "A" * 100]
)
def test_a_key_that_is_too_weak_is_refused_at_the_start_and_not_shown(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("WEAK", secret)
    with pytest.raises(ConfigurationError, match="env:WEAK: a key is 24 to 64 random bytes in base64") as error:
        channel(receiver.url, secrets=["env:WEAK"])
    assert secret not in str(error.value).removeprefix("channel `hook`: `secrets`: env:WEAK")
