"""A state as checkpoints keep it: its JSON, deflated (RFC 1951).

Half of it are hashes of frames, as hexadecimal digits, and the names of fields are most of the rest.
"""

from __future__ import annotations

import zlib

_MARK = b"\x01"
"""JSON does not begin with it."""
_WORDS = (
    b'"appearance":"votes":{"yolov3-tiny":"for","hog-people":"for"},"margin":0.,"candidates":"height":"speed":"box":[0.'
    b'"sector":"label":"person","target":"score":0.9,"started_us":17"confirmed_us":17"sha256":"burst_id":"'
    b'{"last_at_us":17,"last_key":["019",9],"frames":["","","","","","",""],"seen_us":17,"tracks":[],"presences":[]}'
)
"""What states repeat. It must never change: states of before could not be read."""


def pack_state(state: bytes) -> bytes:
    """The stored form of a state (JSON)."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zdict=_WORDS)
    return _MARK + deflate.compress(state) + deflate.flush()


def unpack_state(stored: bytes) -> bytes:
    """The state that was packed; JSON, as before schema 0011, as it is. Raises ValueError."""
    if not stored.startswith(_MARK):
        return stored
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS, zdict=_WORDS).decompress(stored[1:])
    except zlib.error as error:
        raise ValueError(f"a state cannot be read: {error}") from error
