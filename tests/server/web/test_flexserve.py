"""FlexServe's own client works unchanged: the three endpoints answer in exactly the published forms."""

from __future__ import annotations

import base64
import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from server.app import create_app, runtime_of
from server.ensemble import load_ensemble
from server.serving.loading import engine_of
from server.settings import ServerSettings
from server.web.auth import ANY_SITE, new_token
from tests import odd_jpegs
from tests.server.web_client import SITE, BrightnessEnsemble, body, encoded, envelope, files, jpeg, make_app, with_size

PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path, BrightnessEnsemble())
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An application around real models, those that need no weights from elsewhere."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "sites").mkdir()
    (folder / "sites" / "north-yard.toml").write_text(SITE, encoding="utf-8")
    settings = ServerSettings(data_dir=folder)
    engine = engine_of(load_ensemble(["hog-people-small", "frame-change"]), settings)
    engine.start(lambda: None)
    app = create_app(settings, ensemble=engine.first)
    runtime_of(app).store.upgrade()
    yield app
    engine.stop()
    runtime_of(app).store.close()


def test_classify_answers_one_class_per_model(client: FlaskClient) -> None:
    answer = client.post("/classify", data={"file": files([jpeg(255)])})
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.get_json() == {"light.v1": "bright", "people": "person"}


def test_batch_answers_a_list_per_model_even_for_one_frame(client: FlaskClient) -> None:
    assert client.post("/batch", data={"file": files([jpeg(0)])}).get_json() == {
        "light.v1": ["dark"],
        "people": ["nothing"],
    }


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_batch_takes_any_number_of_frames_of_different_sizes_and_keeps_their_order(
    client: FlaskClient, count: int
) -> None:
    frames = [jpeg(255 if index % 3 else 0, (17 + 5 * index, 90 - index)) for index in range(count)]
    expected = ["bright" if index % 3 else "dark" for index in range(count)]
    assert client.post("/batch", data={"file": files(frames)}).get_json()["light.v1"] == expected


def test_models_are_numbered_in_the_order_of_the_ensemble(client: FlaskClient) -> None:
    assert client.get("/models").get_json() == {"model 0": "light.v1", "model 1": "people"}


def test_real_models_take_frames_of_different_sizes_and_of_any_mode_in_one_batch(real: Flask) -> None:
    grey = Image.linear_gradient("L")
    frames = [encoded(grey.resize((60 + 9 * n, 150 - 7 * n)).convert(mode), "PNG") for n, mode in enumerate(PNG_MODES)]
    frames += [encoded(grey.resize((130, 90)).convert(mode), "JPEG") for mode in ("L", "CMYK", "RGB")]
    answer = real.test_client().post("/batch", data={"file": files(frames)})
    assert answer.status_code == 200, answer.text
    labels = answer.get_json()
    assert set(labels) == {"hog-people-small", "frame-change"}
    assert all(len(classes) == len(frames) and all(classes) for classes in labels.values())


@pytest.mark.parametrize(
    ("spoilt", "status"),
    [
        (b"", 422),
        (b"GIF89a", 422),
        (jpeg(9, (300, 300))[:400], 422),
        (with_size(jpeg(9), 20_000, 10_000), 413),
        (with_size(jpeg(9), 65_535, 65_535), 413),
    ],
    ids=["empty", "no-image", "cut", "200-megapixels", "4-gigapixels"],
)
def test_real_models_are_not_asked_about_a_frame_that_cannot_be_decoded(
    real: Flask, spoilt: bytes, status: int
) -> None:
    answer = real.test_client().post("/batch", data={"file": files([jpeg(0), spoilt, jpeg(0)])})
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json"), answer.text
    assert [error["frame"] for error in answer.get_json()["errors"]] == [1]


def test_classify_takes_exactly_one_file(client: FlaskClient) -> None:
    answer = client.post("/classify", data={"file": files([jpeg(0), jpeg(1)])})
    assert answer.status_code == 413
    assert answer.get_json()["errors"][0]["frame"] == 1


def test_more_frames_than_the_limit_are_refused(client: FlaskClient) -> None:
    answer = client.post("/batch", data={"file": files([jpeg(0)] * 65)})
    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")


@pytest.mark.parametrize("path", ["/classify", "/batch"])
def test_a_file_that_is_no_image_is_named_by_its_index(client: FlaskClient, path: str) -> None:
    answer = client.post(path, data={"file": files([b"GIF89a"])})
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert answer.get_json()["errors"][0]["frame"] == 0


def test_a_request_without_a_file_says_what_came_instead(client: FlaskClient) -> None:
    answer = client.post("/batch", data={"image": (io.BytesIO(jpeg(0)), "a.jpg")})
    assert answer.status_code == 422
    assert "`image`" in answer.get_json()["detail"]


def test_nothing_is_stored(app: Flask, client: FlaskClient) -> None:
    client.post("/batch", data={"file": files([jpeg(0), jpeg(255)])})
    counts = runtime_of(app).store.counts()
    assert (counts["bursts"], counts["observations"]) == (0, 0)


@pytest.mark.parametrize(("method", "path"), [("POST", "/classify"), ("POST", "/batch"), ("GET", "/models")])
def test_while_the_ensemble_loads_clients_are_told_to_come_back(tmp_path: Path, method: str, path: str) -> None:
    answer = make_app(tmp_path).test_client().open(path, method=method)
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


def test_once_a_token_exists_a_reader_s_token_is_needed(app: Flask, client: FlaskClient) -> None:
    reader, camera = new_token(), new_token()
    store = runtime_of(app).store
    store.add_token(reader.id, "reader", ANY_SITE, None, reader.hash)
    store.add_token(camera.id, "camera", "north-yard", "gate", camera.hash)
    assert client.get("/models").status_code == 401
    assert client.get("/models", headers={"Authorization": f"Bearer {reader.token}"}).status_code == 200
    assert client.get("/models", headers={"Authorization": f"Bearer {camera.token}"}).status_code == 403


def test_open_classify_leaves_the_three_endpoints_open_and_no_other(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble(), open_classify=True)
    made = new_token()
    runtime_of(app).store.add_token(made.id, "camera", "north-yard", "gate", made.hash)
    client = app.test_client()
    assert client.post("/classify", data={"file": files([jpeg(0)])}).status_code == 200
    assert client.get("/models").status_code == 200
    assert client.get("/v1/models").status_code == 401
    assert client.get("/v1/events").status_code == 401


def raw_part(disposition: bytes, picture: bytes, *lines: bytes) -> bytes:
    head = b"".join(line + b"\r\n" for line in (b"Content-Disposition: form-data; " + disposition, *lines))
    return b"--limit\r\n" + head + b"\r\n" + picture + b"\r\n"


def posted(client: FlaskClient, path: str, *parts: bytes, **headers: str) -> TestResponse:
    content_type = "multipart/form-data; boundary=limit"
    return client.post(path, data=b"".join(parts) + b"--limit--\r\n", content_type=content_type, headers=headers)


NAMES = {
    "Latin-1": b'name="file"; filename="Einfahrt S\xfcd.jpg"',
    "Windows-1251": b'name="file"; filename="\xe4\xe2\xee\xf0.jpg"',
    "Shift-JIS with a backslash": b'name="file"; filename="\x96\x5c.jpg"',
    "a lone byte of UTF-8": b'name="file"; filename="\xc3.jpg"',
    "every byte": b'name="file"; filename="%s"' % bytes(range(0x80, 0x100)),
    "without quotes": b"name=file; filename=S\xfcd.jpg",
    "UTF-8": 'name="file"; filename="Süd.jpg"'.encode(),
    "UTF-8 beside Latin-1": 'name="file"; filename="Süd.jpg"; filename*=UTF-8\'\'S%C3%BCd.jpg'.encode("latin-1"),
    "another parameter": b'name="file"; filename="a.jpg"; titel="S\xfcd"',
    "empty": b'name="file"; filename=""',
}


@pytest.mark.parametrize("path", ["/classify", "/batch"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_of_any_bytes_is_taken(client: FlaskClient, path: str, name: str) -> None:
    answer = posted(client, path, raw_part(NAMES[name], jpeg(255), b"Content-Type: image/jpeg"))
    assert answer.status_code == 200, answer.text
    assert answer.get_json()["people"] in ("person", ["person"])


@pytest.mark.parametrize(
    "line", [b"X-Kamera: S\xfcd", b"Content-Type: image/jpeg; name=S\xfcd.jpg", b"Content-Description: S\xfcd\r\n \xe4"]
)
def test_other_headers_of_a_part_may_hold_any_bytes_too(client: FlaskClient, line: bytes) -> None:
    assert posted(client, "/batch", raw_part(NAMES["Latin-1"], jpeg(0), line)).get_json()["people"] == ["nothing"]


def test_a_field_whose_name_is_not_utf_8_is_passed_over_or_named(client: FlaskClient) -> None:
    field, file = raw_part(b'name="S\xfcd"', b"text"), raw_part(NAMES["UTF-8"], jpeg(0))
    assert posted(client, "/batch", field, file).status_code == 200
    alone = posted(client, "/batch", field)
    assert (alone.status_code, alone.get_json()["detail"]) == (422, "no part `file` came, only `Süd`")


def test_a_part_without_a_name_is_passed_over(client: FlaskClient) -> None:
    unnamed, file = raw_part(b'filename="a.jpg"', jpeg(0)), raw_part(NAMES["UTF-8"], jpeg(0))
    assert posted(client, "/batch", unnamed, file).status_code == 200
    assert posted(client, "/batch", unnamed, raw_part(b'name="x"', b"text")).status_code == 422


@pytest.mark.parametrize("path", ["/classify", "/batch", "/v1/bursts"])
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br"])
def test_a_compressed_body_is_refused_as_such(client: FlaskClient, path: str, coding: str) -> None:
    body = gzip.compress(raw_part(NAMES["UTF-8"], jpeg(0)) + b"--limit--\r\n")
    headers = {"Content-Encoding": coding}
    answer = client.post(path, data=body, content_type="multipart/form-data; boundary=limit", headers=headers)
    assert answer.status_code == 415
    assert f"Content-Encoding {coding.lower()}" in answer.get_json()["detail"]


def test_a_body_in_the_encoding_identity_is_taken(client: FlaskClient) -> None:
    part = raw_part(NAMES["UTF-8"], jpeg(0))
    assert posted(client, "/batch", part, **{"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("coding", [b"base64", b"Quoted-Printable", b"x-uuencode"])
def test_a_picture_in_a_transfer_encoding_is_refused_with_its_index_and_encoding(
    client: FlaskClient, coding: bytes
) -> None:
    coded = raw_part(NAMES["UTF-8"], base64.b64encode(jpeg(0)), b"Content-Transfer-Encoding: " + coding)
    answer = posted(client, "/batch", raw_part(NAMES["UTF-8"], jpeg(0)), coded)
    assert answer.status_code == 415
    assert answer.get_json()["errors"][0]["frame"] == 1
    assert f"encoded as {coding.decode().lower()}" in answer.get_json()["detail"]


@pytest.mark.parametrize("coding", [b"binary", b"8bit", b"7BIT", b""])
def test_a_transfer_encoding_that_changes_no_byte_is_taken(client: FlaskClient, coding: bytes) -> None:
    part = raw_part(NAMES["UTF-8"], jpeg(0), b"Content-Transfer-Encoding: " + coding)
    assert posted(client, "/batch", part).status_code == 200


@pytest.mark.parametrize("path", ["/classify", "/batch"])
@pytest.mark.parametrize("fault", odd_jpegs.with_faulty_edges(b""))
def test_real_models_take_a_jpeg_with_a_faulty_edge_as_the_whole_one(real: Flask, path: str, fault: str) -> None:
    whole = odd_jpegs.jpeg()
    faulty = odd_jpegs.with_faulty_edges(whole)[fault]
    answers = [real.test_client().post(path, data={"file": files([picture])}) for picture in (whole, faulty)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].get_json() == answers[1].get_json()


def test_real_models_take_a_burst_whose_jpegs_have_faulty_edges_with_the_digests_of_what_was_sent(
    real: Flask,
) -> None:
    frames = list(odd_jpegs.with_faulty_edges(odd_jpegs.jpeg()).values())
    answer = real.test_client().post("/v1/bursts", data=body(envelope(frames), frames))
    assert answer.status_code == 201, answer.text
