"""What this machine is, as far as serving depends on it: processors, their instructions, memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from server.settings import processors

VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")
"""Instructions that make a forward call faster, as Linux names them on x86 and on ARM."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`vectors`: those of VECTORS it has, None where the system does not tell; so with `available_bytes`."""

    processors: int
    vectors: frozenset[str] | None
    available_bytes: int | None


def this_machine(root: Path = Path("/")) -> Machine:
    """The machine, or the container, whose system files lie under `root`."""
    return Machine(processors(), _vectors(root / "proc/cpuinfo"), _available_bytes(root))


def _vectors(cpuinfo: Path) -> frozenset[str] | None:
    for line in _lines(cpuinfo):
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return frozenset(value.split()) & frozenset(VECTORS)
    return None


def _available_bytes(root: Path) -> int | None:
    """What is free or can be freed, within the container's limit if there is one."""
    free = next((int(line.split()[1]) * 1024 for line in _lines(root / "proc/meminfo") if "MemAvailable" in line), None)
    limit, used = (_number(root / "sys/fs/cgroup" / name) for name in ("memory.max", "memory.current"))
    within = None if limit is None else max(0, limit - (used or 0))
    known = [amount for amount in (free, within) if amount is not None]
    return min(known, default=None)


def _number(path: Path) -> int | None:
    text = next(iter(_lines(path)), "")
    return int(text) if text.isdigit() else None  # `max`: no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
