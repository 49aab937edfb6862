"""Requests of the Open Inference Protocol, for its tests."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

LENGTH = "Inference-Header-Content-Length"
IN_SERVICE = "e" * 64


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
