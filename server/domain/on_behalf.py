"""For whom a thread works: the client of its request, by which the engine shares itself out.

The client is no part of what is judged. So it does not go through pipeline and ensembles, each of which would have to
pass it on; the engine reads it where a request enters its queue.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_client: ContextVar[str] = ContextVar("client", default="")


@contextmanager
def on_behalf_of(client: str) -> Iterator[None]:
    """Within the block, the present thread works for `client`."""
    before = _client.set(client)
    try:
        yield
    finally:
        _client.reset(before)


def present_client() -> str:
    """For whom the present thread works; empty: for the server itself."""
    return _client.get()
