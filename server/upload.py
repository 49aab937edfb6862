"""A multipart body, bounded before and while it is read, held in memory: all that intake and FlexServe share.

Order of the bounds: admission (how many uploads at once), the declared length, then parts and bytes while
parsing. Nothing is spooled to disk, so the memory of all uploads together is `admission_limit` times
`max_body_bytes` at the very most.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import IO

from flask import Flask, Request, request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge
from werkzeug.formparser import FormDataParser

from server.errors import Later, Malformed, TooLarge, Unusable, WrongType

_ENVELOPE_BYTES = 1024 * 1024
_STRAY_PARTS = 16
"""Form fields we do not know that a client may add to a body before it is refused."""

_DRAIN_BYTES = 4 * 1024 * 1024


class Admission:
    """At most `limit` uploads in work at once; the next one is told to come back rather than left waiting.

    Safe to use from any number of threads. `close` refuses everything from then on (draining).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Holds one place for the length of the `with` block. Raises Later when there is none."""
        with self._lock:
            if self._closed:
                raise Later("this server is stopping", retry_after_s=10)
            if self._inside >= self._limit:
                raise Later(f"{self._inside} uploads are in work already", retry_after_s=1)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1

    def close(self) -> None:
        with self._lock:
            self._closed = True


@dataclass(frozen=True, slots=True)
class Upload:
    """The parts that came: `envelope` is the part `burst` if there was one, `files` the parts `file` in order."""

    envelope: bytes | None
    files: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one body may hold."""

    body_bytes: int
    frames: int


class UploadRequest(Request):
    """Flask's request, but a broken multipart body is an error, and parts stay in memory."""

    def make_form_data_parser(self) -> FormDataParser:
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return BytesIO()


def install(app: Flask, bounds: Bounds) -> None:
    """Make `app` read bodies within `bounds` only."""
    app.request_class = UploadRequest
    app.config["MAX_CONTENT_LENGTH"] = bounds.body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = _ENVELOPE_BYTES
    app.config["MAX_FORM_PARTS"] = 2 * bounds.frames + _STRAY_PARTS


def read_upload(bounds: Bounds) -> Upload:
    """The current body. Raises WrongType, TooLarge, Malformed, or Unusable if no part `file` came."""
    declared = request.content_length
    if declared is not None and declared > bounds.body_bytes:
        _drain()
        raise TooLarge(f"the body holds {declared} bytes; this server takes at most {bounds.body_bytes}")
    if request.mimetype != "multipart/form-data":
        raise WrongType(f"expected multipart/form-data, not {request.mimetype or 'a body without a type'}")
    _parse(bounds)
    files = request.files.getlist("file")
    if not files:
        raise _no_file()
    if len(files) > bounds.frames:
        raise TooLarge(f"{len(files)} frames came; this server takes at most {bounds.frames}", frame=bounds.frames)
    return Upload(_envelope(), tuple(_bytes(file) for file in files))


def _parse(bounds: Bounds) -> None:
    try:
        _ = request.files
    except RequestEntityTooLarge:
        _drain()
        raise TooLarge(
            f"more than {bounds.body_bytes} bytes, {bounds.frames} frames or {_ENVELOPE_BYTES} bytes in a field"
        ) from None
    except ClientDisconnected:
        raise Malformed("the body ended before its declared length") from None
    except HTTPException:
        raise
    except ValueError as error:
        raise Malformed(f"the body is not multipart/form-data as RFC 7578 has it: {error}") from None


def _envelope() -> bytes | None:
    fields = [text.encode() for text in request.form.getlist("burst")]
    fields += [_bytes(file) for file in request.files.getlist("burst")]
    if len(fields) > 1:
        raise Malformed(f"{len(fields)} parts `burst` came; exactly one is expected")
    if fields and len(fields[0]) > _ENVELOPE_BYTES:
        raise TooLarge(f"the part `burst` holds more than {_ENVELOPE_BYTES} bytes")
    return fields[0] if fields else None


def _no_file() -> Malformed | Unusable:
    if "file" in request.form:
        return Malformed("the part `file` has no filename, so it is a text field and its bytes are lost")
    named = ", ".join(f"`{name}`" for name in sorted({*request.files, *request.form}))
    return Unusable(f"no part `file` came{f', only {named}' if named else ''}")


def _bytes(part: FileStorage) -> bytes:
    stream = part.stream
    return stream.getvalue() if isinstance(stream, BytesIO) else stream.read()


def _drain() -> None:
    """Read on for a while and throw away: a client still sending would see a reset instead of our answer."""
    stream = request.environ["wsgi.input"]
    left = min(request.content_length or _DRAIN_BYTES, _DRAIN_BYTES)
    while left > 0 and (block := stream.read(min(left, 65536))):
        left -= len(block)
