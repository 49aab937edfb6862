"""A burst that is sound is taken in once; any other is refused with its reason and frame, and nothing is kept."""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from policies.observation import Prediction
from server.app import runtime_of
from server.settings import ServerSettings
from server.web.auth import new_token
from tests.server.web_client import (
    BrightnessEnsemble,
    body,
    encoded,
    envelope,
    files,
    jpeg,
    lossless_webp,
    make_app,
    with_size,
)

FRAMES = [jpeg(0), jpeg(255), jpeg(10), jpeg(250)]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path, BrightnessEnsemble(), max_frames=8, max_body_bytes=200_000)
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def stored(app: Flask) -> int:
    counts = runtime_of(app).store.counts()
    return counts["bursts"] + counts["observations"] + counts["events"]


def refused(answer: TestResponse, status: int, frame: int | None = None) -> str:
    """The detail of a problem, once its status and its frame are as expected."""
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.text
    problem: dict[str, Any] = answer.get_json()
    assert [error["frame"] for error in problem.get("errors", [])] == ([] if frame is None else [frame])
    return str(problem["detail"])


def test_a_new_burst_is_answered_201_with_every_model_s_label_for_every_frame(client: FlaskClient) -> None:
    answer = client.post("/v1/bursts", data=body(envelope(FRAMES), FRAMES))
    assert answer.status_code == 201, answer.text
    content = answer.get_json()
    assert content["burst_id"] == "0197-burst-0001"
    assert content["labels"] == {
        "light.v1": ["dark", "bright", "dark", "bright"],
        "people": ["nothing", "person", "nothing", "person"],
    }
    assert content["ensemble"] == "e" * 64
    assert len(content["observations"]) == 4
    assert {"events", "policy"} <= content.keys()


def test_the_same_burst_again_is_answered_200_with_the_same_content(app: Flask, client: FlaskClient) -> None:
    first = client.post("/v1/bursts", data=body(envelope(FRAMES), FRAMES))
    before = stored(app)
    second = client.post("/v1/bursts", data=body(envelope(FRAMES), FRAMES))
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.get_json() == first.get_json()
    assert stored(app) == before


def test_two_senders_of_one_burst_at_once_make_one_set_of_observations(app: Flask) -> None:
    begin = threading.Barrier(4)
    statuses: list[int] = []

    def send() -> None:
        begin.wait(10)
        statuses.append(app.test_client().post("/v1/bursts", data=body(envelope(FRAMES), FRAMES)).status_code)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [200, 200, 200, 201]
    assert runtime_of(app).store.counts()["observations"] == len(FRAMES)


def test_the_envelope_may_come_as_a_plain_form_field(client: FlaskClient) -> None:
    data = {"burst": json.dumps(envelope(FRAMES)), "file": files(FRAMES)}
    assert client.post("/v1/bursts", data=data).status_code == 201


def test_a_corrupt_frame_is_named_by_its_index(app: Flask, client: FlaskClient) -> None:
    frames = [FRAMES[0], b"\xff\xd8\xff not a JPEG", FRAMES[2]]
    refused(client.post("/v1/bursts", data=body(envelope(frames), frames)), 422, frame=1)
    assert stored(app) == 0


def test_a_frame_of_200_megapixels_is_refused_by_its_header(app: Flask, client: FlaskClient) -> None:
    frames = [FRAMES[0], FRAMES[1], with_size(FRAMES[2], 20_000, 10_000)]
    refused(client.post("/v1/bursts", data=body(envelope(frames), frames)), 413, frame=2)
    assert stored(app) == 0


@pytest.mark.parametrize(
    ("spoil", "status", "frame"),
    [
        (lambda burst: burst | {"offsets_ms": [0, 500, 1000]}, 422, 3),
        (lambda burst: burst | {"frame_sha256": burst["frame_sha256"][:2]}, 422, 2),
        (lambda burst: burst | {"offsets_ms": [0, 1000, 500, 1500]}, 422, 2),
        (lambda burst: burst | {"offsets_ms": [0, 500, 500, 1500]}, 422, 2),
        (lambda burst: burst | {"frame_sha256": ["0" * 64, *burst["frame_sha256"][1:]]}, 422, 0),
        (lambda burst: burst | {"captured_at": "yesterday"}, 400, None),
        (lambda burst: burst | {"site": "../etc"}, 400, None),
        (lambda burst: burst | {"site": "unknown-yard"}, 503, None),
        (lambda burst: [burst], 400, None),
    ],
    ids=["count", "hashes", "unordered", "same-time", "other-bytes", "no-instant", "path", "no-site", "no-object"],
)
def test_an_envelope_that_does_not_fit_is_refused(
    app: Flask, client: FlaskClient, spoil: Callable[[dict[str, Any]], object], status: int, frame: int | None
) -> None:
    refused(client.post("/v1/bursts", data=body(spoil(envelope(FRAMES)), FRAMES)), status, frame)
    assert stored(app) == 0


def test_an_empty_burst_is_refused(app: Flask, client: FlaskClient) -> None:
    assert "no part `file`" in refused(client.post("/v1/bursts", data=body(envelope([]), [])), 422)
    assert stored(app) == 0


def test_frames_without_an_envelope_are_refused(client: FlaskClient) -> None:
    assert "`burst`" in refused(client.post("/v1/bursts", data={"file": files(FRAMES)}), 400)


def test_two_envelopes_are_refused(client: FlaskClient) -> None:
    data = body(envelope(FRAMES), FRAMES) | {"burst": [json.dumps(envelope(FRAMES))] * 2}
    assert "2 parts" in refused(client.post("/v1/bursts", data=data), 400)


def test_an_envelope_that_is_not_json_is_refused(client: FlaskClient) -> None:
    refused(client.post("/v1/bursts", data={"burst": "{", "file": files(FRAMES)}), 400)


def test_more_frames_than_the_limit_are_refused_at_the_first_too_many(client: FlaskClient) -> None:
    frames = [jpeg(index) for index in range(9)]
    refused(client.post("/v1/bursts", data=body(envelope(frames), frames)), 413, frame=8)


def test_many_more_parts_than_the_limit_are_not_even_parsed(client: FlaskClient) -> None:
    refused(client.post("/v1/bursts", data={"file": files([b"x"] * 200)}), 413)


def test_a_body_over_the_limit_is_refused_by_its_declared_length_before_it_is_read(app: Flask) -> None:
    class Untouchable(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("the body was read")

    answer = app.test_client().post(
        "/v1/bursts",
        content_type="multipart/form-data; boundary=x",
        environ_overrides={"wsgi.input": Untouchable(), "CONTENT_LENGTH": "200001"},
    )
    assert "at most 200000" in refused(answer, 413)


def test_another_media_type_is_refused(client: FlaskClient) -> None:
    refused(client.post("/v1/bursts", json=envelope(FRAMES)), 415)
    refused(client.post("/v1/bursts", data=b"\xff\xd8", content_type="image/jpeg"), 415)
    refused(client.post("/v1/bursts"), 415)


@pytest.mark.parametrize(
    "data",
    [
        b"no boundary here",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut',
        b"",
    ],
)
def test_a_broken_multipart_body_is_refused(client: FlaskClient, data: bytes) -> None:
    answer = client.post("/v1/bursts", data=data, content_type="multipart/form-data; boundary=x")
    assert answer.status_code in (400, 422)
    assert answer.content_type == "application/problem+json"


def test_multipart_without_a_boundary_is_refused(client: FlaskClient) -> None:
    refused(client.post("/v1/bursts", data=b"x", content_type="multipart/form-data"), 400)


def test_a_file_part_without_a_filename_is_explained(client: FlaskClient) -> None:
    assert "filename" in refused(client.post("/v1/bursts", data={"burst": (io.BytesIO(), "b"), "file": "text"}), 400)


def test_while_the_ensemble_loads_the_sender_is_told_to_come_back(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    answer = app.test_client().post("/v1/bursts", data=body(envelope(FRAMES), FRAMES))
    refused(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    assert stored(app) == 0


def test_more_uploads_at_once_than_are_admitted_are_told_to_come_back(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble(), admission_limit=1)
    with runtime_of(app).admission.admitted("me"):
        answer = app.test_client().post("/v1/bursts", data=body(envelope(FRAMES), FRAMES))
        refused(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
        assert app.test_client().get("/livez").status_code == 200
    assert app.test_client().post("/v1/bursts", data=body(envelope(FRAMES), FRAMES)).status_code == 201


def test_a_stopping_server_says_so_before_it_looks_up_who_asks(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    elsewhere = {"REMOTE_ADDR": "203.0.113.7"}
    client = app.test_client()
    refused(client.post("/v1/bursts", data=body(envelope(FRAMES), FRAMES), environ_base=elsewhere), 401)
    runtime_of(app).admission.close()
    for path in ("/v1/bursts", "/batch", "/v2/models/ensemble/infer"):
        assert client.post(path, data=body(envelope(FRAMES), FRAMES), environ_base=elsewhere).status_code == 503


def test_a_refused_upload_gives_its_place_back(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble(), admission_limit=1)
    for _ in range(3):
        refused(app.test_client().post("/v1/bursts", data=b"x", content_type="image/jpeg"), 415)
    assert app.test_client().post("/v1/bursts", data=body(envelope(FRAMES), FRAMES)).status_code == 201


def test_a_stopping_server_takes_nothing_more_in(app: Flask, client: FlaskClient) -> None:
    runtime_of(app).stop()
    refused(client.post("/v1/bursts", data=body(envelope(FRAMES), FRAMES)), 503)


def test_a_camera_s_token_is_good_for_its_own_bursts_only(app: Flask, client: FlaskClient) -> None:
    made = new_token()
    runtime_of(app).store.add_token(made.id, "gate", "north-yard", "gate", made.hash)
    headers = {"Authorization": f"Bearer {made.token}"}
    other = envelope(FRAMES, camera="door")
    refused(client.post("/v1/bursts", data=body(envelope(FRAMES), FRAMES)), 401)
    refused(client.post("/v1/bursts", data=body(other, FRAMES), headers=headers), 403)
    assert stored(app) == 0
    assert client.post("/v1/bursts", data=body(envelope(FRAMES), FRAMES), headers=headers).status_code == 201


def test_a_reader_s_token_is_refused_before_the_body_is_looked_at(app: Flask, client: FlaskClient) -> None:
    made = new_token()
    runtime_of(app).store.add_token(made.id, "reader", "north-yard", None, made.hash)
    refused(client.post("/v1/bursts", data=b"x", headers={"Authorization": f"Bearer {made.token}"}), 403)


def test_a_burst_whose_parts_have_names_in_latin_1_is_taken(client: FlaskClient) -> None:
    head = b'--limit\r\nContent-Disposition: form-data; name="%s"; filename="S\xfcd"\r\n\r\n%s\r\n'
    parts = [head % (b"burst", json.dumps(envelope(FRAMES)).encode()), *(head % (b"file", frame) for frame in FRAMES)]
    answer = client.post(
        "/v1/bursts", data=b"".join(parts) + b"--limit--", content_type="multipart/form-data; boundary=limit"
    )
    assert answer.status_code == 201, answer.text
    assert answer.get_json()["labels"]["light.v1"] == ["dark", "bright", "dark", "bright"]


def test_a_compressed_heartbeat_is_refused_as_such(client: FlaskClient) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = client.post("/v1/heartbeats", data=gzip.compress(b"{}"), headers=headers)
    assert "compressed (Content-Encoding gzip)" in refused(answer, 415)


class AskedEnsemble(BrightnessEnsemble):
    """Fails the test when it is asked at all."""

    def answer(
        self, images: object, crops: object = None, enlarged: object = None
    ) -> list[dict[str, tuple[Prediction, ...] | None]]:
        raise AssertionError("a picture was decoded")


BOMBS = {
    "lossless WebP": lossless_webp(8000, 6000),
    "PNG": encoded(Image.new("1", (6000, 6000)), "PNG"),
    "JPEG": with_size(jpeg(0), 8000, 6000),
    "GIF": encoded(Image.new("L", (9, 9)), "GIF"),
    "TIFF": encoded(Image.new("L", (9, 9)), "TIFF"),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("formats", [("jpeg",), ("jpeg", "png", "webp", "bmp")], ids=["jpeg alone", "all"])
def test_a_burst_of_64_bombs_is_refused_by_their_headers_before_any_is_decoded(
    name: str, formats: tuple[str, ...], tmp_path: Path
) -> None:
    app = make_app(tmp_path, AskedEnsemble(), burst_formats=formats)
    frames = [BOMBS[name]] * 64
    answer = app.test_client().post("/v1/bursts", data=body(envelope(frames), frames))
    is_format = name in ("GIF", "TIFF") or (name != "JPEG" and formats == ("jpeg",))
    detail = refused(answer, 415 if is_format else 413, frame=0)
    assert ("burst_formats" if is_format else "max_pixels") in detail
    assert stored(app) == 0


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP"])
def test_frames_of_other_formats_are_taken_where_the_setting_names_them(form: str, tmp_path: Path) -> None:
    frames = [encoded(Image.new("RGB", (64, 48)), form)]
    data = [body(envelope(frames), frames) for _ in range(2)]
    for folder, formats, status in (("a", ("jpeg",), 415), ("b", ("jpeg", form.lower()), 201)):
        (tmp_path / folder).mkdir()
        app = make_app(tmp_path / folder, BrightnessEnsemble(), burst_formats=formats)
        assert app.test_client().post("/v1/bursts", data=data.pop()).status_code == status


def test_by_default_a_frame_has_at_most_16_million_pixels_and_is_a_jpeg() -> None:
    settings = ServerSettings()
    assert (settings.max_pixels, settings.burst_formats) == (16_000_000, ("jpeg",))
