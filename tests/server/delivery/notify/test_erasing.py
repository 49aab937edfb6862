"""What is erased is not told any more, and nothing of it stays in what the channel remembers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from server.app import create_app
from server.app.composition import runtime_of
from server.settings import ServerSettings
from server.settings.channels import NotifySettings
from tests.server import new_sqlite
from tests.server.delivery.notify.house import House
from tests.server.delivery.notify.receivers import HttpReceiver
from tests.server.web_client import NOW_US, SITE, BrightnessEnsemble, body, envelope, jpeg
from tests.stand_ins import ManualClock

Make = Callable[..., House]


def test_a_letter_that_waits_goes_with_its_event_and_others_leave(house: Make, receiver: HttpReceiver) -> None:
    h = house(picture=True)
    erased = h.say(h.came())
    h.say(h.came(sector="road"))
    h.erase(erased)
    h.pass_(5)
    assert receiver.lines == ["18:12 person at gate/road (north-yard)"]
    assert "gate/table" not in h.channel.memory


def test_a_message_that_was_sent_is_neither_ended_nor_taken_back_once_its_event_is_erased(
    house: Make, receiver: HttpReceiver
) -> None:
    h = house()
    erased = h.say(h.came())
    h.pass_(1)
    h.say(erased, "withdrawn")
    h.erase(erased)
    h.pass_(30)
    h.say(h.left(0, 25))
    h.pass_(1)
    assert receiver.lines == ["18:12 person at gate/table (north-yard)"]
    assert "gate/table" not in h.channel.memory.replace(erased.id, "")


@pytest.mark.parametrize("waits", ["as a tally", "as a letter"])
def test_a_digest_counts_no_erased_event(house: Make, receiver: HttpReceiver, waits: str) -> None:
    h = house(quiet=["18:12-18:30"], cooldown_s=0)
    erased = [h.say(h.came(n * 60.0)) for n in range(2)]
    h.say(h.came(200, label="vehicle", sector="road"))
    h.pass_(1)
    receiver.status = 500 if waits == "as a letter" else 200
    if waits == "as a letter":
        h.clock.advance(1080)
        with pytest.raises(Exception, match="500"):
            h.channel.refresh()
    h.erase(*erased)
    receiver.status = 200
    h.pass_(1440, 60)
    assert receiver.lines[-1].startswith("1 in quiet hours")
    assert "gate/table" not in receiver.lines[-1]
    assert "gate/table" not in h.channel.memory


def test_a_remark_goes_with_its_event_before_it_is_sent_and_out_of_digests(house: Make, receiver: HttpReceiver) -> None:
    h = house(quiet=["18:14-18:30"])
    erased = h.say(h.came())
    h.pass_(125, 5)
    h.say(erased, "withdrawn")
    h.pass_(30, 5)
    assert "taken back" in h.channel.memory
    h.erase(erased)
    h.pass_(1200, 30)
    assert receiver.lines == ["18:12 person at gate/table (north-yard)"]
    assert "taken back" not in h.channel.memory


def test_a_paused_channel_forgets_what_is_erased_as_well(tmp_path: Path, receiver: HttpReceiver) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/north-yard.toml").write_text(SITE, encoding="utf-8")
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    clock = ManualClock(NOW_US)
    settings = ServerSettings(data_dir=tmp_path, channels={"phones": NotifySettings(urls=("env:PHONE",))})
    runtime = runtime_of(app := create_app(settings, ensemble=BrightnessEnsemble(), clock=clock))
    runtime.dispatcher.drain_once()
    frames = [jpeg(grey, (64 + i, 48)) for i, grey in enumerate((0, 0, 255, 255, 255, 255, 255, 255))]
    sent = app.test_client().post(
        "/v1/bursts", data=body(envelope(frames, captured_at="2027-01-15T07:59:00.000Z"), frames)
    )
    assert sent.status_code == 201
    for _ in range(3):
        runtime.dispatcher.drain_once()
    runtime.store.pause("phones")
    assert "gate/view" in (runtime.store.memory("phones") or "")
    runtime.store.retention.erase("north-yard", "gate", NOW_US - 3_600_000_000, NOW_US, author="owner")
    runtime.dispatcher.drain_once()
    assert "gate/view" not in (runtime.store.memory("phones") or "gate/view")
