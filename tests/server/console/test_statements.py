"""No page, and no JSON of one, asks the database more often because a site has more cameras."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import event

from policies.events import microseconds
from server.app import runtime_of
from server.domain.pictures.kept_frames import Picture
from server.store import Store
from tests.server.console.routes import Yard, readable
from tests.server.console.signed_in import add_user, browser
from tests.server.web.test_cameras import heartbeat
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app

FEW, MANY = 3, 12
_TIMES = ("2027-01-14T23:50", "2027-01-15T07:10", "2027-01-15T07:58")
_VISIT = (1, 2, *range(200, 212))

pytestmark = pytest.mark.usefixtures("cheap_passwords")


def send(app: Flask, camera: str, number: int, minute: str) -> None:
    """Somebody comes to a camera at a minute. Its pictures are kept."""
    frames = [jpeg(grey, (64 + 2 * number, 48 + 2 * _TIMES.index(minute))) for grey in _VISIT]  # no two are alike
    captured_at = f"{minute}:{number:02}.000Z"
    sent = envelope(frames, burst_id=f"0197-{camera}-{_TIMES.index(minute)}", camera=camera, captured_at=captured_at)
    assert app.test_client().post("/v1/bursts", data=body(sent, frames)).status_code == 201
    first_us = microseconds(datetime.fromisoformat(captured_at))
    kept = [
        Picture("north-yard", camera, first_us + 500_000 * index, hashlib.sha256(frame).hexdigest(), frame, 0.9)
        for index, frame in enumerate(frames)
    ]
    runtime_of(app).store.frames.keep(kept)


def yard_of(folder: Path, cameras: int) -> tuple[Flask, Yard]:
    """A site with so many cameras. To each somebody came three times, and in between it was not watched."""
    folder.mkdir()
    app = make_app(folder, BrightnessEnsemble())
    for number, camera in enumerate(["gate", *(f"cam{each}" for each in range(1, cameras))]):
        for minute in _TIMES:
            send(app, camera, number, minute)
        beat = heartbeat(site="north-yard", camera=camera)
        assert app.test_client().post("/v1/heartbeats", json=beat).status_code == 204
    add_user(app)
    version = runtime_of(app).versions.propose("north-yard", Yard.text, "anna", "why", None)
    events = runtime_of(app).store.events(site="north-yard", camera="gate")
    entered = next(each.event for each in events if each.event.kind == "entered")
    return app, Yard(entered.id, entered.provenance.frame_sha256[0], version=version.number)


@contextmanager
def counted(store: Store) -> Iterator[Counter[str]]:
    """How often each statement is asked meanwhile."""
    asked = Counter[str]()

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        asked[statement] += 1

    event.listen(store._engine, "before_cursor_execute", note)
    yield asked
    event.remove(store._engine, "before_cursor_execute", note)


def asked_of(folder: Path, cameras: int, *, is_again: bool = False) -> dict[str, Counter[str]]:
    """The statements of each page and twin, by its rule, for the first time since the server started, or again."""
    app, yard = yard_of(folder, cameras)
    store, client, found = runtime_of(app).store, browser(app), dict[str, Counter[str]]()
    for _ in range(1 + is_again):
        for rule, ask in readable(app):
            with counted(store) as asked:
                answer = client.get(yard.filled(rule.rule), query_string=yard.fields(ask))
            assert answer.status_code in (200, 303), (rule.rule, answer.text)
            found[rule.rule] = asked
    store.close()
    return found


@pytest.mark.parametrize("is_again", [False, True])
def test_pages_of_more_cameras_take_no_more_statements(tmp_path: Path, is_again: bool) -> None:
    few = asked_of(tmp_path / "few", FEW, is_again=is_again)
    many = asked_of(tmp_path / "many", MANY, is_again=is_again)
    assert {rule: asked.total() for rule, asked in many.items()} == {rule: few[rule].total() for rule in many}
    assert few["/day/<day>"].total() < 65, few["/day/<day>"]
    assert few["/now"].total() < 20, few["/now"]
    assert few["/v1/cameras"].total() < 20, few["/v1/cameras"]
