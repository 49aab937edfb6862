"""The Open Inference Protocol: what its clients send is answered as it says."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.app import runtime_of
from server.web.auth import new_token
from server.web.oip_v2.statistics import Statistics
from tests.server.web_client import BrightnessEnsemble, jpeg, make_app

LENGTH = "Inference-Header-Content-Length"
IN_SERVICE = "e" * 64


class HalfBlindEnsemble(BrightnessEnsemble):
    """Its model `people` never answers."""

    def answer(self, images, crops=None, enlarged=()):  # type: ignore[no-untyped-def]
        return [answer | {"people": None} for answer in super().answer(images, crops, enlarged)]


class WishingEnsemble(BrightnessEnsemble):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.wishes: list[tuple[str | None, float | None]] = []

    def only(self, model: str | None, within_s: float | None = None) -> BrightnessEnsemble:
        self.wishes.append((model, within_s))
        return self


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path, BrightnessEnsemble(), max_frames=4)
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def texts(*images: bytes) -> dict[str, Any]:
    """A request in JSON."""
    data = [base64.b64encode(image).decode() for image in images]
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(images)], "data": data}]}


def packed(*images: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(image)) + image for image in images)


def post_binary(client: FlaskClient, *images: bytes, model: str = "ensemble", **more: Any) -> TestResponse:
    data = packed(*images)
    given = {"name": "image", "datatype": "BYTES", "shape": [len(images)]}
    head = json.dumps({"inputs": [given | {"parameters": {"binary_data_size": len(data)}}]} | more).encode()
    headers = {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return client.post(f"/v2/models/{model}/infer", data=head + data, headers=headers)


def outputs(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.get_json()["outputs"]}


def refused(answer: TestResponse, status: int) -> str:
    assert (answer.status_code, answer.content_type) == (status, "application/json"), answer.text
    assert list(answer.get_json()) == ["error"]
    return str(answer.get_json()["error"])


def test_the_server_lives_is_ready_and_says_what_it_can(client: FlaskClient):
    assert client.get("/v2/health/live").get_json() == {"live": True}
    assert client.get("/v2/health/ready").get_json() == {"ready": True}
    extensions = ["binary_tensor_data", "model_configuration", "model_repository", "statistics"]
    assert client.get("/v2").get_json()["extensions"] == extensions


def test_while_the_ensemble_loads_the_server_lives_and_is_not_ready(tmp_path: Path):
    client = make_app(tmp_path).test_client()
    assert client.get("/v2/health/live").status_code == 200
    answer = client.get("/v2/health/ready")
    assert (answer.status_code, answer.get_json()) == (503, {"ready": False})
    assert "loading" in refused(client.post("/v2/models/ensemble/infer", json=texts(jpeg(0))), 503)


def test_the_metadata_tells_the_tensors_and_the_one_version(client: FlaskClient):
    content = client.get("/v2/models/ensemble").get_json()
    assert content["versions"] == [IN_SERVICE]
    assert content["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [(o["name"], o["datatype"], o["shape"]) for o in content["outputs"]] == [
        ("label", "BYTES", [-1, 2]),
        ("score", "FP32", [-1, 2]),
    ]
    assert client.get(f"/v2/models/people/versions/{IN_SERVICE}").get_json()["outputs"][0]["shape"] == [-1]


def test_the_ensemble_answers_with_a_row_per_image_and_a_column_per_model(client: FlaskClient):
    answer = client.post("/v2/models/ensemble/infer", json=texts(jpeg(0), jpeg(255)) | {"id": "42"})
    assert answer.get_json()["id"] == "42"
    assert (answer.get_json()["model_version"], answer.headers["ETag"]) == (IN_SERVICE, f'"{IN_SERVICE}"')
    tensors = outputs(answer)
    assert (tensors["label"]["shape"], tensors["label"]["parameters"]) == ([2, 2], {"models": "light.v1,people"})
    assert tensors["label"]["data"] == ["dark", "nothing", "bright", "person"]
    assert tensors["score"]["data"] == [0.8, 0.0, 0.8, 0.9]


def test_one_model_answers_with_one_label_per_image(client: FlaskClient):
    tensors = outputs(client.post(f"/v2/models/people/versions/{IN_SERVICE}/infer", json=texts(jpeg(0), jpeg(255))))
    assert (tensors["label"]["shape"], tensors["label"]["data"]) == ([2], ["nothing", "person"])


def test_images_come_in_binary_as_they_come_in_text(client: FlaskClient):
    images = [jpeg(0), jpeg(255), jpeg(10)]
    assert (
        post_binary(client, *images).get_json()
        == client.post("/v2/models/ensemble/infer", json=texts(*images)).get_json()
    )


def test_outputs_go_in_binary_when_that_is_asked_for(client: FlaskClient):
    wanted = [{"name": "score", "parameters": {"binary_data": True}}, {"name": "label"}]
    answer = post_binary(client, jpeg(0), jpeg(255), model="people", outputs=wanted)
    assert answer.content_type == "application/octet-stream"
    length = int(answer.headers[LENGTH])
    label, score = json.loads(answer.data[:length])["outputs"]
    assert label["data"] == ["nothing", "person"]
    assert (score["parameters"], "data" in score) == ({"binary_data_size": 8}, False)
    assert struct.unpack("<2f", answer.data[length:]) == pytest.approx((0.0, 0.9))


def test_all_outputs_go_in_binary_with_one_parameter(client: FlaskClient):
    answer = post_binary(client, jpeg(255), parameters={"binary_data_output": True})
    assert answer.data[int(answer.headers[LENGTH]) :] == packed(b"bright", b"person") + struct.pack("<2f", 0.8, 0.9)


def test_only_the_outputs_that_are_asked_for_come(client: FlaskClient):
    answer = client.post("/v2/models/ensemble/infer", json=texts(jpeg(0)) | {"outputs": [{"name": "label"}]})
    assert list(outputs(answer)) == ["label"]


def test_a_model_that_failed_is_an_error_alone_and_an_empty_label_in_the_ensemble(tmp_path: Path):
    client = make_app(tmp_path, HalfBlindEnsemble()).test_client()
    assert outputs(client.post("/v2/models/ensemble/infer", json=texts(jpeg(0))))["label"]["data"] == ["dark", ""]
    assert "people" in refused(client.post("/v2/models/people/infer", json=texts(jpeg(0))), 500)


def test_a_model_or_version_that_is_not_in_service_is_unknown(client: FlaskClient):
    assert "light.v1" in refused(client.get("/v2/models/liht"), 404)
    assert IN_SERVICE in refused(client.get("/v2/models/people/versions/1/ready"), 404)
    refused(client.post("/v2/models/people/versions/1/infer", json=texts(jpeg(0))), 404)
    refused(client.get("/v2/no/such/thing"), 404)
    refused(client.get("/v2/models/people/infer"), 405)


IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}


@pytest.mark.parametrize(
    ("content", "status", "why"),
    [
        ({}, 400, "inputs"),
        ({"inputs": []}, 400, "none"),
        ({"inputs": [IMAGE, IMAGE]}, 400, "exactly one"),
        ({"inputs": [IMAGE | {"name": "picture"}]}, 400, "`picture`"),
        ({"inputs": [IMAGE | {"datatype": "UINT8"}]}, 400, "BYTES"),
        ({"inputs": [IMAGE | {"shape": [2]}]}, 400, "shape"),
        ({"inputs": [IMAGE | {"shape": [-1]}]}, 400, "shape"),
        ({"inputs": [IMAGE | {"shape": []}]}, 400, "shape"),
        ({"inputs": [IMAGE | {"data": ["not base64!"]}]}, 400, "base64"),
        ({"inputs": [IMAGE | {"data": [7]}]}, 400, "base64"),
        ({"inputs": [IMAGE | {"data": [[[[["AAAA"]]]]]}]}, 400, "deep"),
        ({"inputs": [IMAGE | {"data": [], "shape": [0]}]}, 400, "no image"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}, 400, "no `data`"),
        ({"inputs": [IMAGE], "outputs": [{"name": "box"}]}, 400, "`box`"),
        ({"inputs": [IMAGE | {"data": ["AAAA"] * 5, "shape": [5]}]}, 413, "at most 4"),
        ({"inputs": [IMAGE]}, 422, "not an image"),
    ],
)
def test_a_request_that_is_not_of_the_protocol_is_refused_with_what_is_wrong(
    client: FlaskClient, content: dict[str, Any], status: int, why: str
):
    assert why in refused(client.post("/v2/models/ensemble/infer", json=content), status)


@pytest.mark.parametrize("length", ["-1", "x", "99999", "9" * 30, "²"])
def test_a_header_length_that_cannot_be_is_refused(client: FlaskClient, length: str):
    headers = {LENGTH: length, "Content-Type": "application/octet-stream"}
    refused(client.post("/v2/models/ensemble/infer", data=b"{}", headers=headers), 400)


@pytest.mark.parametrize("rest", [b"", b"\x01", b"\xff\xff\xff\xffabc", packed(b"a")[:-1], packed(b"a") + b"\0"])
def test_binary_data_that_ends_too_early_or_late_is_refused(client: FlaskClient, rest: bytes):
    given = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(rest)}}
    head = json.dumps({"inputs": [given]}).encode()
    headers = {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    refused(client.post("/v2/models/ensemble/infer", data=head + rest, headers=headers), 400)


@pytest.mark.parametrize("data", [b'{"inputs": ' + b"[" * 100_000, b'{"inputs": [], "id": "\xff"}'])
def test_json_that_cannot_be_read_is_refused(client: FlaskClient, data: bytes):
    headers = {"Content-Type": "application/json"}
    refused(client.post("/v2/models/ensemble/infer", data=data, headers=headers), 400)


def post_compressed(client: FlaskClient, data: bytes, coding: str, **headers: str) -> TestResponse:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding, **headers}
    return client.post("/v2/models/ensemble/infer", data=data, headers=headers)


REQUEST = json.dumps(texts(jpeg(9))).encode()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(REQUEST)),
        ("GZIP", gzip.compress(REQUEST[:50]) + gzip.compress(REQUEST[50:])),
        ("gzip", gzip.compress(REQUEST + b" " * 90_000, compresslevel=0)),
        ("deflate", zlib.compress(REQUEST)),
        ("identity", REQUEST),
    ],
    ids=["gzip", "gzip in two members", "gzip in two pieces", "deflate", "identity"],
)
def test_a_body_may_be_compressed(client: FlaskClient, coding: str, data: bytes):
    assert outputs(post_compressed(client, data, coding))["label"]["data"] == ["dark", "nothing"]


@pytest.mark.parametrize(
    ("coding", "data", "status", "why"),
    [
        ("br", REQUEST, 415, "Content-Encoding br"),
        ("gzip, gzip", gzip.compress(gzip.compress(REQUEST)), 415, "Content-Encoding gzip, gzip"),
        ("gzip", REQUEST, 400, "the body is not gzip"),
        ("gzip", gzip.compress(REQUEST)[:-9], 400, "ends before its gzip does"),
        ("gzip", gzip.compress(REQUEST) + b"more", 400, "the body is not gzip"),
        ("gzip", gzip.compress(REQUEST) + 100 * gzip.compress(b""), 400, "more than 100 members of gzip"),
        ("deflate", gzip.compress(REQUEST), 400, "the body is not deflate"),
    ],
)
def test_a_body_that_is_not_compressed_as_it_says_is_refused(
    client: FlaskClient, coding: str, data: bytes, status: int, why: str
):
    assert why in refused(post_compressed(client, data, coding), status)


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_body_that_grows_beyond_the_limit_is_refused_and_not_decompressed(
    tmp_path: Path, compress: Callable[[bytes], bytes]
):
    app = make_app(tmp_path, BrightnessEnsemble(), max_body_bytes=1_000_000)
    bomb = compress(b" " * 100_000_000)
    tracemalloc.start()
    coding = "gzip" if compress is gzip.compress else "deflate"
    why = refused(post_compressed(app.test_client(), bomb, coding), 413)
    assert "holds more than 1000000 bytes when it is decompressed" in why
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    runtime_of(app).store.close()


def test_a_compressed_body_counts_as_the_largest_that_it_may_become(tmp_path: Path):
    app = make_app(tmp_path, BrightnessEnsemble(), max_body_bytes=1_000_000)
    with ExitStack() as held:
        for client in range(4):
            held.enter_context(runtime_of(app).admission.receiving(f"other {client}", 900_000))
        assert app.test_client().post("/v2/models/ensemble/infer", data=REQUEST).status_code == 200
        refused(post_compressed(app.test_client(), gzip.compress(REQUEST), "gzip"), 503)
    runtime_of(app).store.close()


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip", "gzip"), ("deflate", "deflate"), ("gzip;q=0", None), ("br", None), ("gzip, deflate", "gzip")],
)
def test_an_answer_is_compressed_where_the_client_accepts_that(client: FlaskClient, accepted: str, coding: str | None):
    plain = post_compressed(client, REQUEST, "identity")
    answer = post_compressed(client, REQUEST, "identity", **{"Accept-Encoding": accepted})
    assert (answer.headers.get("Content-Encoding"), answer.vary.as_set()) == (coding, {"accept-encoding"})
    decompressed = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[coding](answer.data)
    assert (decompressed, plain.headers.get("Content-Encoding")) == (plain.data, None)


def test_the_repository_lists_the_ensemble_and_its_models(client: FlaskClient):
    listed = client.post("/v2/repository/index").get_json()
    assert [(each["name"], each["state"]) for each in listed] == [
        ("ensemble", "READY"),
        ("light.v1", "READY"),
        ("people", "READY"),
    ]
    assert {each["version"] for each in listed} == {IN_SERVICE}
    assert client.post("/v2/repository/index", json={"ready": True}).get_json() == listed
    refused(client.post("/v2/repository/index", json={"reday": True}), 400)


def test_a_large_body_of_a_request_for_the_repository_takes_its_client_s_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    app = make_app(tmp_path, BrightnessEnsemble(), max_body_bytes=1_000_000)
    monkeypatch.setattr(runtime_of(app).admission, "_received_within_s", 0.0)
    ask = app.test_client().post
    with ExitStack() as held:
        for client in range(4):
            held.enter_context(runtime_of(app).admission.receiving(f"other {client}", 1_000_000))
        refused(ask("/v2/repository/index", data=b"{}".ljust(60_000), content_type="application/json"), 503)
        refused(ask("/v2/repository/index", json={"ready": True}, headers={"Expect": "100-continue"}), 503)
        assert ask("/v2/repository/index", json={"ready": True}).status_code == 200
        assert ask("/v2/repository/index").status_code == 200
    runtime_of(app).store.close()


def test_a_configuration_has_the_tensors_of_the_metadata(client: FlaskClient):
    for model in ("ensemble", "people"):
        config = client.get(f"/v2/models/{model}/config").get_json()
        metadata = client.get(f"/v2/models/{model}/versions/{IN_SERVICE}").get_json()
        assert (config["name"], config["max_batch_size"]) == (model, 0)
        assert [(each["name"], each["dims"]) for each in config["input"] + config["output"]] == [
            (each["name"], each["shape"]) for each in metadata["inputs"] + metadata["outputs"]
        ]
    refused(client.get("/v2/models/no-such/config"), 404)


def test_the_statistics_count_images_requests_and_failures_by_model(client: FlaskClient):
    def counts(model: str) -> tuple[int, int, int, int]:
        [stats] = client.get(f"/v2/models/{model}/stats").get_json()["model_stats"]
        inference = stats["inference_stats"]
        assert (inference["success"]["ns"] > 0) == (inference["success"]["count"] > 0)
        assert (stats["last_inference"] > 0) == (inference["success"]["count"] > 0)
        return (
            stats["inference_count"],
            stats["execution_count"],
            *(inference[outcome]["count"] for outcome in ("success", "fail")),
        )

    assert counts("people") == (0, 0, 0, 0)
    post_binary(client, jpeg(1), jpeg(2), jpeg(3), model="people")
    post_binary(client, jpeg(1))
    refused(client.post("/v2/models/light.v1/infer", json=texts(b"no picture")), 422)
    assert counts("people") == (4, 2, 2, 0)
    assert counts("light.v1") == (1, 1, 1, 1)
    assert counts("ensemble") == (1, 1, 1, 0)
    listed = client.get("/v2/models/stats").get_json()["model_stats"]
    assert [stats["name"] for stats in listed] == ["ensemble", "light.v1", "people"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"parameters": {"priority": 1}}, "the request has the parameter `priority`"),
        ({"parameters": {"sequence_id": 7, "sequence_start": True}}, "`sequence_id`"),
        ({"parameters": {"timeuot": 5}}, "did you mean `timeout`?"),
        ({"parameters": {"binary_data_output": "yes"}}, "`binary_data_output` of the request is true or false"),
        ({"inputs": [IMAGE | {"parameters": {"shared_memory_region": "r"}}]}, "the input `image` has the parameter"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 3}}]}, "the output `label` has the parameter"),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, "`binary_data` of the output `label`"),
        ({"ouputs": []}, "unknown field `ouputs`"),
        ({"inputs": [IMAGE | {"dtype": "BYTES"}]}, "unknown field `dtype`"),
    ],
)
def test_what_a_request_says_and_this_server_does_not_heed_is_refused(
    client: FlaskClient, content: dict[str, Any], why: str
):
    assert why in refused(client.post("/v2/models/ensemble/infer", json={"inputs": [IMAGE]} | content), 400)


def test_another_media_type_is_refused(client: FlaskClient):
    refused(client.post("/v2/models/ensemble/infer", data={"file": "x"}), 415)


def test_a_request_without_a_media_type_is_taken_since_triton_s_client_names_none(client: FlaskClient):
    data = packed(jpeg(10), jpeg(200))
    given = {"name": "image", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [given]}).encode()
    answer = client.post("/v2/models/ensemble/infer", data=head + data, headers={LENGTH: str(len(head))})
    assert outputs(answer)["label"]["shape"] == outputs(post_binary(client, jpeg(10), jpeg(200)))["label"]["shape"]


def test_a_client_may_insist_on_an_ensemble(client: FlaskClient):
    headers = {"If-Match": '"' + "d" * 64 + '"'}
    refused(client.post("/v2/models/ensemble/infer", json=texts(jpeg(0)), headers=headers), 412)


def test_overload_is_told_with_when_to_come_back(app: Flask, client: FlaskClient):
    runtime_of(app).admission.close()
    answer = client.post("/v2/models/ensemble/infer", json=texts(jpeg(0)))
    refused(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0


def test_health_is_for_all_and_the_models_are_for_readers(app: Flask, client: FlaskClient):
    made = new_token()
    runtime_of(app).store.add_token(made.id, "camera", "north-yard", "gate", made.hash)
    assert client.get("/v2/health/ready").status_code == 200
    refused(client.get("/v2/models/ensemble"), 401)
    headers = {"Authorization": f"Bearer {made.token}"}
    refused(client.post("/v2/models/ensemble/infer", json=texts(jpeg(0)), headers=headers), 403)


def test_one_model_is_asked_alone_and_the_ensemble_as_a_whole_within_the_client_s_time(tmp_path: Path):
    ensemble = WishingEnsemble()
    app = make_app(tmp_path, ensemble)
    client, patient = app.test_client(), {"parameters": {"timeout": 1_500_000}}
    outputs(client.post("/v2/models/people/infer", json=texts(jpeg(1)) | patient))
    outputs(client.post("/v2/models/ensemble/infer", json=texts(jpeg(1)) | {"parameters": {"timeout": 0}}))
    outputs(client.post("/v2/models/ensemble/infer", json=texts(jpeg(1))))
    assert ensemble.wishes == [("people", 1.5), (None, None), (None, None)]
    runtime_of(app).store.close()


@pytest.mark.parametrize("timeout", ["soon", -1, 1.5, True, [1], 10**400])
def test_a_timeout_that_is_no_number_of_microseconds_is_refused(client: FlaskClient, timeout: object):
    asked = texts(jpeg(1)) | {"parameters": {"timeout": timeout}}
    assert "microseconds" in refused(client.post("/v2/models/ensemble/infer", json=asked), 400)


@pytest.mark.parametrize("values", [["[]"] * 20_000, ["9223372036854775807"] * 20_000])
@pytest.mark.parametrize("member", ["data", "shape"])
def test_json_of_more_values_than_any_request_needs_is_refused_before_it_is_read(
    client: FlaskClient, member: str, values: list[str]
):
    request = json.dumps(texts(jpeg(0)) | {"more": [0]}).replace('"more": [0]', f'"{member}": [{",".join(values)}]')
    answer = client.post("/v2/models/ensemble/infer", data=request, content_type="application/json")
    assert "at most 10000 values" in refused(answer, 413)


def test_a_shape_of_many_dimensions_is_refused_and_not_multiplied(client: FlaskClient):
    request = texts(jpeg(0))
    request["inputs"][0]["shape"] = [2**62] * 5
    answer = client.post("/v2/models/ensemble/infer", json=request)
    assert "length <= 4" in refused(answer, 400)


@pytest.mark.parametrize("key", ["name", "datatype"])
def test_what_is_refused_is_not_told_back_at_any_length(client: FlaskClient, key: str):
    request = texts(jpeg(0))
    request["inputs"][0][key] = "x" * 100_000
    assert len(refused(client.post("/v2/models/ensemble/infer", json=request), 400)) < 300


def test_of_many_images_no_more_are_taken_apart_than_are_taken(client: FlaskClient):
    assert "at most 4" in refused(post_binary(client, *[b""] * 5), 413)


def test_a_late_request_of_the_version_before_forgets_no_counts() -> None:
    statistics = Statistics()
    for version in ("old", "new", "old", "new"):
        statistics.answered(["people"], version, 1, total_ns=10, infer_ns=5)
    assert statistics.described("people", "new")["execution_count"] == 2
    statistics.answered(["people"], "newest", 1, total_ns=10, infer_ns=5)
    assert statistics.described("people", "old")["execution_count"] == 0
    assert statistics.described("people", "new")["execution_count"] == 2
