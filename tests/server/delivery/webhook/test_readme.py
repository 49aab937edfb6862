"""The README of webhooks names every key, its examples are settings, and its receiver knows our requests."""

from __future__ import annotations

import base64
import hmac
import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.delivery import webhook
from server.delivery.factory import make_channels
from server.delivery.sender import FIRST_WAIT_S, LONGEST_PAUSE_S, LONGEST_WAIT_S, MOST_ATTEMPTS
from server.delivery.webhook.channel import _NOT_NOW
from server.delivery.webhook.messages import cloud_attributes
from server.delivery.webhook.template import _FILTERS, MOST_CHARACTERS, MOST_STEPS
from server.settings import load_settings
from server.settings.channels import WebhookSettings
from tests.server.delivery.webhook.parts import announced, channel, settings, surroundings
from tests.server.delivery.webhook.receiver import Receiver
from tests.server.scenes import START_US
from tests.stand_ins import ManualClock

TEXT = (Path(next(iter(webhook.__path__))) / "README.md").read_text(encoding="utf-8")
KEY = base64.b64encode(b"k" * 32).decode()


def section(heading: str) -> str:
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    assert found is not None
    return found[1]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table of a section, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_key_is_described_with_its_default() -> None:
    given = settings("https://example.org/", allow_private=False)
    described: dict[str, str] = {}
    for names, default, *_ in rows("Keys"):
        described |= dict.fromkeys(re.findall(r"`(\w+)`", names), default.strip("`"))
    assert described.keys() == set(WebhookSettings.__struct_fields__)
    for name, default in described.items():
        value = msgspec.to_builtins(getattr(given, name))
        if default:
            assert tomllib.loads(f"x = {default}")["x"] == (list(value) if isinstance(value, tuple) else value), name
        else:
            assert name == "url" or not value


def test_every_example_makes_its_channels(tmp_path: Path, own_folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_HOOK_URL", "https://hooks.example.org/T0ken")
    monkeypatch.setenv("SECTORWATCH_HOOK_TOKEN", "Bearer x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "chat-url").write_text("https://chat.example.org/T0ken\n", encoding="utf-8")
    (tmp_path / "hook.key").write_text(KEY, encoding="utf-8")
    (tmp_path / "server.toml").write_text("\n".join(blocks("toml")), encoding="utf-8")
    tables = load_settings(tmp_path / "server.toml").channels
    made = make_channels(tables, surroundings(ManualClock(START_US)))
    assert [each.name for each in made] == ["office", "signed", "chat", "plain"]


def test_the_receiver_accepts_our_requests_and_refuses_others(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: dict[str, Any] = {"base64": base64, "hmac": hmac, "time": time}
    (example,) = blocks("python")
    exec(example, names)
    is_ours: Callable[[str, dict[str, str], bytes], bool] = names["is_ours"]
    monkeypatch.setenv("OLD", base64.b64encode(b"o" * 32).decode())
    monkeypatch.setenv("KEY", KEY)
    channel(receiver.url, ManualClock(time.time_ns() // 1000), secrets=["env:OLD", "env:KEY"]).send(announced())
    (request,) = receiver.received
    headers = dict(request.headers)
    assert is_ours(KEY, headers, request.body)
    assert not is_ours(KEY, headers, request.body + b" ")
    assert not is_ours(base64.b64encode(b"x" * 32).decode(), headers, request.body)
    assert not is_ours(KEY, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) - 400)}, request.body)


def test_the_figures_are_those_of_the_code() -> None:
    flat = " ".join(TEXT.split())
    assert f"{MOST_STEPS:,} rounds" in flat
    assert f"{MOST_CHARACTERS:,} characters" in flat
    assert f"({FIRST_WAIT_S:g} s to {LONGEST_WAIT_S:g} s)" in flat
    assert f"after {MOST_ATTEMPTS} such answers" in flat
    assert LONGEST_PAUSE_S == 3600
    assert "up to an hour" in flat
    assert f"| {', '.join(map(str, sorted(_NOT_NOW)))} | not now" in flat
    listed = re.search(r"The filters are (.*?)\.", flat)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) == {name for name in _FILTERS if not name.startswith(" ")}


def test_the_attributes_of_cloud_events_are_those_that_are_sent() -> None:
    described = {name.strip("`") for name, _ in rows("What a receiver gets")}
    assert described == cloud_attributes(announced()).keys() - {"specversion"}
