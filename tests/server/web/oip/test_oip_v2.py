"""The Open Inference Protocol (V2) as Triton's client speaks it."""

from __future__ import annotations

import json
import struct
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from server.app import runtime_of
from server.web.auth import new_token
from tests.server.web.oip.oip_requests import IN_SERVICE, LENGTH, outputs, packed, post_binary, refused, texts
from tests.server.web_client import BrightnessEnsemble, jpeg, make_app


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
