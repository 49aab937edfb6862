"""Keeps the signal handlers of this process while a library replaces them below Python.

Ray's core takes SIGTERM when a process connects, in C++, prints a stack, and ends the process: a server would no
longer finish its requests. Python sets handlers in the main thread only, and the server connects in another;
sigaction(2) works in any.
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_KEPT = (signal.SIGTERM, signal.SIGABRT, signal.SIGINT)
_STRUCT_BYTES = 512
"""More than any system's `struct sigaction`, which is only copied."""


@contextmanager
def handlers_kept() -> Iterator[None]:
    """After the block, the handlers of before are in force."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = {number: ctypes.create_string_buffer(_STRUCT_BYTES) for number in _KEPT}
    for number, action in before.items():
        libc.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in before.items():
            libc.sigaction(int(number), action, None)
