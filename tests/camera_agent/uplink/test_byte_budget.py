"""The byte budget: kept over any 24 hours, saved from the least important first."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from camera_agent.config.settings import CameraSettings, ServerSettings, Settings
from camera_agent.imaging.frame import FrameFormat
from camera_agent.reporting.publisher import Publisher
from camera_agent.status import Status, StatusCounters
from camera_agent.uplink.byte_budget import NO_SAVING, ByteBudget, heartbeat_bytes, heartbeat_every_s, wire_bytes
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.spool.test_spool import spool_in

DAY_S = 86_400.0


def test_without_a_budget_nothing_is_saved_and_nothing_waits(clock: HandClock) -> None:
    budget = ByteBudget(None, clock.monotonic_s)
    budget.spend(10**12)
    assert (budget.plan(10**12), budget.wait_s(10**9)) == (NO_SAVING, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_no_24_hours_exceed_the_budget(clock: HandClock, seed: int) -> None:
    budget, chance = ByteBudget(50e6, clock.monotonic_s), random.Random(seed)
    sent: list[tuple[float, int]] = []
    begun_s = clock.now_s
    while clock.now_s < begun_s + 3 * DAY_S:
        size = chance.randrange(10_000, 900_000)
        wait_s = budget.wait_s(size)
        if wait_s:
            clock.now_s += wait_s
            assert budget.wait_s(size) < 0.001
        budget.spend(size)
        sent.append((clock.now_s, size))
        clock.now_s += chance.uniform(0.0, 60.0) if chance.random() < 0.9 else chance.uniform(0.0, 20_000.0)
    for begin_s, _ in sent:
        assert sum(size for at_s, size in sent if begin_s <= at_s < begin_s + DAY_S) <= 50e6 + 900_000


def test_a_camera_saves_more_the_emptier_its_budget_and_pauses_at_the_end(clock: HandClock) -> None:
    budget = ByteBudget(40e6, clock.monotonic_s)
    levels = []
    for _ in range(21):
        levels.append(budget.plan(0).level)
        budget.spend(500_000)
    assert levels == sorted(levels)
    assert set(levels) == {0, 1, 2, 3, 4}
    clock.now_s += 0.01 * DAY_S
    assert budget.plan(0).is_paused
    clock.now_s += 0.1 * DAY_S
    assert not budget.plan(0).is_paused


def test_waiting_bytes_count_as_spent(clock: HandClock) -> None:
    assert ByteBudget(40e6, clock.monotonic_s).plan(9_900_000).is_paused


def test_saving_lowers_the_quality_also_of_the_cameras_jpegs_down_to_a_limit() -> None:
    frame_format = FrameFormat(quality=85)
    assert NO_SAVING.apply(frame_format) is frame_format
    spared = [plan for plan in (ByteBudget(1.0, lambda: 0.0).plan(waiting) for waiting in (0, 1)) if plan.quality_cut]
    assert all(plan.apply(frame_format).always_encode and plan.apply(frame_format).quality >= 30 for plan in spared)


def test_a_restart_does_not_refill_the_budget(clock: HandClock) -> None:
    first = ByteBudget(40e6, clock.monotonic_s)
    first.spend(9_000_000)
    saved = first.save(clock.unix_s(), "a boot")
    again = ByteBudget(40e6, clock.monotonic_s)
    again.restore(saved, clock.unix_s() + 60.0, "another boot")
    assert again.plan(0).level == first.plan(0).level == 3


def test_a_clock_that_is_set_between_two_runs_does_not_refill_the_budget(clock: HandClock) -> None:
    first = ByteBudget(40e6, clock.monotonic_s)
    first.spend(9_000_000)
    saved = first.save(50.0, "a boot")
    clock.now_s += 60.0
    again = ByteBudget(40e6, clock.monotonic_s)
    again.restore(saved, clock.unix_s(), "a boot")
    assert again.plan(0).level == first.plan(0).level == 3
    assert again.wait_s(1_100_000) == pytest.approx(first.wait_s(1_100_000))


def news_of(folder: Path, clock: HandClock) -> tuple[Publisher, ByteBudget]:
    """An agent's publisher with the budget of its one camera; the runtime folder is new, as after a boot."""
    camera = CameraSettings(name="gate", device=0, mb_per_day=40)
    server = ServerSettings(url="http://127.0.0.1:1")
    settings = Settings(site="yard", server=server, cameras=(camera,), state_dir=str(folder / "state"))
    settings.state_folder.mkdir(exist_ok=True)
    settings.runtime_folder.mkdir(exist_ok=True)
    budget = ByteBudget(40e6, clock.monotonic_s)
    return Publisher(settings, clock, StatusCounters(Status()), spool_in(folder), {}, {"gate": budget}), budget


def test_a_new_boot_does_not_refill_the_budget(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "first-boot"))
    news, budget = news_of(tmp_path, clock)
    budget.spend(9_000_000)
    news.write()
    assert not (tmp_path / "state/budget.json").exists()
    news.write(is_last=True)
    clock.now_s += 60.0
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "second-boot"))
    news, again = news_of(tmp_path, clock)
    news.restore_budgets()
    assert again.plan(0).level == budget.plan(0).level == 3


@pytest.mark.parametrize("damage", [b"\0\0\0", b'{"\xff": {}}'])
def test_unreadable_saved_budgets_are_logged_and_start_full(
    tmp_path: Path, clock: HandClock, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    news, budget = news_of(tmp_path, clock)
    (tmp_path / "state/budget.json").write_bytes(damage)
    news.restore_budgets()
    assert budget.plan(0).level == 0
    assert "budget_unreadable" in caplog.text


def test_heartbeats_take_at_most_a_tenth_of_a_small_budget() -> None:
    assert heartbeat_every_s(60.0, None) == heartbeat_every_s(60.0, 100.0) == 60.0
    every_s = heartbeat_every_s(60.0, 4.0)
    assert every_s > 300.0
    assert heartbeat_bytes(every_s) == pytest.approx(0.4e6)


def test_wire_bytes_include_packet_headers() -> None:
    assert wire_bytes(1448) == 1448 + 78
    assert wire_bytes(100_000) == pytest.approx(105_500, abs=200)
