"""What is not of the Open Inference Protocol, or too much, is refused with what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from server.web.oip_v2.statistics import Statistics
from tests.server.web.oip.oip_requests import IN_SERVICE, LENGTH, outputs, packed, post_binary, refused, texts
from tests.server.web_client import jpeg


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
