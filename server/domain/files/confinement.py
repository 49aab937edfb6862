"""Confines this process before it runs code of other people: what it writes, and how much it uses. It cannot be undone.

The kernel enforces all of it: Landlock (landlock(7), Linux 5.13 and newer, no privilege needed) for files, connections
and signals, setrlimit(2) for amounts. Importing this module imports the standard library only, so that a process can
confine itself before it starts threads: Landlock holds for the calling thread and those that it starts.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from contextlib import suppress
from pathlib import Path
from typing import Literal

Confined = Literal["no", "partly", "yes"]
"""Whether a process can write files. `partly`: it can shorten some, because the kernel is older than Linux 6.2."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ABI_VERSION, _PATH_BENEATH, _NO_NEW_PRIVS = 1, 1, 38
_WRITE_FILE = 1 << 1
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
"""Open for writing; remove and make files, folders, links, sockets, pipes and devices."""
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_TCP, _SIGNALS_AND_ABSTRACT_SOCKETS = 0b11, 0b11
_MORE_TASKS = 64


def confine_writing(folder: str) -> Confined:
    """Take from this process and its children the right to change files outside `folder`, and other processes.

    Files that are open stay open, reading stays possible, and so does writing to /dev/null. Kernels from 6.7 on also
    forbid TCP, from 6.12 on signals to other processes. `no`: this kernel has no Landlock.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "prctl"):
        return "no"
    abi = libc.syscall(_CREATE_RULESET, None, 0, _ABI_VERSION)
    if abi < 1:
        return "no"
    files = _CHANGES | (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0)
    attributes = struct.pack("=QQQ", files, _TCP if abi >= 4 else 0, _SIGNALS_AND_ABSTRACT_SOCKETS if abi >= 6 else 0)
    rules = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    for place, allowed in ((folder, files), (os.devnull, files & (_WRITE_FILE | _TRUNCATE))):
        opened = os.open(place, os.O_PATH)
        libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", allowed, opened), 0)
        os.close(opened)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    is_confined = libc.syscall(_RESTRICT_SELF, rules, 0) == 0
    os.close(rules)
    return ("yes" if abi >= 3 else "partly") if is_confined else "no"


def limit_use(more_memory_bytes: int, processor_s: int) -> None:
    """Limit this process to so much memory beyond what it has now, so much processor time, and files of no size.

    Its user cannot start many more tasks from it; the kernel sets no such limit for root. A crash leaves no core.
    """
    _lower(resource.RLIMIT_CPU, processor_s, processor_s + 1)  # SIGXCPU at the first, SIGKILL at the second
    _lower(resource.RLIMIT_AS, _address_space_bytes() + more_memory_bytes)
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NPROC, _tasks_of_this_user() + _MORE_TASKS)


def _lower(what: int, soft: int, hard: int | None = None) -> None:
    """Set both limits of a resource (`hard` is `soft` unless it is given), but none above the hard one it has."""
    present = resource.getrlimit(what)[1]
    most = (hard or soft) if present == resource.RLIM_INFINITY else min(hard or soft, present)
    resource.setrlimit(what, (min(soft, most), most))


def _address_space_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def _tasks_of_this_user() -> int:
    """Processes and threads, as RLIMIT_NPROC counts them."""
    count, user = 0, os.getuid()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if process.stat().st_uid == user:
                count += len(list((process / "task").iterdir()))
    return count
