"""Multipart request bodies, limited before and while they are read, and held in memory.

The limits apply in this order: admission (`server.web.admission`: uploads and bytes in work at once), the declared
length, then parts and bytes while parsing. Nothing is written to disk. A client that is refused before its body was
read can still read the answer (`server.hosting.lingering_close`).
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BufferedReader, BytesIO

from flask import request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser

from server.domain.errors import Malformed, TooLarge, Unprocessable, WrongType

_MAX_ENVELOPE_BYTES = 1024 * 1024
_UNKNOWN_PARTS = 16
"""Unknown form fields that a client may add to a body before it is refused."""
_READ_BYTES = 1 << 18
"""Read from the server at once: it copies all that remains of what it has received, each time."""
_PARSE_BYTES = 1 << 14
"""Passed to the parser at once: it searches for a boundary's end from the start of such a piece, byte by byte."""

Fields = MultiDict[str, str]
Files = MultiDict[str, FileStorage]


@dataclass(frozen=True, slots=True)
class Upload:
    """The parts of a body: `envelope` is the part `burst` if there is one, `files` are the parts `file` in order."""

    envelope: bytes | None
    files: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one body may hold."""

    body_bytes: int
    frames: int


def read_upload(bounds: Bounds) -> Upload:
    """The current body. Raises WrongType, TooLarge, Malformed, or Unprocessable if it has no part `file`."""
    declared = request.content_length
    if declared is not None and declared > bounds.body_bytes:
        raise TooLarge(f"the body holds {declared} bytes; this server takes at most {bounds.body_bytes}")
    if request.mimetype != "multipart/form-data":
        raise WrongType(f"expected multipart/form-data, not {request.mimetype or 'a body without a type'}")
    fields, parts = _parsed(bounds)
    files = parts.getlist("file")
    if not files:
        raise _no_file(fields, parts)
    if len(files) > bounds.frames:
        raise TooLarge(f"{len(files)} frames came; this server takes at most {bounds.frames}", frame=bounds.frames)
    return Upload(_envelope(fields, parts), tuple(_bytes(file) for file in files))


def _parsed(bounds: Bounds) -> tuple[Fields, Files]:
    parser = MultiPartParser(
        lambda *_about, **_more: BytesIO(),
        max_form_memory_size=_MAX_ENVELOPE_BYTES,
        max_form_parts=2 * bounds.frames + _UNKNOWN_PARTS,
        buffer_size=_PARSE_BYTES,
    )
    try:
        boundary = request.mimetype_params.get("boundary", "").encode("ascii")
        if not boundary:
            raise ValueError("its Content-Type names no boundary")
        stream = BufferedReader(request.stream, _READ_BYTES)  # type: ignore[type-var]  # werkzeug's is a raw stream
        return parser.parse(stream, boundary, request.content_length)
    except RequestEntityTooLarge:
        raise TooLarge(
            f"more than {bounds.body_bytes} bytes, {bounds.frames} frames or {_MAX_ENVELOPE_BYTES} bytes in a field"
        ) from None
    except ClientDisconnected:
        raise Malformed("the body ended before its declared length") from None
    except ValueError as error:
        raise Malformed(f"the body is not multipart/form-data (RFC 7578): {error}") from None


def _envelope(fields: Fields, parts: Files) -> bytes | None:
    envelopes = [*map(str.encode, fields.getlist("burst")), *map(_bytes, parts.getlist("burst"))]
    if len(envelopes) > 1:
        raise Malformed(f"{len(envelopes)} parts `burst` came; exactly one is expected")
    if envelopes and len(envelopes[0]) > _MAX_ENVELOPE_BYTES:
        raise TooLarge(f"the part `burst` holds more than {_MAX_ENVELOPE_BYTES} bytes")
    return envelopes[0] if envelopes else None


def _no_file(fields: Fields, parts: Files) -> Malformed | Unprocessable:
    if "file" in fields:
        return Malformed("the part `file` has no filename, so it is a text field and its bytes are lost")
    names = ", ".join(f"`{name}`" for name in sorted({*parts, *fields}))
    return Unprocessable(f"no part `file` came{f', only {names}' if names else ''}")


def _bytes(part: FileStorage) -> bytes:
    stream = part.stream
    return stream.getvalue() if isinstance(stream, BytesIO) else stream.read()
