"""A multipart body, bounded before and while it is read, held in memory: all that intake and FlexServe share.

Order of the bounds: admission (how many uploads at once and how many bytes together; `server.web.admission`), the
declared length, then parts and bytes while parsing. Nothing is spooled to disk. Whoever is refused before the body was
read gets to read the answer all the same (`server.hosting.lingering_close`).
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedReader, BytesIO

from flask import Flask, Response, request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.formparser import MultiPartParser

from server.domain.errors import Malformed, TooLarge, Unprocessable, WrongType

LEAVE = "sectorwatch.leave"
"""Key of the WSGI environment. Its value is called before the answer is sent, with whether some of the request may be
unread; what it returns is called after the answer.
"""

_ENVELOPE_BYTES = 1024 * 1024
_STRAY_PARTS = 16
"""Form fields we do not know that a client may add to a body before it is refused."""
_READ_BYTES = 1 << 18
"""Taken from the server at once: it copies all that is left of what it has received, each time."""
_SEARCHED_BYTES = 1 << 14
"""Given to the parser at once: it looks for a boundary's end from the start of such a piece, byte by byte."""

Fields = MultiDict[str, str]
Files = MultiDict[str, FileStorage]


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


def install(app: Flask, bounds: Bounds) -> None:
    """Make `app` read bodies within `bounds` only."""
    app.config["MAX_CONTENT_LENGTH"] = bounds.body_bytes

    @app.after_request
    def part_politely(response: Response) -> Response:
        leave = request.environ.get(LEAVE)
        if leave is not None:
            response.call_on_close(leave(response.status_code >= HTTPStatus.BAD_REQUEST and _is_unread()))
        return response


def read_upload(bounds: Bounds) -> Upload:
    """The current body. Raises WrongType, TooLarge, Malformed, or Unprocessable if no part `file` came."""
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


def _is_unread() -> bool:
    """Whether the client may still be sending. A chunked body has no length, so one may think so too often."""
    length = request.content_length
    if length is None:
        return "Transfer-Encoding" in request.headers
    stream = vars(request).get("stream")  # there once somebody has begun to read
    return (0 if stream is None else stream.tell()) < length


def _parsed(bounds: Bounds) -> tuple[Fields, Files]:
    parser = MultiPartParser(
        lambda *_about, **_more: BytesIO(),
        max_form_memory_size=_ENVELOPE_BYTES,
        max_form_parts=2 * bounds.frames + _STRAY_PARTS,
        buffer_size=_SEARCHED_BYTES,
    )
    try:
        boundary = request.mimetype_params.get("boundary", "").encode("ascii")
        if not boundary:
            raise ValueError("its Content-Type names no boundary")
        stream = BufferedReader(request.stream, _READ_BYTES)  # type: ignore[type-var]  # werkzeug's is a raw stream
        return parser.parse(stream, boundary, request.content_length)
    except RequestEntityTooLarge:
        raise TooLarge(
            f"more than {bounds.body_bytes} bytes, {bounds.frames} frames or {_ENVELOPE_BYTES} bytes in a field"
        ) from None
    except ClientDisconnected:
        raise Malformed("the body ended before its declared length") from None
    except ValueError as error:
        raise Malformed(f"the body is not multipart/form-data as RFC 7578 has it: {error}") from None


def _envelope(fields: Fields, parts: Files) -> bytes | None:
    came = [text.encode() for text in fields.getlist("burst")]
    came += [_bytes(part) for part in parts.getlist("burst")]
    if len(came) > 1:
        raise Malformed(f"{len(came)} parts `burst` came; exactly one is expected")
    if came and len(came[0]) > _ENVELOPE_BYTES:
        raise TooLarge(f"the part `burst` holds more than {_ENVELOPE_BYTES} bytes")
    return came[0] if came else None


def _no_file(fields: Fields, parts: Files) -> Malformed | Unprocessable:
    if "file" in fields:
        return Malformed("the part `file` has no filename, so it is a text field and its bytes are lost")
    named = ", ".join(f"`{name}`" for name in sorted({*parts, *fields}))
    return Unprocessable(f"no part `file` came{f', only {named}' if named else ''}")


def _bytes(part: FileStorage) -> bytes:
    stream = part.stream
    return stream.getvalue() if isinstance(stream, BytesIO) else stream.read()
