"""The spool: bounded, in order, and no burst half written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from camera_agent.burst import Burst, ClockReading, Still, make_burst
from camera_agent.spool.entry import Damaged, SpoolEntry
from camera_agent.spool.spool import Spool
from camera_agent.state import lock_state


def burst(number: int, *, camera: str = "gate", size_bytes: int = 1000) -> Burst:
    return make_burst(
        [Still(jpeg=bytes([number % 256]) * size_bytes, at_ms=0), Still(jpeg=b"end", at_ms=500)],
        burst_id=f"burst-{number:04d}",
        site="yard",
        camera=camera,
        captured_ms=1_800_000_000_000 + number,
        clock=ClockReading(synced=True, boot_id="b", monotonic_ms=number),
    )


def spool_in(folder: Path, *, max_bytes: int = 1_000_000, keep_refused: int = 3) -> Spool:
    spool = Spool(folder / "spool", max_bytes=max_bytes, refused_folder=folder / "refused", keep_refused=keep_refused)
    spool.open()
    return spool


def content(waiting: SpoolEntry) -> Burst:
    with waiting.open() as (header, frames):
        return Burst(envelope=header.envelope, frames=tuple(b"".join(pieces) for pieces in frames))


def drain(spool: Spool) -> list[Burst]:
    bursts = []
    while (waiting := spool.next()) is not None:
        bursts.append(content(waiting))
        spool.remove(waiting)
    return bursts


def test_bursts_are_sent_oldest_first_and_byte_for_byte(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    put = [burst(number) for number in (3, 1, 2)]
    assert [spool.put(each) for each in put] == [True, True, True]
    assert drain(spool) == put
    assert spool.held_bytes == 0
    assert list((tmp_path / "spool").iterdir()) == []


def test_no_other_user_can_read_waiting_or_refused_bursts(tmp_path: Path) -> None:
    with lock_state(tmp_path / "state"):
        spool_in(tmp_path)
    for folder in ("state", "spool", "refused"):
        assert (tmp_path / folder).stat().st_mode & 0o077 == 0


def test_a_new_process_takes_over_in_the_same_order(tmp_path: Path) -> None:
    put = [burst(number) for number in range(12)]
    first = spool_in(tmp_path)
    for each in put[:11]:
        first.put(each)
    second = spool_in(tmp_path)
    assert second.held_bytes == first.held_bytes
    second.put(put[11])
    assert drain(second) == put


def test_a_burst_that_is_already_waiting_is_not_kept_twice(tmp_path: Path) -> None:
    spool_in(tmp_path).put(burst(1))
    spool = spool_in(tmp_path)
    assert spool.put(burst(1))
    assert len(spool) == 1


def test_the_oldest_bursts_are_dropped_counted_and_logged_when_the_bound_is_reached(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_in(tmp_path, max_bytes=10_000)
    put = [burst(number, size_bytes=2000) for number in range(7)]
    for each in put:
        assert spool.put(each)
        assert sum(file.stat().st_size for file in (tmp_path / "spool").iterdir()) <= 10_000
    assert spool.dropped == 3
    assert "burst_dropped camera=gate burst=burst-0000 cause=spool_full dropped=1" in caplog.text
    assert drain(spool) == put[3:]


def test_the_burst_that_is_being_sent_is_not_dropped(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, max_bytes=6_000)
    for number in range(2):
        spool.put(burst(number, size_bytes=2000))
    sending = spool.next()
    assert sending is not None
    spool.put(burst(2, size_bytes=2000))
    assert content(sending) == burst(0, size_bytes=2000)
    spool.remove(sending)
    assert drain(spool) == [burst(2, size_bytes=2000)]


def test_a_burst_that_exceeds_the_whole_spool_is_not_kept_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_in(tmp_path, max_bytes=1_500)
    assert not spool.put(burst(1, size_bytes=5000))
    assert (len(spool), spool.held_bytes, spool.dropped) == (0, 0, 1)
    assert "burst_not_kept camera=gate" in caplog.text


def test_the_bursts_of_one_camera_can_wait_while_others_are_sent(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.put(burst(1, camera="door"))
    spool.put(burst(2, camera="gate"))
    waiting = spool.next(without={"door"})
    assert waiting is not None
    assert waiting.camera == "gate"
    assert spool.next(without={"door", "gate"}) is None


def test_a_refused_burst_is_set_aside_with_its_reason_and_only_the_last_few_are_kept(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, keep_refused=2)
    for number in range(4):
        spool.put(burst(number))
        waiting = spool.next()
        assert waiting is not None
        spool.set_aside(waiting, f"HTTP 422 number {number}")
    kept = sorted((tmp_path / "refused").glob("*.txt"))
    assert [file.read_text() for file in kept] == ["HTTP 422 number 2\n", "HTTP 422 number 3\n"]
    assert len(list((tmp_path / "refused").glob("*.burst"))) == 2
    assert (len(spool), spool.held_bytes) == (0, 0)


@pytest.mark.parametrize("damage", [b"", b"not a header\n", b"{}\n", b'{"envelope": {"burst_id": "\xff"}}\n'])
def test_a_damaged_file_is_noticed_when_it_is_read(tmp_path: Path, damage: bytes) -> None:
    spool = spool_in(tmp_path)
    spool.put(burst(1))
    waiting = spool.next()
    assert waiting is not None
    waiting.path.write_bytes(damage)
    with pytest.raises(Damaged), waiting.open():
        pass


def test_a_file_cut_short_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    spool.put(burst(1))
    waiting = spool.next()
    assert waiting is not None
    os.truncate(waiting.path, waiting.size_bytes - 1)
    with pytest.raises(Damaged, match="size"), waiting.open():
        pass


def test_wait_for_room_waits_until_a_burst_is_removed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, max_bytes=100_000)
    spool.put(burst(1, size_bytes=80_000))
    assert not spool.wait_for_room(80_000, 0.0)
    waiting = spool.next()
    assert waiting is not None
    spool.remove(waiting)
    assert spool.wait_for_room(80_000, 0.0)
    assert spool.wait_for_room(8_000_000, 0.0)


def test_a_full_disk_costs_the_oldest_bursts_and_not_the_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first attempt to write goes to `/dev/full`, which fails like a full disk."""
    spool = spool_in(tmp_path)
    put = [burst(number, size_bytes=100_000) for number in range(3)]
    for each in put[:2]:
        spool.put(each)
    (tmp_path / "spool/000000000003.schedule.gate.burst-0002.burst.part").symlink_to("/dev/full")
    assert spool.put(put[2])
    assert spool.dropped == 1
    assert "burst_dropped camera=gate burst=burst-0000 cause=disk_full" in caplog.text
    assert drain(spool) == put[1:]
    assert spool.held_bytes == 0


def test_a_full_disk_with_nothing_to_drop_is_logged_and_counted(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    (tmp_path / "spool/000000000001.schedule.gate.burst-0001.burst.part").symlink_to("/dev/full")
    assert not spool.put(burst(1, size_bytes=100_000))
    assert (len(spool), spool.held_bytes, spool.dropped) == (0, 0, 1)
    assert not list((tmp_path / "spool").iterdir())
