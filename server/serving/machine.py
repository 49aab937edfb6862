"""What this machine is, as far as serving depends on it: processors, their instructions, memory.

Also what this process takes of it, from the files in which Linux tells that.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from server.settings import processors

VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")
"""Instructions that make a forward call faster, as Linux names them on x86 and on ARM."""

_M_ARENA_MAX = -8
"""Of mallopt(3)."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`vectors`: those of VECTORS it has, None where the system does not tell; so with the two amounts of memory.

    `memory_bytes` is all there is to this process: the machine's, or its container's or service's limit.
    `available_bytes` is what of that is free, or can be freed.
    """

    processors: int
    vectors: frozenset[str] | None
    available_bytes: int | None
    memory_bytes: int | None = None


def this_machine(root: Path = Path("/")) -> Machine:
    """The machine, or the container, whose system files lie under `root`."""
    return Machine(processors(), _vectors(root / "proc/cpuinfo"), _available_bytes(root), _memory_bytes(root))


def resident_bytes(root: Path = Path("/")) -> int | None:
    """What this process has in memory now; None where the system does not tell."""
    return _kibibytes(root / "proc/self/status", "VmRSS")


def give_back() -> None:
    """Let go of what nobody uses any more, and give it back to the system where its allocator can do that."""
    gc.collect()
    with suppress(OSError, AttributeError):  # glibc's; others have none
        ctypes.CDLL(None).malloc_trim(0)


def share_heaps(most: int) -> None:
    """Have the threads of this process allocate from at most `most` heaps, unless MALLOC_ARENA_MAX says how many.

    glibc gives each thread one, up to eight a processor, and each keeps what its thread needed at most: with all the
    threads that wait for an ensemble that was a fifth of a server's memory. Call it before they are started.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(OSError, AttributeError):  # glibc's; others have none
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, most)


def growth_bytes(call: Callable[[], object]) -> int | None:
    """How much more memory this process had, at most, while `call` ran in a thread of its own; None: not known.

    A fresh thread, since one that has computed before may reuse what it was given then. Raises what `call` raises.
    """
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = resident_bytes()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001  raised in the thread that asked
            raised.append(error)

    thread = threading.Thread(target=run, name="sectorwatch-probe")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    peak = _kibibytes(Path("/proc/self/status"), "VmHWM")
    return None if before is None or peak is None else max(0, peak - before)


def _vectors(cpuinfo: Path) -> frozenset[str] | None:
    for line in _lines(cpuinfo):
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return frozenset(value.split()) & frozenset(VECTORS)
    return None


def _available_bytes(root: Path) -> int | None:
    """What is free or can be freed, within the container's limit if there is one."""
    amounts = [_kibibytes(root / "proc/meminfo", "MemAvailable")]
    amounts += [max(0, limit - used) for limit, used in _limits(root)]
    return min((amount for amount in amounts if amount is not None), default=None)


def _memory_bytes(root: Path) -> int | None:
    amounts = [_kibibytes(root / "proc/meminfo", "MemTotal"), *(limit for limit, _used in _limits(root))]
    return min((amount for amount in amounts if amount is not None), default=None)


def _limits(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each control group this process is in, from its own up to the root."""
    top = root / "sys/fs/cgroup"
    told = (line.split(":", 2) for line in _lines(root / "proc/self/cgroup"))
    own = next((path.strip("/") for number, _controllers, path in told if number == "0"), "")
    folder = top / own
    for group in (folder, *folder.parents):
        limit = _number(group / "memory.max")
        if limit is not None:
            yield limit, _number(group / "memory.current") or 0
        if group == top:
            break
    limit = _number(top / "memory/memory.limit_in_bytes")  # version 1; it says `none` by a number beyond any machine
    if limit is not None:
        yield limit, _number(top / "memory/memory.usage_in_bytes") or 0


def _kibibytes(path: Path, name: str) -> int | None:
    """The amount that a line `name: 1234 kB` gives, in bytes."""
    found = (line.split() for line in _lines(path) if line.startswith(f"{name}:"))
    return next((int(words[1]) * 1024 for words in found), None)


def _number(path: Path) -> int | None:
    text = next(iter(_lines(path)), "")
    return int(text) if text.isdigit() else None  # `max`: no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
