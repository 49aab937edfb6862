"""The machine as far as serving depends on it: processors, their instructions, and memory."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.settings import processors

VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")
"""Instructions that make inference faster, as Linux names them on x86 and ARM."""

_M_ARENA_MAX = -8
"""Of mallopt(3)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`vectors` is the part of VECTORS that it has. None stands for what the system does not tell.

    `memory_bytes` is the memory of the machine, or the limit of the container or service. `available_bytes` is what
    is free of it, or can be freed.
    """

    processors: int
    vectors: frozenset[str] | None
    available_bytes: int | None
    memory_bytes: int | None = None


def this_machine(root: Path = Path("/")) -> Machine:
    """The machine, or the container, whose system files lie under `root`."""
    meminfo, limits = root / "proc/meminfo", list(_limits(root))
    free = _least(_kibibytes(meminfo, "MemAvailable"), *(max(0, limit - used) for limit, used in limits))
    total = _least(_kibibytes(meminfo, "MemTotal"), *(limit for limit, _used in limits))
    return Machine(processors(), _vectors(root / "proc/cpuinfo"), free, total)


def give_back() -> None:
    """Free unused objects, and return their memory to the system where the allocator can."""
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc's; others have none
        ctypes.CDLL(None).malloc_trim(0)


def share_heaps(most: int) -> None:
    """Limit the heaps that the threads of this process allocate from, unless MALLOC_ARENA_MAX is set.

    glibc gives each thread its own heap, up to eight per processor, and each keeps the most its thread ever needed.
    With many request threads that is a fifth of a server's memory. Call it before the threads start.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(OSError, AttributeError):  # glibc's; others have none
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, most)


def torch_environment() -> dict[str, str]:
    """Environment variables that OpenMP reads once, when torch loads it, except those that the operator has set.

    One thread per forward call: the engine's workers fill the cores, each with images of its own. One call on all
    cores reached .55-.65 of that throughput (two cores, three small classifiers). Waiting threads sleep at once instead
    of spinning: beside another busy process, spinning costs up to ten times the work.
    """
    wanted = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
    return {name: value for name, value in wanted.items() if name not in os.environ}


def _vectors(cpuinfo: Path) -> frozenset[str] | None:
    for line in _lines(cpuinfo):
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return frozenset(value.split()) & frozenset(VECTORS)
    return None


def _least(*amounts: int | None) -> int | None:
    return min((amount for amount in amounts if amount is not None), default=None)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each control group this process is in, from its own up to the root."""
    top = root / "sys/fs/cgroup"
    groups = (line.split(":", 2) for line in _lines(root / "proc/self/cgroup"))
    own = next((path.strip("/") for number, _controllers, path in groups if number == "0"), "")
    folder = top / own
    for group in (folder, *folder.parents):
        limit = _number(group / "memory.max")
        if limit is not None:
            yield limit, _number(group / "memory.current") or 0
        if group == top:
            break
    limit = _number(top / "memory/memory.limit_in_bytes")  # version 1; a number beyond any machine stands for none
    if limit is not None:
        yield limit, _number(top / "memory/memory.usage_in_bytes") or 0


def _kibibytes(path: Path, name: str) -> int | None:
    """The amount that a line `name: 1234 kB` gives, in bytes."""
    amounts = (line.split()[1] for line in _lines(path) if line.startswith(f"{name}:"))
    return next((int(amount) * 1024 for amount in amounts), None)


def _number(path: Path) -> int | None:
    text = next(iter(_lines(path)), "")
    return int(text) if text.isdigit() else None  # `max`: no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
