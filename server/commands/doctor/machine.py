"""Checks of the machine: processor, threads, disk and clock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from server.commands.doctor.finding import Finding
from server.serving.machine import Machine, this_machine
from server.settings import ServerSettings

_MIB = 1024 * 1024
_LEAST_FREE_BYTES = 100 * _MIB
_ENOUGH_FREE_BYTES = 1024 * _MIB
_BUILT_AT = datetime(2026, 11, 1, tzinfo=UTC)
"""A clock that shows an earlier instant is wrong."""


def cpu(_settings: ServerSettings, machine: Machine | None = None) -> Iterator[Finding]:
    vectors = (machine or this_machine()).vectors
    if vectors is None:
        yield Finding("warn", "cpu", "this system does not show the processor's instructions", "check for AVX2 or NEON")
    elif not vectors & {"avx2", "asimd"}:
        yield Finding("warn", "cpu", "no AVX2 (nor NEON): torch will be many times slower", "use a newer processor")
    else:
        bf16 = "faster" if {"avx512_bf16", "amx_bf16", "bf16"} & vectors else "not faster"
        yield Finding("ok", "cpu", f"{' '.join(sorted(vectors))} (bf16 is {bf16} here)")


def threads(settings: ServerSettings) -> Iterator[Finding]:
    processors = this_machine().processors
    wanted = settings.inference_threads or processors
    what = f"{wanted} inference threads on {processors} processors"
    if wanted > processors:
        yield Finding("warn", "threads", what, "set inference_threads = 0, or give the server more processors")
    else:
        yield Finding("ok", "threads", what)
    if os.environ.get("OMP_NUM_THREADS", "1") != "1":
        what = f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} is set"
        yield Finding("warn", "threads", what, "unset it: `sectorwatch serve` sets the best value")


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def disk(settings: ServerSettings, free_bytes: Callable[[Path], int] = _free_bytes) -> Iterator[Finding]:
    """Checks the free space: on a full disk the server answers every burst with 503."""
    folder = next(each for each in (settings.data_dir, *settings.data_dir.parents) if each.exists())
    free = free_bytes(folder)
    what = f"{free // _MIB} MiB free for {settings.data_dir}"
    if free >= _ENOUGH_FREE_BYTES:
        yield Finding("ok", "disk", what)
    else:
        level = "fail" if free < _LEAST_FREE_BYTES else "warn"
        yield Finding(level, "disk", what, "make room there, or choose another data_dir")


def clock(_settings: ServerSettings) -> Iterator[Finding]:
    now = datetime.now(UTC)
    if now < _BUILT_AT:
        what = f"{now:%Y-%m-%dT%H:%M:%SZ} is in the past, so the server would hold bursts back"
        yield Finding("fail", "clock", what, "set the clock (NTP)")
    else:
        yield Finding("ok", "clock", f"{now:%Y-%m-%dT%H:%M:%SZ}")
