"""Types of columns for ids: text in Python, sixteen bytes in the database, in the order of the text.

An id of another form stays text, after a NUL byte. No id contains one.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import LargeBinary
from sqlalchemy.types import TypeDecorator

_BYTES = 16


def hex_to_bytes(text: str) -> bytes:
    """The bytes of 32 lower-case hexadecimal digits, or of another text."""
    return _packed(text, text)


def uuid_to_bytes(text: str) -> bytes:
    """The bytes of a UUID as agents write it, or of another text."""
    return _packed(text, text.replace("-", "") if len(text) == 36 else "")


def hex_of(raw: bytes) -> str:
    """What `hex_to_bytes` packed."""
    return raw.hex() if len(raw) == _BYTES else _text(raw)


def uuid_of(raw: bytes) -> str:
    """What `uuid_to_bytes` packed."""
    return _dashed(raw.hex()) if len(raw) == _BYTES else _text(raw)


class EventId(TypeDecorator[str]):
    """The id of an event or of another fact."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        return None if value is None else hex_to_bytes(value)

    def process_result_value(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else hex_of(bytes(value))


class BurstId(TypeDecorator[str]):
    """The id of a burst."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        return None if value is None else uuid_to_bytes(value)

    def process_result_value(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else uuid_of(bytes(value))


def _packed(text: str, digits: str) -> bytes:
    if len(digits) == 2 * _BYTES:
        try:
            raw = bytes.fromhex(digits)
        except ValueError:
            raw = b""
        if raw.hex() == digits and text in (digits, _dashed(digits)):
            return raw
    other = b"\0" + text.encode()
    return other if len(other) != _BYTES else other + b"\0"


def _text(raw: bytes) -> str:
    return raw.strip(b"\0").decode()


def _dashed(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
