"""`kill -9` and a full disk before every single system call that the spool makes.

A profiler counts the calls. No kept burst is lost, and none is there twice or half.
"""

from __future__ import annotations

import errno
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import msgspec
import pytest

from camera_agent import atomic_files
from camera_agent.burst import Burst
from camera_agent.spool import entry
from camera_agent.spool import spool as spool_module
from camera_agent.spool.entry import _first_line
from camera_agent.spool.spool import Spool
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.spool.test_spool import burst, drain

OURS = tuple(str(module.__file__) for module in (atomic_files, entry, pathlib, spool_module))
CAN_BE_FULL = ("open", "write", "flush", "fsync", "replace", "rename")
PROOF = "2026-01-01T00:00:00.000Z"


BURST_BYTES = len(_first_line(burst(3))) + sum(len(frame) for frame in burst(3).frames)


@dataclass(frozen=True)
class Work:
    """What the spool does while bursts 1 and 2 are on the disk, and the bursts that may be left after a kill. `begin`
    prepares it.
    """

    do: Callable[[Spool, HandClock], object]
    may_be_left: tuple[tuple[int, ...], ...]
    begin: Callable[[Spool, HandClock], object] = lambda spool, clock: None
    memory_s: float = 30.0
    max_bytes: int = 1_000_000


def in_memory(*numbers: int) -> Callable[[Spool, HandClock], object]:
    """Bursts that have waited in memory for long enough to be written."""

    def begin(spool: Spool, clock: HandClock) -> None:
        for number in numbers:
            spool.put(burst(number))
        clock.now_s += 30.0

    return begin


def retime(spool: Spool, clock: HandClock) -> None:
    del clock
    waiting = spool.next()
    assert waiting is not None
    with waiting.open() as (header, _):
        envelope = header.envelope
    clock_part = msgspec.structs.replace(envelope.clock, synced=True)
    spool.retime(waiting, msgspec.structs.replace(envelope, captured_at=PROOF, clock=clock_part))


def remove(spool: Spool, clock: HandClock) -> None:
    del clock
    waiting = spool.next()
    assert waiting is not None
    spool.remove(waiting)


def set_aside(spool: Spool, clock: HandClock) -> None:
    del clock
    waiting = spool.next()
    assert waiting is not None
    spool.set_aside(waiting, "HTTP 422")


def set_newest_aside(spool: Spool, clock: HandClock) -> None:
    del clock
    spool.set_aside(spool.entries_of("gate")[-1], "HTTP 422")


def send_while_writing(spool: Spool, clock: HandClock) -> None:
    newest = spool.entries_of("gate")[-1]
    spool.write_late()
    spool.remove(newest)


def untimed(number: int) -> Burst:
    plain = burst(number)
    clock = msgspec.structs.replace(plain.envelope.clock, synced=False)
    return msgspec.structs.replace(plain, envelope=msgspec.structs.replace(plain.envelope, clock=clock))


WORK = {
    "put": Work(lambda spool, clock: spool.put(burst(3), to_disk=True), ((1, 2), (1, 2, 3))),
    "put and make room": Work(
        lambda spool, clock: spool.put(burst(3), to_disk=True), ((1, 2), (2,), (2, 3)), max_bytes=3 * BURST_BYTES
    ),
    "write late": Work(lambda spool, clock: spool.write_late(), ((1, 2), (1, 2, 3)), in_memory(3)),
    "write all at the end": Work(
        lambda spool, clock: spool.write_late(write_all=True), ((1, 2), (1, 2, 3), (1, 2, 3, 4)), in_memory(3, 4)
    ),
    "send what is being written": Work(send_while_writing, ((1, 2), (1, 2, 3)), in_memory(3)),
    "remove": Work(remove, ((1, 2), (2,))),
    "set aside": Work(set_aside, ((1, 2), (2,))),
    "set aside from memory": Work(set_newest_aside, ((1, 2),), in_memory(3)),
    "retime": Work(retime, ((1, 2),)),
    "take over": Work(lambda spool, clock: spool.open(), ((1, 2),)),
}


def spool_in(folder: Path, work: Work, clock: HandClock, *, memory_s: float | None = None) -> Spool:
    return Spool(
        folder / "spool",
        max_bytes=work.max_bytes,
        refused_folder=folder / "refused",
        keep_refused=3,
        memory_s=work.memory_s if memory_s is None else memory_s,
        memory_bytes=100_000,
        monotonic_s=clock.monotonic_s,
    )


def before(folder: Path, work: Work) -> None:
    """Put bursts 1 (with an unknown error of its clock) and 2 on the disk."""
    spool = spool_in(folder, work, HandClock(), memory_s=0.0)
    spool.open()
    spool.put(untimed(1))
    spool.put(burst(2))


def half_done(folder: Path) -> None:
    """What a kill can leave: a half-written file, and a burst both before and after `retime`."""
    untimed_file = next((folder / "spool").glob("*-untimed*"))
    shutil.copy(untimed_file, untimed_file.with_name(untimed_file.name.replace("-untimed", "")))
    (folder / "spool" / "000000000009.schedule.gate.burst-0009.burst.part").write_bytes(b"half")


def steps_of(name: str, folder: Path, act: Callable[[int, str, bool], None]) -> None:
    """Do the work and call `act` before each of its system calls, with the call's number, its name, and whether it
    writes a file.
    """
    work, clock = WORK[name], HandClock()
    spool = spool_in(folder, work, clock)
    if name != "take over":
        spool.open()
    work.begin(spool, clock)
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        if event == "c_call" and frame.f_code.co_filename in OURS:
            called = getattr(argument, "__name__", "")
            count += 1
            callers = (frame, frame.f_back or frame)
            act(count - 1, called, any(caller.f_code.co_filename == atomic_files.__file__ for caller in callers))

    sys.setprofile(profile)
    try:
        work.do(spool, clock)
    finally:
        sys.setprofile(None)


def killed_at(name: str, folder: Path, step: int | None) -> int:
    """Do the work in its own process, which is killed before its call number `step`. Returns the number of calls, or -1
    after a kill.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        counted = 0

        def count(number: int, called: str, is_written: bool) -> None:
            nonlocal counted
            del called, is_written
            if number == step:
                os.kill(os.getpid(), signal.SIGKILL)
            counted = number + 1

        steps_of(name, folder, count)
        os.write(writing, str(counted).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        output = pipe.read()
    os.waitpid(child, 0)
    return int(output) if output else -1


def left_in(folder: Path, work: Work) -> tuple[int, ...]:
    """The bursts that another process sends. They must be whole, and no other file may be left."""
    spool = spool_in(folder, work, HandClock())
    spool.open()
    left = drain(spool)
    assert spool.held_bytes == 0
    assert not list((folder / "spool").iterdir())
    for each in left:
        number = int(each.envelope.burst_id.removeprefix("burst-"))
        assert each.frames == burst(number).frames
        assert each.envelope.captured_at in (burst(number).envelope.captured_at, PROOF)
    return tuple(int(each.envelope.burst_id.removeprefix("burst-")) for each in left)


@pytest.mark.parametrize("name", list(WORK))
def test_a_kill_at_any_step_loses_no_kept_burst_and_leaves_none_half_or_twice(tmp_path: Path, name: str) -> None:
    work = WORK[name]
    before(tmp_path / "before", work)
    if name == "take over":
        half_done(tmp_path / "before")
    shutil.copytree(tmp_path / "before", tmp_path / "whole")
    steps = killed_at(name, tmp_path / "whole", None)
    assert steps > 3
    seen: set[tuple[int, ...]] = set()
    for step in range(steps):
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "before", folder)
        assert killed_at(name, folder, step) == -1
        seen.add(left_in(folder, work))
    seen.add(left_in(tmp_path / "whole", work))
    assert seen <= set(work.may_be_left)
    assert len(seen) >= min(2, len(work.may_be_left))


def full_at(name: str, folder: Path, step: int) -> str | None:
    """Do the work with a disk that is full once: at call number `step` of those that can fail so. Returns the call;
    None where there are fewer.
    """
    met: list[str] = []

    def act(number: int, called: str, is_written: bool) -> None:
        del number
        if is_written and called in CAN_BE_FULL:
            met.append(called)
            if len(met) == step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    steps_of(name, folder, act)
    return met[step - 1] if len(met) >= step else None


AFTER_FULL = {
    "put": ((2, 3),),
    "write late": ((2, 3),),
    "write all at the end": ((2, 3, 4),),
    "send what is being written": ((1, 2), (2,)),
    "set aside from memory": ((1, 2),),
    "retime": ((1, 2),),
}
"""When the disk is full, the oldest burst of the lowest priority is dropped, and no other."""


@pytest.mark.parametrize("name", list(AFTER_FULL))
def test_a_full_disk_at_any_step_costs_the_oldest_burst_at_most_and_leaves_none_half(tmp_path: Path, name: str) -> None:
    before(tmp_path / "before", WORK[name])
    for step in range(1, 50):
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "before", folder)
        if full_at(name, folder, step) is None:
            break
        assert not list(folder.rglob("*.part"))
        assert left_in(folder, WORK[name]) in AFTER_FULL[name], step
    assert step > 1
