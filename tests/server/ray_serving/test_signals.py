"""A server that connects to Ray is still ended in order by SIGTERM."""

from __future__ import annotations

import ctypes
import os
import signal

from server.ray_serving.signals import handlers_kept

_IGNORE = ctypes.c_void_p(1)


def test_a_handler_that_was_replaced_below_python_is_in_force_again() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    try:
        with handlers_kept():
            ctypes.CDLL(None).signal(int(signal.SIGTERM), _IGNORE)
            os.kill(os.getpid(), signal.SIGTERM)
        assert came == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
