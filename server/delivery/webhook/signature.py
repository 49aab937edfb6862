"""Signatures of requests, as Standard Webhooks has them: https://www.standardwebhooks.com, version 1 (HMAC-SHA256)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"
_LEAST_BYTES, _MOST_BYTES = 24, 64


def read_key(secret: str) -> bytes:
    """The key in a secret: 24 to 64 bytes in base64, with or without `whsec_` before them. Raises ValueError."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError("a key is 24 to 64 random bytes in base64: make one with `openssl rand -base64 32`")
    return key


def signed(keys: Sequence[bytes], message_id: str, at_s: int, body: bytes) -> dict[str, str]:
    """The headers that name a message and its instant, and sign both with the body; one signature for each key."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(at_s)}
    if keys:
        content = f"{message_id}.{at_s}.".encode() + body
        signatures = (base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys)
        headers["webhook-signature"] = " ".join(f"v1,{signature}" for signature in signatures)
    return headers
