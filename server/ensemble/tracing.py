"""A gate between threads that trace a network and threads that compute.

While `torch.fx` traces a network, every call of an `nn.Module` in the process goes through the tracer, in any thread: a
live call would fail or become part of the trace. So computing waits for a trace, some tenths of a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_changed = threading.Condition()
_computing = 0
_tracing = 0
"""Threads that trace or wait to trace; new computing waits for them. The process has one tracer, hence one gate."""


@contextmanager
def computing() -> Iterator[None]:
    """Hold this around calls of networks; it waits until no thread traces."""
    global _computing
    with _changed:
        _changed.wait_for(lambda: not _tracing)
        _computing += 1
    try:
        yield
    finally:
        with _changed:
            _computing -= 1
            _changed.notify_all()


@contextmanager
def tracing() -> Iterator[None]:
    """Hold this around a trace; it waits until no thread computes."""
    global _tracing
    with _changed:
        _changed.wait_for(lambda: not _tracing)
        _tracing += 1
        _changed.wait_for(lambda: not _computing)
    try:
        yield
    finally:
        with _changed:
            _tracing -= 1
            _changed.notify_all()
