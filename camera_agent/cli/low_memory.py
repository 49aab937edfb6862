"""Keeps the process small: one thread per numeric library, few malloc arenas, large frames returned to the system.

Call it before any numeric library is imported: numpy's BLAS starts a thread, with buffers, per core unless its
variables say otherwise. The constants are glibc's (`malloc.h`, `mallopt(3)`).
"""

from __future__ import annotations

import ctypes
import os

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_LOG_LEVEL": "ERROR",
    "OPENCV_FFMPEG_LOGLEVEL": "8",  # keeps decoder messages out of the log
}
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def limit_memory() -> None:
    """Safe to call twice. Variables that are already set are kept."""
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        # Once set, glibc no longer raises it after the first large frame, which would keep the memory of frames.
        mallopt(_M_MMAP_THRESHOLD, 128 * 1024)
