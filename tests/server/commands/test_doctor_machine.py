"""`sectorwatch doctor` holds the machine against what the server may need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from server.commands.doctor.finding import Finding
from server.commands.doctor.machine import cpu, disk
from server.commands.doctor.models import memory
from server.serving.machine import Machine, this_machine
from server.settings import ServerSettings

GIB = 1024**3
SETTINGS = ServerSettings(models=("yolov3-tiny",))


def levels(findings: Iterator[Finding]) -> list[str]:
    return [finding.level for finding in findings]


@pytest.mark.parametrize(
    ("memory_bytes", "available_bytes", "level"),
    [(64 * GIB, 32 * GIB, "ok"), (64 * GIB, GIB, "warn"), (GIB, GIB, "warn"), (None, None, "ok")],
)
def test_memory_is_held_against_what_the_server_may_need(
    tmp_path: Path, memory_bytes: int | None, available_bytes: int | None, level: str
):
    settings = msgspec.structs.replace(SETTINGS, data_dir=tmp_path)
    assert levels(memory(settings, Machine(2, frozenset(), available_bytes, memory_bytes))) == [level]


@pytest.mark.parametrize(("free_bytes", "level"), [(0, "fail"), (GIB // 2, "warn"), (2 * GIB, "ok")])
def test_a_disk_without_room_for_what_the_server_writes_fails(tmp_path: Path, free_bytes: int, level: str):
    asked: list[Path] = []

    def free(folder: Path) -> int:
        asked.append(folder)
        return free_bytes

    settings = msgspec.structs.replace(SETTINGS, data_dir=tmp_path / "not" / "made yet")
    assert levels(disk(settings, free)) == [level]
    assert asked == [tmp_path]


@pytest.mark.parametrize(
    ("vectors", "level"),
    [({"avx2"}, "ok"), ({"avx2", "avx512f", "amx_bf16"}, "ok"), ({"asimd"}, "ok"), (set(), "warn"), (None, "warn")],
)
def test_a_processor_without_vector_instructions_is_a_warning(vectors: set[str] | None, level: str):
    machine = Machine(2, None if vectors is None else frozenset(vectors), None)
    assert levels(cpu(SETTINGS, machine))[0] == level


def test_the_machine_is_read_from_its_system_files_within_the_containers_limit(tmp_path: Path):
    for name, text in {
        "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu avx2 amx_bf16 sse\n",
        "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n",
        "sys/fs/cgroup/memory.max": "1000000000\n",
        "sys/fs/cgroup/memory.current": "400000000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    machine = this_machine(tmp_path)
    assert (machine.vectors, machine.available_bytes) == (frozenset({"avx2", "amx_bf16"}), 600_000_000)
    assert machine.memory_bytes == 1_000_000_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n", encoding="utf-8")
    machine = this_machine(tmp_path)
    assert (machine.available_bytes, machine.memory_bytes) == (4_096_000_000, 8_192_000_000)


def test_the_tightest_limit_of_a_service_and_of_what_it_is_part_of_counts(tmp_path: Path):
    for name, text in {
        "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable:    4000000 kB\n",
        "proc/self/cgroup": "0::/system.slice/sectorwatch.service\n",
        "sys/fs/cgroup/system.slice/memory.max": "900000000\n",
        "sys/fs/cgroup/system.slice/memory.current": "100000000\n",
        "sys/fs/cgroup/system.slice/sectorwatch.service/memory.max": "500000000\n",
        "sys/fs/cgroup/system.slice/sectorwatch.service/memory.current": "50000000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    machine = this_machine(tmp_path)
    assert (machine.memory_bytes, machine.available_bytes) == (500_000_000, 450_000_000)
    (tmp_path / "sys/fs/cgroup/system.slice/memory.max").write_text("400000000\n", encoding="utf-8")
    assert this_machine(tmp_path).memory_bytes == 400_000_000


def test_the_limit_of_an_older_container_counts_too(tmp_path: Path):
    (tmp_path / "sys/fs/cgroup/memory").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text("300000000\n", encoding="utf-8")
    assert this_machine(tmp_path).memory_bytes == 300_000_000


def test_a_system_that_tells_nothing_is_taken_as_it_is(tmp_path: Path):
    machine = this_machine(tmp_path)
    assert (machine.vectors, machine.available_bytes, machine.memory_bytes) == (None, None, None)
    assert machine.processors > 0
