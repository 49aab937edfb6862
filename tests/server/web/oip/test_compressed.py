"""Compressed bodies and answers of the Open Inference Protocol."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.app import runtime_of
from tests.server.web.oip.oip_requests import outputs, refused, texts
from tests.server.web_client import BrightnessEnsemble, jpeg, make_app


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
