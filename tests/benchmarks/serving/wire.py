"""FlexServe's `/batch`, as every server here is asked."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence

Labels = dict[str, list[str]]
"""Model -> one class per frame: FlexServe's form."""


class Client:
    """One kept connection. Raises RuntimeError for any answer but 200."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def __call__(self, burst: Sequence[bytes]) -> Labels:
        body, content_type = multipart(burst)
        self._connection.request("POST", "/batch", body, {"Content-Type": content_type})
        answer = self._connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {told[:200]!r}")
        labels: Labels = json.loads(told)
        return labels


def multipart(images: Sequence[bytes]) -> tuple[bytes, str]:
    """The body, and its content type."""
    parts = [
        b'--frame\r\nContent-Disposition: form-data; name="file"; filename="f.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + image + b"\r\n"
        for image in images
    ]
    return b"".join([*parts, b"--frame--\r\n"]), "multipart/form-data; boundary=frame"
