"""The wall clock: a boot in 1970, steps of days, the server's time."""

from __future__ import annotations

import email.utils
import threading
import time
from pathlib import Path

import msgspec
import pytest

from camera_agent.burst import ClockReading, Still, make_burst
from camera_agent.clock import boot_id, unix_s_of
from camera_agent.config.settings import ServerSettings
from camera_agent.status import Status, StatusCounters
from camera_agent.uplink.http_client import HttpClient
from camera_agent.uplink.uplink import Uplink
from camera_agent.wall_clock import WallClock
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.spool.test_spool import spool_in
from tests.camera_agent.stand_in import StandIn

NOW_S = 1_800_000_000.0


def date(unix_s: float) -> str:
    return email.utils.formatdate(unix_s, usegmt=True)


def test_a_synchronised_clock_is_trusted_within_its_bound(clock: HandClock) -> None:
    reading = WallClock(clock, lambda: 0.02).offset()
    assert (reading.ahead_s, reading.synced, reading.uncertainty_s) == (clock.ahead_s, True, 0.02)


def test_an_unsynchronised_clock_is_used_with_an_unknown_error(clock: HandClock) -> None:
    reading = WallClock(clock, lambda: None).offset()
    assert (reading.ahead_s, reading.synced, reading.uncertainty_s, reading.is_set) == (
        clock.ahead_s,
        False,
        None,
        True,
    )


@pytest.mark.parametrize("wrong_s", [-NOW_S, -3 * 86400.0, 40 * 86400.0])
def test_a_clock_that_is_days_off_is_corrected_by_the_servers_date(wrong_s: float) -> None:
    clock = HandClock(unix_s=NOW_S + wrong_s)
    time = WallClock(clock, lambda: None)
    time.observe_date(date(NOW_S))
    reading = time.offset()
    assert reading.uncertainty_s is not None
    assert abs(reading.ahead_s + clock.monotonic_s() - NOW_S) <= reading.uncertainty_s <= 3.0


def test_a_clock_that_agrees_with_the_server_is_kept(clock: HandClock) -> None:
    time = WallClock(clock, lambda: None)
    for _ in range(50):
        time.observe_date(date(clock.unix_s()))
        clock.now_s += 0.37
        assert time.offset().ahead_s == clock.ahead_s


def test_a_small_correction_never_reverses_the_order_of_two_instants(clock: HandClock) -> None:
    time = WallClock(clock, lambda: 0.01)
    before_s = 0.0
    for step in range(200):
        if step == 50:
            clock.ahead_s -= 3.0
        now_s = clock.monotonic_s() + time.offset().ahead_s
        assert now_s > before_s
        before_s = now_s
        clock.now_s += 1.0
    assert time.offset().ahead_s == pytest.approx(clock.ahead_s)


def test_an_invalid_date_changes_nothing(clock: HandClock) -> None:
    time = WallClock(clock, lambda: None)
    time.observe_date("yesterday")
    time.observe_date(None)
    assert time.offset().uncertainty_s is None


@pytest.mark.parametrize("zone", ["GMT", "-0000", "+0000", ""])
def test_a_date_is_utc_in_every_time_zone(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert unix_s_of(f"Fri, 15 Jan 2027 08:00:00 {zone}") == NOW_S
    finally:
        monkeypatch.undo()
        time.tzset()


def uplink_of(clock: HandClock, folder: Path, server: StandIn) -> Uplink:
    """An uplink with two bursts 10 s apart to send, of an unsynchronised clock."""
    time, spool = WallClock(clock, lambda: None), spool_in(folder)
    for number in range(2):
        first_ms = round(clock.monotonic_s() * 1000)
        stills = [Still(bytes([number]), 0), Still(bytes([number, 1]), 1000)]
        reading = ClockReading(synced=False, boot_id=boot_id(), monotonic_ms=first_ms)
        captured_ms = round(clock.unix_s() * 1000)
        made = make_burst(
            stills, burst_id=f"burst-{number:04d}", site="yard", camera="gate", captured_ms=captured_ms, clock=reading
        )
        spool.put(made)
        clock.now_s += 10.0
    client = HttpClient(ServerSettings(url=server.url), time)
    return Uplink(spool, client, {}, StatusCounters(Status()), clock, threading.Event(), wall_clock=time)


@pytest.mark.parametrize(
    "unix_s",
    [50.0, NOW_S - 200 * 86400.0, NOW_S + 3 * 86400.0],
    ids=["in 1970", "at the last shutdown", "in the future"],
)
def test_bursts_of_a_wrong_clock_get_the_servers_time_and_keep_their_intervals(
    tmp_path: Path, server: StandIn, unix_s: float
) -> None:
    clock = HandClock(monotonic_s=100.0, unix_s=unix_s)
    uplink = uplink_of(clock, tmp_path, server)
    server.unix_s = lambda: NOW_S + clock.monotonic_s()
    uplink.send_next()
    uplink.send_next()
    captured = [seen.envelope["captured_at"] for seen in server.bursts.values()]
    assert captured == ["2027-01-15T08:01:40.500Z", "2027-01-15T08:01:50.500Z"]
    assert all(1.0 < seen.envelope["clock"]["uncertainty_s"] < 3.0 for seen in server.bursts.values())


def test_bursts_of_a_clock_that_was_never_set_wait_until_the_time_is_known(tmp_path: Path, server: StandIn) -> None:
    clock = HandClock(monotonic_s=100.0, unix_s=50.0)
    uplink = uplink_of(clock, tmp_path, server)
    server.unix_s = lambda: None
    uplink.send_next()
    assert not server.arrivals
    server.unix_s = lambda: NOW_S
    clock.now_s += 6.0
    uplink.send_next()
    assert server.arrivals


def test_bursts_of_a_clock_that_was_set_do_not_wait_for_the_servers_time(
    tmp_path: Path, clock: HandClock, server: StandIn
) -> None:
    uplink = uplink_of(clock, tmp_path, server)
    server.unix_s = lambda: None
    uplink.send_next()
    [seen] = server.arrivals
    assert (seen.envelope["captured_at"], seen.envelope["clock"]["uncertainty_s"]) == ("2027-01-15T08:00:00.000Z", None)


def test_a_retimed_burst_keeps_its_instants_for_every_sending(tmp_path: Path, clock: HandClock) -> None:
    spool = spool_in(tmp_path)
    reading = ClockReading(synced=False, boot_id=boot_id(), monotonic_ms=1_000_000)
    made = make_burst(
        [Still(b"x", 0)],
        burst_id="burst-0001",
        site="yard",
        camera="gate",
        captured_ms=1_790_000_000_000,
        clock=reading,
    )
    spool.put(made)
    waiting = spool.next()
    assert waiting is not None
    assert not waiting.is_timed
    better = WallClock(clock, lambda: 0.01).retimed(made.envelope)
    assert better is not None
    assert better.captured_at == "2027-01-15T08:00:00.000Z"
    assert spool.retime(waiting, better).is_timed
    again = spool_in(tmp_path).next()
    assert again is not None
    assert again.is_timed
    with again.open() as (header, _):
        assert header.envelope == better
    assert msgspec.json.encode(header.envelope.clock).endswith(b'"uncertainty_s":0.01}')
