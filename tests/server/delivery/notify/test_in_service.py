"""A server with such a channel in its settings tells the owner of a yard what it sees, and that it sees nothing."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from server.app import create_app
from server.app.composition import runtime_of
from server.settings import ServerSettings
from server.settings.channels import NotifySettings
from tests.server import new_sqlite
from tests.server.delivery.notify.receivers import HttpReceiver
from tests.server.web_client import NOW_US, SITE, BrightnessEnsemble, body, envelope, jpeg
from tests.stand_ins import ManualClock


@pytest.mark.parametrize("keep", ["events", "none"])
def test_a_person_in_the_yard_is_told_with_the_kept_frame_and_then_the_silence(
    tmp_path: Path, receiver: HttpReceiver, keep: str
) -> None:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites/north-yard.toml").write_text(f'timezone = "Europe/Oslo"\n{SITE}', encoding="utf-8")
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    clock = ManualClock(NOW_US)
    settings = ServerSettings(
        data_dir=tmp_path,
        keep_frames=keep,  # type: ignore[arg-type]
        console_url="https://watch.example.org/",
        channels={"phones": NotifySettings(urls=("env:PHONE",))},
    )
    app = create_app(settings, ensemble=BrightnessEnsemble(), clock=clock)
    runtime = runtime_of(app)
    runtime.dispatcher.drain_once()
    frames = [jpeg(grey, (64 + i, 48)) for i, grey in enumerate((0, 0, 255, 255, 255, 255, 255, 255))]
    captured_at = "2027-01-15T07:59:00.000Z"
    sent = app.test_client().post("/v1/bursts", data=body(envelope(frames, captured_at=captured_at), frames))
    assert sent.status_code == 201
    for _ in range(3):
        runtime.dispatcher.drain_once()
    assert receiver.posts == []
    runtime.keeper.drain()
    clock.advance(1 if keep == "events" else 3)
    runtime.dispatcher.drain_once()
    (post,) = receiver.posts
    (event,) = [each.event for each in runtime.store.events() if each.event.kind == "presence_started"]
    assert post.json["message"].splitlines() == [
        "08:59 person at gate/view (north-yard)",
        f"https://watch.example.org/events/{event.id}",
    ]
    pictures = [base64.b64decode(each["base64"]) for each in post.json["attachments"]]
    best = runtime.store.frames.shelf.get(event.provenance.frame_sha256[0])
    assert pictures == ([] if keep == "none" else [best])
    assert keep == "none" or best in frames
    for _ in range(3):
        clock.advance(300)
        runtime.dispatcher.drain_once()
    assert receiver.lines[1:] == ["gate (north-yard) is not watched since 09:00: no bursts"]
