"""Tracing a network while others compute.

While `torch.fx` traces one network, calls of every `nn.Module` of the process go through its tracer, whichever thread
makes them: a live call would fail, or end up in the trace. So nobody computes while somebody traces. A trace takes
some tenths of a second; whoever wants to compute meanwhile waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_changed = threading.Condition()
_computing = 0
_tracing = 0
"""Those who trace or wait to: nobody new begins to compute. The process has one tracer, so there is one gate."""


@contextmanager
def computing() -> Iterator[None]:
    """Around calls of networks: begins when nobody traces."""
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
    """Around a trace: begins when nobody computes."""
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
