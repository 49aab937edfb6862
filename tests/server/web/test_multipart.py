"""A body has the same parts wherever the pieces end in which it is parsed."""

from __future__ import annotations

import pytest
from flask import Flask

from server.web import multipart
from server.web.multipart import Bounds, Upload, read_upload

FILES = (b"\xff\xd8ends like a line\r", b"\n\r\n--", b"x" * 90 + b"\r\n--edge of a frame-", b"\xff\xd8 \xff\xd9")


def body_with(padding: bytes) -> bytes:
    """FILES as multipart/form-data; `padding` follows each boundary (RFC 2046, section 5.1.1)."""
    begin = b"--edge of a burst" + padding + b"\r\nContent-Disposition: form-data; "
    envelope = begin + b'name="burst"\r\n\r\n{"some": "json"}\r\n'
    parts = b"".join(begin + b'name="file"; filename="a.jpg"\r\n\r\n' + file + b"\r\n" for file in FILES)
    return envelope + parts + b"--edge of a burst--" + padding + b"\r\n"


@pytest.mark.parametrize("padding", [b"", b" ", b" \t  "])
def test_a_boundary_is_found_wherever_a_piece_ends(padding: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    app, body = Flask("upload"), body_with(padding)
    for piece_bytes in range(1, len(body) + 1):
        monkeypatch.setattr(multipart, "_PARSE_BYTES", piece_bytes)
        content_type = 'multipart/form-data; boundary="edge of a burst"'
        with app.test_request_context("/", method="POST", data=body, content_type=content_type):
            upload = read_upload(Bounds(body_bytes=100_000, frames=10))
        assert upload == Upload(b'{"some": "json"}', FILES), f"pieces of {piece_bytes} bytes"
