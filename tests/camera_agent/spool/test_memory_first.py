"""Bursts in memory first, on disk when necessary, and dropped by priority."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from camera_agent.burst import Burst, Reason
from camera_agent.spool.spool import Spool
from tests.camera_agent.cameras.test_cameras import answering, serving
from tests.camera_agent.conftest import AgentProcess, HandClock, jpeg
from tests.camera_agent.spool.test_spool import burst, content, drain
from tests.camera_agent.stand_in import Answer, StandIn

Write = Callable[..., Path]
Start = Callable[..., AgentProcess]


def make_spool(folder: Path, clock: HandClock, **more: object) -> Spool:
    settings = {"max_bytes": 1_000_000, "keep_refused": 3, "memory_s": 30.0, "memory_bytes": 100_000, **more}
    spool = Spool(folder / "spool", refused_folder=folder / "refused", monotonic_s=clock.monotonic_s, **settings)  # type: ignore[arg-type]
    spool.open()
    return spool


def of_kind(number: int, reason: Reason, *, size_bytes: int = 1000) -> Burst:
    plain = burst(number, size_bytes=size_bytes)
    return msgspec.structs.replace(plain, envelope=msgspec.structs.replace(plain.envelope, reason=reason))


def on_disk(folder: Path) -> int:
    return len(list((folder / "spool").iterdir()))


def test_bursts_that_are_sent_in_time_never_touch_the_disk(tmp_path: Path, clock: HandClock) -> None:
    spool = make_spool(tmp_path, clock)
    for number in range(100):
        spool.put(burst(number))
        clock.now_s += 10.0
        spool.write_late()
        assert drain(spool) == [burst(number)]
    assert (on_disk(tmp_path), spool.written_bytes, spool.held_bytes) == (0, 0, 0)


def test_a_burst_that_waited_too_long_is_on_the_disk_for_another_process(tmp_path: Path, clock: HandClock) -> None:
    spool = make_spool(tmp_path, clock)
    spool.put(burst(1))
    clock.now_s += 29.0
    spool.put(burst(2))
    spool.write_late()
    assert on_disk(tmp_path) == 0
    clock.now_s += 1.0
    spool.write_late()
    assert drain(make_spool(tmp_path, clock)) == [burst(1)]


def test_bursts_beyond_the_memory_bound_are_written_to_disk_oldest_first(tmp_path: Path, clock: HandClock) -> None:
    spool = make_spool(tmp_path, clock, memory_bytes=25_000)
    for number in range(4):
        spool.put(burst(number, size_bytes=10_000))
    spool.write_late()
    assert on_disk(tmp_path) == 2
    assert drain(spool) == [burst(number, size_bytes=10_000) for number in range(4)]
    assert on_disk(tmp_path) == 0


def test_all_bursts_are_written_when_the_agent_stops(tmp_path: Path, clock: HandClock) -> None:
    spool = make_spool(tmp_path, clock)
    for number in range(3):
        spool.put(burst(number))
    spool.write_late(write_all=True)
    assert drain(make_spool(tmp_path, clock)) == [burst(number) for number in range(3)]


def test_a_burst_of_a_recording_is_on_the_disk_when_put_returns(tmp_path: Path, clock: HandClock) -> None:
    make_spool(tmp_path, clock).put(burst(1), to_disk=True)
    assert drain(make_spool(tmp_path, clock)) == [burst(1)]


def test_a_burst_that_is_sent_while_it_is_written_leaves_no_file(tmp_path: Path, clock: HandClock) -> None:
    spool = make_spool(tmp_path, clock)
    spool.put(burst(1))
    sending = spool.next()
    assert sending is not None
    spool.write_late(write_all=True)
    assert content(sending) == burst(1)
    spool.remove(sending)
    assert (on_disk(tmp_path), len(spool), spool.held_bytes) == (0, 0, 0)


def test_heartbeat_frames_are_dropped_first_then_bursts_of_the_schedule_then_of_the_gate(
    tmp_path: Path, clock: HandClock
) -> None:
    spool = make_spool(tmp_path, clock, max_bytes=8_000)
    kinds: list[Reason] = ["gate", "schedule", "heartbeat", "gate", "schedule", "gate", "gate"]
    for number, kind in enumerate(kinds):
        assert spool.put(of_kind(number, kind))
    kept = [kept_burst.envelope.burst_id for kept_burst in drain(spool)]
    assert kept == ["burst-0000", "burst-0003", "burst-0004", "burst-0005", "burst-0006"]
    assert spool.dropped == 2


def test_a_burst_of_lower_priority_than_all_waiting_ones_is_not_kept(tmp_path: Path, clock: HandClock) -> None:
    spool = make_spool(tmp_path, clock, max_bytes=4_000)
    for number in range(2):
        assert spool.put(of_kind(number, "gate"))
    assert not spool.put(of_kind(2, "heartbeat", size_bytes=2000))
    assert [kept_burst.envelope.burst_id for kept_burst in drain(spool)] == ["burst-0000", "burst-0001"]


def test_the_priority_of_a_burst_survives_a_restart(tmp_path: Path, clock: HandClock) -> None:
    first = make_spool(tmp_path, clock)
    first.put(of_kind(1, "heartbeat"), to_disk=True)
    first.put(of_kind(2, "gate"), to_disk=True)
    assert [entry.priority for entry in make_spool(tmp_path, clock).entries_of("gate")] == [0, 2]


def test_newest_first_sends_the_newest_burst_first(tmp_path: Path, clock: HandClock) -> None:
    spool = make_spool(tmp_path, clock, send="newest_first")
    for number in range(3):
        spool.put(burst(number))
    assert drain(spool) == [burst(2), burst(1), burst(0)]


def test_with_a_full_disk_bursts_stay_in_memory_within_its_bound(tmp_path: Path, clock: HandClock) -> None:
    spool = make_spool(tmp_path, clock, memory_bytes=25_000)
    for number in range(1, 5):
        (tmp_path / f"spool/{number:012d}.schedule.gate.burst-{number - 1:04d}.burst.part").symlink_to("/dev/full")
    for number in range(4):
        spool.put(burst(number, size_bytes=10_000))
        spool.write_late()
    assert spool.dropped == 2
    assert drain(spool) == [burst(number, size_bytes=10_000) for number in (2, 3)]


def test_with_a_faulty_disk_memory_stays_within_its_bound_and_the_disk_is_retried(
    tmp_path: Path, clock: HandClock
) -> None:
    spool = make_spool(tmp_path, clock, memory_bytes=25_000)
    (tmp_path / "spool").rename(tmp_path / "gone")
    (tmp_path / "spool").write_text("what is no folder takes no file, and lets none go")
    faults = 0
    for number in range(80):
        spool.put(burst(number, size_bytes=10_000))
        try:
            spool.write_late()
        except NotADirectoryError:
            faults += 1
        clock.now_s += 0.25
    assert faults == 2
    assert spool.held_bytes <= 25_000
    assert drain(spool) == [burst(number, size_bytes=10_000) for number in (78, 79)]


def test_a_burst_that_is_retimed_while_it_is_written_leaves_one_file_at_most(tmp_path: Path, clock: HandClock) -> None:
    spool = make_spool(tmp_path, clock)
    plain = burst(1)
    unknown = msgspec.structs.replace(plain.envelope.clock, synced=False)
    spool.put(msgspec.structs.replace(plain, envelope=msgspec.structs.replace(plain.envelope, clock=unknown)))
    waiting = spool.next()
    assert waiting is not None
    spool.write_late(write_all=True)
    spool.retime(waiting, plain.envelope)
    assert on_disk(tmp_path) == 0
    assert drain(spool) == [plain]


def test_a_live_agent_writes_no_burst_to_the_disk_while_the_link_is_up(
    tmp_path: Path, server: StandIn, write_settings: Write, start_agent: Start
) -> None:
    with serving(answering(jpeg(3))) as url:
        agent = start_agent("run", write_settings(f'snapshot = "{url}"\nburst = {{ frames = 2, spacing_s = 0.1 }}'))
        server.wait_for(lambda: len(server.bursts) >= 5)
        agent.stop()
        assert agent.wait(60.0) == 0
    status = msgspec.json.decode((tmp_path / "state/status.json").read_bytes())
    assert (status["disk_bytes"], status["waiting"]) == (0, 0)


def test_a_killed_live_agent_loses_only_what_waited_in_memory(
    tmp_path: Path, server: StandIn, write_settings: Write, start_agent: Start
) -> None:
    """With `sync = "always"` that is nothing: after the restart, every burst that was logged as taken is sent."""
    server.always = Answer(503)
    with serving(answering(jpeg(3))) as url:
        text = f'snapshot = "{url}"\nburst = {{ frames = 2, spacing_s = 0.1 }}'
        settings = write_settings(text, more='[spool]\nsync = "always"')
        agent = start_agent("run", settings)
        for _ in range(3):
            agent.wait_for_line("burst_taken")
        agent.kill()
        assert agent.wait() == -signal.SIGKILL
        taken = [line.split("burst=")[1].split()[0] for line in agent.lines if "burst_taken" in line]
        server.always = None
        again = start_agent("run", settings)
        again.wait_for_line("burst_sent")  # the killed one may have sent what was taken
        server.wait_for(lambda: set(taken) <= set(server.bursts))
        again.stop()
        assert again.wait(60.0) == 0, "\n".join(again.lines)
    assert list((tmp_path / "state/refused").iterdir()) == []


@pytest.mark.parametrize("name", ["000000000007.gate.burst-0007.burst", "000000000007.schedule.gate.burst-0007.burst"])
def test_files_of_the_first_version_are_taken_over(tmp_path: Path, clock: HandClock, name: str) -> None:
    spool = make_spool(tmp_path, clock)
    spool.put(burst(7), to_disk=True)
    next((tmp_path / "spool").glob("*.burst")).rename(tmp_path / "spool" / name)
    assert drain(make_spool(tmp_path, clock)) == [burst(7)]
