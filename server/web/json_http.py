"""Answers, bounded JSON bodies and query parameters, for all endpoints alike."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_args

import msgspec
from flask import Response, request

from policies.site.toml_errors import suggest
from server.domain.errors import Malformed, TooLarge, WrongType

JSON = "application/json"
MAX_BODY_BYTES = 65_536

Content = TypeVar("Content")
Query = TypeVar("Query", bound=msgspec.Struct)


def json_response(value: object, status: int = 200) -> Response:
    """`value`, of any type that msgspec encodes, as a JSON answer."""
    return Response(msgspec.json.encode(value), status, content_type=JSON)


_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content codings -> what zlib calls them."""
_MOST_MEMBERS = 100
_PIECE_BYTES = 1 << 16
"""zlib copies what follows a member, so it is given no more than this at once."""


def content_coding() -> str:
    """How the current request's body is compressed; empty if it is not."""
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    return "" if coding == "identity" else coding


def whole_body(most_bytes: int) -> bytes:
    """The current request's body, decompressed if it is compressed by gzip or deflate.

    Raises WrongType for another compression, Malformed for a body that is not compressed as it says, TooLarge for one
    that has more than `most_bytes` when it is decompressed; no more than that is ever decompressed.
    """
    coding = content_coding()
    if not coding:
        return request.get_data(cache=False)
    if coding not in _WINDOWS:
        raise WrongType(
            f"the body is compressed (Content-Encoding {coding[:40]}): send it as it is, in gzip or deflate"
        )
    return _decompressed(request.get_data(cache=False), coding, most_bytes)


def _decompressed(content: bytes, coding: str, most_bytes: int) -> bytes:
    body, place, members = bytearray(), 0, 0
    is_whole = True
    while place < len(content):
        if is_whole:  # gzip may have several members
            reader, members = zlib.decompressobj(_WINDOWS[coding]), members + 1
        if members > _MOST_MEMBERS:
            raise Malformed(f"the body has more than {_MOST_MEMBERS} members of {coding}")
        piece = memoryview(content)[place : place + _PIECE_BYTES]
        try:
            body += reader.decompress(piece, most_bytes + 1 - len(body))
        except zlib.error as error:
            raise Malformed(f"the body is not {coding}, as its Content-Encoding says: {error}") from None
        if len(body) > most_bytes:
            raise TooLarge(f"the body holds more than {most_bytes} bytes when it is decompressed")
        place += len(piece) - len(reader.unused_data)
        is_whole = reader.eof
    if not is_whole:
        raise Malformed(f"the body ends before its {coding} does")
    return bytes(body)


def compressed(answer: Response) -> Response:
    """The answer, in gzip or deflate where the client accepts one of them."""
    answer.vary.add("Accept-Encoding")
    accepted = request.accept_encodings
    coding = accepted.best_match(("identity", "gzip", "deflate")) if accepted else None
    if coding in ("gzip", "deflate") and accepted[coding] > 0:
        writer = zlib.compressobj(wbits=_WINDOWS[coding])
        answer.set_data(writer.compress(answer.get_data()) + writer.flush())
        answer.headers["Content-Encoding"] = coding
    return answer


def refuse_compressed_body() -> None:
    """Raises WrongType for a request whose body is not sent as it is."""
    if coding := content_coding():
        raise WrongType(f"the body is compressed (Content-Encoding {coding}): send it as it is")


def declared_bytes() -> int | None:
    """The length of the current request's body; None where it is unknown, or the client sends it only when asked."""
    return None if "Expect" in request.headers else request.content_length


def json_body(subject: str) -> bytes:
    """The current request's body, which is `subject` ("a heartbeat").

    Raises WrongType unless it is declared as JSON and not compressed, TooLarge above MAX_BODY_BYTES. The media type
    also keeps web pages in a browser on this machine from sending a plain form.
    """
    if request.mimetype != JSON:
        raise WrongType(f"expected {JSON}, not {request.mimetype or 'a body without a type'}")
    refuse_compressed_body()
    body = bytearray()
    if (request.content_length or 0) <= MAX_BODY_BYTES:
        while piece := request.stream.read(MAX_BODY_BYTES + 1 - len(body)):  # a chunked body declares no length
            body += piece
        if len(body) <= MAX_BODY_BYTES:
            return bytes(body)
    raise TooLarge(f"{subject} holds at most {MAX_BODY_BYTES} bytes")


def json_or_nothing(decoder: msgspec.json.Decoder[Content], subject: str) -> Content | None:
    """The current request's body; None without a body. Raises TooLarge, Malformed, WrongType."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise TooLarge(f"{subject} holds at most {MAX_BODY_BYTES} bytes")
    body = whole_body(MAX_BODY_BYTES) if request.content_length else b""
    return decoded(body, decoder, subject) if body.strip() else None


def decoded(body: bytes, decoder: msgspec.json.Decoder[Content], subject: str) -> Content:
    """The JSON in `body`. Raises Malformed, which calls it `subject` ("a heartbeat")."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not {subject}: {error}") from None


def query_parameters(kind: type[Query], hint: str = "") -> Query:
    """The current request's query parameters as `kind`; an empty value counts as absent.

    The module of `kind` makes it `ready`. Raises Malformed for an unknown or repeated parameter, and for a value that
    does not fit; `hint` is added then.
    """
    types = _types(kind)
    values: dict[str, str | int] = {}
    for name, given in request.args.to_dict(flat=False).items():
        if name not in types:
            raise Malformed(f"unknown parameter `{name}`{suggest(name, types)}")
        if len(given) > 1:
            raise Malformed(f"parameter `{name}` is given {len(given)} times")
        if given[0]:
            values[name] = _number(given[0]) if _takes_int(types[name]) else given[0]
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise Malformed(f"{error}{hint}") from None


@cache
def _types(kind: type[msgspec.Struct]) -> Mapping[str, Any]:
    """The parameters of a query, by their names. Each request would take them from the annotations anew."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def _takes_int(kind: Any) -> bool:
    """Whether a type is `int`, or has it in a union or an annotation."""
    return kind is int or any(map(_takes_int, get_args(kind)))


def _number(value: str) -> str | int:
    """Only a parameter that is a number is read as one: `since=2026` would be an instant of 1970."""
    return int(value) if value.isascii() and value.isdigit() else value
