"""Keeping the process small: one thread per numeric library, few malloc arenas, big frames given back at once.

Called first thing in the process: numpy's BLAS reads its variables when it is loaded, and starts a thread (and
its buffers) per core unless told otherwise. The constants are glibc's (`malloc.h`, `mallopt(3)`); elsewhere
nothing is changed.
"""

from __future__ import annotations

import ctypes
import os

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MMAP_FROM_BYTES = 128 * 1024


def stay_small() -> None:
    """Set what makes the resident memory small and flat. Safe to call twice; the environment's own wishes win."""
    for variable in _ONE_THREAD:
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "8")  # what a decoder complains of is not ours to print
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_ARENA_MAX, 2)
    # Set once, glibc no longer raises it after the first big frame, which would keep frames' memory for good.
    mallopt(_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES)
