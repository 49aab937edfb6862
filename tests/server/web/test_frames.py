"""Pictures are shown to readers of their site, with a token, and to nobody else."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from sqlalchemy import insert

from policies.events import instant
from server.app import runtime_of
from server.console import TWINS
from server.domain.keeping import Keep, KeepFrames
from server.store import visit_stretches
from server.store.schema import frame_sites
from server.web.auth import ANY_SITE, new_token
from server.web.frames import _of_event
from server.web.openapi import document
from tests.server.web.test_openapi import eventful, schema
from tests.server.web_client import BrightnessEnsemble, body, encoded, envelope, jpeg, make_app

SHA256 = hashlib.sha256(jpeg(200)).hexdigest()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """A server that took a burst with somebody in it, and kept its pictures."""
    app = make_app(tmp_path, BrightnessEnsemble())
    assert app.test_client().post("/v1/bursts", data=eventful("0197-frames-1")).status_code == 201
    runtime_of(app).keeper.drain()
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def bearer(app: Flask, site: str = "north-yard", camera: str | None = None) -> dict[str, str]:
    made = new_token()
    runtime_of(app).store.add_token(made.id, "test", site, camera, made.hash)
    return {"Authorization": f"Bearer {made.token}"}


def test_a_reader_gets_the_bytes_that_the_agent_sent(app: Flask, client: FlaskClient) -> None:
    answer = client.get(f"/v1/frames/{SHA256}", headers=bearer(app))
    assert (answer.status_code, answer.data, answer.content_type) == (200, jpeg(200), "image/jpeg")
    assert answer.headers["ETag"] == f'"{SHA256}"'
    cached = {part.strip() for part in answer.headers["Cache-Control"].split(",")}
    assert cached == {"private", "no-cache"}, "a browser asks again: it shows no picture that was erased"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    schema["/v1/frames/{sha256}"]["GET"].validate_response(answer)


def test_a_picture_that_the_reader_has_is_not_sent_again(app: Flask, client: FlaskClient) -> None:
    headers = bearer(app) | {"If-None-Match": f'"{SHA256}"'}
    answer = client.get(f"/v1/frames/{SHA256}", headers=headers)
    assert (answer.status_code, answer.data) == (304, b"")
    assert client.get(f"/v1/frames/{SHA256}?size=small", headers=headers).status_code == 200


def test_a_small_view_is_320_pixels_wide_and_goes_with_its_picture(
    app: Flask, client: FlaskClient, tmp_path: Path
) -> None:
    image = encoded(Image.effect_noise((1280, 720), 80).convert("RGB"), "JPEG")
    frames = [image, jpeg(3)]
    sent = envelope(frames, burst_id="0197-frames-2", captured_at="2027-01-15T07:59:30.000Z")
    assert client.post("/v1/bursts", data=body(sent, frames)).status_code == 201
    runtime_of(app).keeper.drain()
    answer = client.get(f"/v1/frames/{hashlib.sha256(image).hexdigest()}?size=small", headers=bearer(app))
    with Image.open(io.BytesIO(answer.data)) as opened:
        assert opened.size == (320, 180)
    assert len(answer.data) < len(image) / 4
    assert len([file for file in (tmp_path / "frames").rglob("*.small") if file.is_file()]) == 1
    runtime_of(app).store.retention.sweep(lambda _site: Keep(frames=KeepFrames("none")))
    assert [file.name for file in (tmp_path / "frames").rglob("*") if file.is_file()] == ["owner"]


def test_no_whole_picture_is_read_for_who_has_it_or_for_a_small_view_that_was_made(app: Flask, tmp_path: Path) -> None:
    image = encoded(Image.effect_noise((1280, 720), 80).convert("RGB"), "JPEG")
    frames = [image, jpeg(3)]
    sent = envelope(frames, burst_id="0197-frames-2", captured_at="2027-01-15T07:59:30.000Z")
    client = app.test_client()
    assert client.post("/v1/bursts", data=body(sent, frames)).status_code == 201
    runtime_of(app).keeper.drain()
    headers = bearer(app)
    path = f"/v1/frames/{hashlib.sha256(image).hexdigest()}"
    whole, small = (client.get(path + size, headers=headers) for size in ("", "?size=small"))
    [file] = (each for each in (tmp_path / "frames").rglob("*") if each.is_file() and each.read_bytes() == image)
    file.write_bytes(b"damaged: whoever reads it notices")
    for answer, size in ((whole, ""), (small, "?size=small")):
        again = client.get(path + size, headers=headers | {"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
    again = client.get(path + "?size=small", headers=headers)
    assert (again.status_code, again.data) == (200, small.data)
    assert client.get(path, headers=headers).status_code == 410
    file.unlink()
    headers |= {"If-None-Match": whole.headers["ETag"]}
    assert client.get(path, headers=headers).status_code == 410, "a lost picture is not confirmed"


PATHS = (f"/v1/frames/{SHA256}", "/v1/frames?site=north-yard&camera=gate", "/v1/events/{event}/frames")


def event_of(app: Flask) -> str:
    return next(iter(runtime_of(app).store.events())).event.id


@pytest.mark.parametrize("path", PATHS)
def test_nobody_sees_a_picture_without_a_token_also_before_the_first_is_made(
    app: Flask, client: FlaskClient, path: str
) -> None:
    path = path.replace("{event}", event_of(app))
    assert client.get(path).status_code == 401
    headers = bearer(app)
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"Authorization": "Bearer sw_no_token"}).status_code == 401
    assert client.get(path, headers=bearer(app, camera="gate")).status_code == 403
    assert client.get(path, headers=headers).status_code == 200
    assert client.get(path, headers=bearer(app, ANY_SITE)).status_code == 200


def without_instance(answer: Any) -> dict[str, Any]:
    return {key: value for key, value in answer.get_json().items() if key != "instance"}


def test_of_another_site_a_picture_and_an_event_are_as_unknown_as_any(app: Flask, client: FlaskClient) -> None:
    headers, unknown = bearer(app, "south-yard"), "0" * 64
    answers = [client.get(f"/v1/frames/{sha256}", headers=headers) for sha256 in (SHA256, unknown)]
    assert [answer.status_code for answer in answers] == [404, 404]
    shown = [str(without_instance(answer)).replace(SHA256, unknown) for answer in answers]
    assert shown[0] == shown[1]
    event = event_of(app)
    answers = [client.get(f"/v1/events/{each}/frames", headers=headers) for each in (event, "0" * 32)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert str(without_instance(answers[0])).replace(event, "0" * 32) == str(without_instance(answers[1]))
    assert client.get(PATHS[1], headers=headers).status_code == 403


@pytest.mark.parametrize("name", ["x", "..%2f..%2fetc", SHA256.upper(), SHA256[:-1], "%00"])
def test_what_is_no_sha256_is_unknown(app: Flask, client: FlaskClient, name: str) -> None:
    assert client.get(f"/v1/frames/{name}", headers=bearer(app)).status_code == 404


def test_no_longer_kept_differs_from_never_kept(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    headers, event = bearer(app), event_of(app)
    runtime_of(app).store.retention.sweep(lambda _site: Keep(frames=KeepFrames("none")))
    answer = client.get(f"/v1/frames/{SHA256}", headers=headers)
    assert answer.status_code == 410
    assert answer.get_json()["type"] == "urn:sectorwatch:problem:no-longer-kept"
    schema["/v1/frames/{sha256}"]["GET"].validate_response(answer)
    assert client.get(f"/v1/frames/{'0' * 64}", headers=headers).status_code == 404
    assert client.get(f"/v1/frames/{SHA256}", headers=bearer(app, "south-yard")).status_code == 404
    frames = client.get(f"/v1/events/{event}/frames", headers=headers).get_json()["frames"]
    assert {frame["picture"] for frame in frames} == {"no_longer_kept"}
    assert [file.name for file in (tmp_path / "frames").rglob("*") if file.is_file()] == ["owner"]


def test_a_picture_whose_file_is_lost_is_no_longer_kept(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    next((tmp_path / "frames").rglob(SHA256)).unlink()
    assert client.get(f"/v1/frames/{SHA256}", headers=bearer(app)).status_code == 410


def test_the_frames_of_an_event_are_listed_with_what_became_of_their_pictures(app: Flask, client: FlaskClient) -> None:
    answer = client.get(f"/v1/events/{event_of(app)}/frames", headers=bearer(app))
    schema["/v1/events/{event_id}/frames"]["GET"].validate_response(answer)
    frames = answer.get_json()["frames"]
    assert SHA256 in {frame["sha256"] for frame in frames}
    assert {frame["picture"] for frame in frames} == {"kept"}
    assert any(frame["names_event"] for frame in frames)
    assert [frame["index"] for frame in frames] == list(range(len(frames)))
    assert answer.get_json()["next"] is None


def test_the_frames_of_a_long_event_come_a_page_at_a_time(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.web.frames.MOST", 2)
    headers, path = bearer(app), f"/v1/events/{event_of(app)}/frames"
    pages, after = [], 0
    while after is not None:
        page = client.get(path, query_string={"after": after}, headers=headers).get_json()
        pages += page["frames"]
        after = page["next"]
    monkeypatch.setattr("server.web.frames.MOST", 500)
    assert pages == client.get(path, headers=headers).get_json()["frames"]
    assert len(pages) > 2


class Seen:
    """A store of frames at these instants (s), two of which may be equal."""

    def __init__(self, *at_s: float) -> None:
        self.at_s = at_s
        self.frames = self

    def observations(self, _site: str, _camera: str, since_us: int, until_us: int) -> Iterator[Any]:
        for number, at_s in enumerate(self.at_s):
            if since_us <= at_s * 1_000_000 < until_us:
                yield SimpleNamespace(
                    at_us=round(at_s * 1_000_000), frame_sha256=f"{number:064x}", burst_id="b", index=number
                )

    def fates(self, _site: str, _camera: str, digests: list[str]) -> dict[str, str]:
        return dict.fromkeys(digests, "kept")


def listed(seen: Seen, ends_s: float) -> list[int]:
    """The numbers of the frames of an event that began at 0, page by page."""
    times = {"started_at": instant(0), "confirmed_at": instant(round(ends_s * 1_000_000))}
    event: Any = SimpleNamespace(site="s", camera="c", id="e", provenance=SimpleNamespace(frame_sha256=()), **times)
    numbers: list[int] = []
    after: int | None = 0
    while after is not None:
        page = _of_event(cast(Any, seen), event, after, visit_stretches)
        numbers += [frame["index"] for frame in page["frames"]]
        after = page["next"]
    return numbers


@pytest.mark.parametrize("ends_s", [599.0, 630.0, 662.0, 900.0])
def test_no_frame_of_a_long_event_is_listed_twice(ends_s: float) -> None:
    numbers = listed(Seen(*range(1, int(ends_s), 5)), ends_s)
    assert numbers == sorted({*numbers})


def test_frames_of_one_instant_are_on_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.web.frames.MOST", 2)
    assert listed(Seen(1, 2, 2, 2, 3, 4, 5), 10) == [0, 1, 2, 3, 4, 5, 6]


def test_a_small_view_that_its_place_does_not_give_is_asked_for_again_later(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_sha256: str) -> None:
        raise OSError("Input/output error")

    monkeypatch.setattr(runtime_of(app).store.frames.shelf, "get_small", fails)
    answer = client.get(f"/v1/frames/{SHA256}?size=small", headers=bearer(app))
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


def test_an_event_whose_site_kept_no_picture_says_so(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble(), keep_frames="none")
    assert app.test_client().post("/v1/bursts", data=eventful("0197-frames-1")).status_code == 201
    runtime_of(app).keeper.drain()
    answer = app.test_client().get(f"/v1/events/{event_of(app)}/frames", headers=bearer(app))
    assert {frame["picture"] for frame in answer.get_json()["frames"]} == {"never_kept"}
    assert not (tmp_path / "frames").exists()
    runtime_of(app).store.close()


def test_kept_frames_of_a_camera_are_listed_by_time(app: Flask, client: FlaskClient) -> None:
    headers, place = bearer(app), {"site": "north-yard", "camera": "gate"}

    def listed(**more: str) -> list[dict[str, Any]]:
        answer = client.get("/v1/frames", query_string=place | more, headers=headers)
        schema["/v1/frames"]["GET"].validate_response(answer)
        found: list[dict[str, Any]] = answer.get_json()["frames"]
        return found

    everything = listed()
    assert len(everything) == 14
    assert listed(order="newest", limit="1") == everything[-1:]
    assert listed(since=everything[3]["at"], until=everything[5]["at"]) == everything[3:5]
    assert client.get("/v1/frames", query_string={"site": "north-yard"}, headers=headers).status_code == 400


def test_a_burst_that_is_sent_again_brings_pictures_that_were_not_kept(app: Flask, client: FlaskClient) -> None:
    frames = [jpeg(grey) for grey in (1, 2, *range(220, 230))]
    sent = envelope(frames, burst_id="0197-frames-3", captured_at="2027-01-15T07:59:40.000Z")
    headers = bearer(app) | {}
    agent = bearer(app, camera="gate")
    assert client.post("/v1/bursts", data=body(sent, frames), headers=agent).status_code == 201
    runtime_of(app).keeper._queue.clear()  # as after a crash
    assert client.post("/v1/bursts", data=body(sent, frames), headers=agent).status_code == 200
    runtime_of(app).keeper.drain()
    sha256 = hashlib.sha256(frames[-1]).hexdigest()
    assert client.get(f"/v1/frames/{sha256}", headers=headers).status_code == 200


def test_the_document_asks_for_a_token_for_every_picture() -> None:
    paths = {path: ways for path, ways in document("0", TWINS).get("paths", {}).items() if "frames" in path}
    assert [ways["get"]["security"] for ways in paths.values()] == [[{"token": []}]] * 3


def test_metrics_count_pictures(app: Flask, client: FlaskClient) -> None:
    runtime = runtime_of(app)
    runtime.metrics.frames_counted(runtime.store.frames.totals())
    runtime.metrics.frames_not_kept(3, "place")
    text = client.get("/metrics", headers=bearer(app, ANY_SITE)).text
    assert "sectorwatch_frames_kept_total 14.0" in text
    assert 'sectorwatch_frames_not_kept_total{cause="place"} 3.0' in text
    assert 'sectorwatch_kept_frames{camera="gate",site="north-yard"} 14.0' in text


def test_an_older_site_keeps_no_picture_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    runtime = runtime_of(app)
    with runtime.store._engine.begin() as connection:
        connection.execute(insert(frame_sites), {"site": "north-yard"})
    runtime._stopping.set()
    for _ in range(2):
        runtime._keep_frames()
    assert [record.message for record in caplog.records].count("pictures of an older site are not kept") == 1
    assert app.test_client().post("/v1/bursts", data=eventful("0197-frames-1")).status_code == 201
    runtime.keeper.drain()
    assert runtime.store.frames.totals() == []
    runtime.store.close()
