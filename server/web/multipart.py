"""Multipart request bodies, limited before and while they are read, and held in memory.

The limits apply in this order: admission (`server.web.admission`: uploads and bytes in work at once), the declared
length, then parts and bytes while parsing. Nothing is written to disk. A client that is refused before its body was
read can still read the answer (`server.hosting.lingering_close`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BufferedReader, BytesIO

from flask import request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from server.domain.errors import Malformed, TooLarge, Unprocessable, WrongType
from server.web.json_http import refuse_compressed_body

_MAX_ENVELOPE_BYTES = 1024 * 1024
_UNKNOWN_PARTS = 16
"""Unknown form fields that a client may add to a body before it is refused."""
_READ_BYTES = 1 << 18
"""Read from the server at once: it copies all that remains of what it has received, each time."""
_PARSE_BYTES = 1 << 14
"""Passed to the parser at once: it searches for a boundary's end from the start of such a piece, byte by byte."""

_PLAIN = frozenset({"", "7bit", "8bit", "binary"})
"""Transfer encodings of a part that leave its bytes as they are."""


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


@dataclass(slots=True)
class _Part:
    """`has_filename` tells a file from a text field. `encoding` is its transfer encoding."""

    name: str
    has_filename: bool
    encoding: str
    body: BytesIO = field(default_factory=BytesIO)


def read_upload(bounds: Bounds) -> Upload:
    """The current body. Raises WrongType, TooLarge, Malformed, or Unprocessable if it has no part `file`."""
    declared = request.content_length
    if declared is not None and declared > bounds.body_bytes:
        raise TooLarge(f"the body holds {declared} bytes; this server takes at most {bounds.body_bytes}")
    if request.mimetype != "multipart/form-data":
        raise WrongType(f"expected multipart/form-data, not {request.mimetype or 'a body without a type'}")
    refuse_compressed_body()
    parts = _parsed(bounds)
    files = [part for part in parts if part.name == "file" and part.has_filename]
    if not files:
        raise _no_file(parts)
    if len(files) > bounds.frames:
        raise TooLarge(f"{len(files)} frames came; this server takes at most {bounds.frames}", frame=bounds.frames)
    for index, file in enumerate(files):
        if file.encoding not in _PLAIN:
            raise WrongType(f"a part `file` is encoded as {file.encoding}: send its bytes as they are", frame=index)
    return Upload(_envelope(parts), tuple(file.body.getvalue() for file in files))


class _Decoder(MultipartDecoder):
    """werkzeug's decoder, with two of its faults mended."""

    def _last_partial_boundary_index(self, data: bytes | bytearray) -> int:
        """Where a boundary begins that may go on in the next piece: with the line break before it.

        werkzeug's (3.1.9) takes the CR for data where a piece ends between the last two dashes, in one body of 16,384.
        """
        at = data.rfind(b"--" + self.boundary)
        if at < 0 or data[at + 2 + len(self.boundary) :].strip(b"- \t"):
            return super()._last_partial_boundary_index(data)
        line = data[:at]
        return len(line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line.removesuffix(b"\r"))

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        """Also where they are not UTF-8: old Windows clients send file names as they are."""
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode("latin-1").encode()
        return super()._parse_headers(data)


def _parsed(bounds: Bounds) -> list[_Part]:
    try:
        boundary = request.mimetype_params.get("boundary", "").encode("ascii")
        if not boundary:
            raise ValueError("its Content-Type names no boundary")
        most_parts = 2 * bounds.frames + _UNKNOWN_PARTS
        return _parts(_Decoder(boundary, _MAX_ENVELOPE_BYTES, max_parts=most_parts))
    except RequestEntityTooLarge:
        raise TooLarge(
            f"more than {bounds.body_bytes} bytes, {bounds.frames} frames or {_MAX_ENVELOPE_BYTES} bytes in a field"
        ) from None
    except ValueError as error:
        raise Malformed(f"the body is not multipart/form-data (RFC 7578): {error}") from None


def _parts(decoder: MultipartDecoder) -> list[_Part]:
    """The parts of the current body. Raises what werkzeug raises."""
    parts: list[_Part] = []
    stream = BufferedReader(request.stream, _READ_BYTES)  # type: ignore[type-var]  # werkzeug's is a raw stream
    while True:
        decoder.receive_data(stream.read(_PARSE_BYTES) or None)
        while not isinstance(event := decoder.next_event(), NeedData):
            if isinstance(event, Epilogue):
                return parts
            if isinstance(event, Field | File):
                encoding = event.headers.get("content-transfer-encoding", "").lower()
                parts.append(_Part(event.name or "", isinstance(event, File), encoding))
            elif isinstance(event, Data):
                size_bytes = parts[-1].body.tell() + parts[-1].body.write(event.data)
                if size_bytes > _MAX_ENVELOPE_BYTES and not parts[-1].has_filename:
                    raise RequestEntityTooLarge


def _envelope(parts: Sequence[_Part]) -> bytes | None:
    envelopes = [part.body.getvalue() for part in parts if part.name == "burst"]
    if len(envelopes) > 1:
        raise Malformed(f"{len(envelopes)} parts `burst` came; exactly one is expected")
    if envelopes and len(envelopes[0]) > _MAX_ENVELOPE_BYTES:
        raise TooLarge(f"the part `burst` holds more than {_MAX_ENVELOPE_BYTES} bytes")
    return envelopes[0] if envelopes else None


def _no_file(parts: Sequence[_Part]) -> Malformed | Unprocessable:
    names = sorted({part.name for part in parts})
    if "file" in names:
        return Malformed("the part `file` has no filename, so it is a text field and not a picture")
    shown = ", ".join(f"`{name}`" for name in names)
    return Unprocessable(f"no part `file` came{f', only {shown}' if shown else ''}")
