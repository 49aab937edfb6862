"""Cameras that hang, repeat a frame, go black or are covered."""

from __future__ import annotations

import threading

import pytest

from camera_agent.cameras.health import CameraHealth
from camera_agent.cameras.timeout_guard import TimeoutGuard
from camera_agent.imaging.frame import CameraFailure, Frame, FrameFormat, Thumbnail
from tests.camera_agent.scenes import Yard, flat


def see(health: CameraHealth, grey: Thumbnail, *, from_s: float, to_s: float, jpeg: bytes | None = None) -> float:
    """Check one look a second; return the instant of the first failure."""
    for at_s in range(round(from_s), round(to_s)):
        try:
            health.check(Frame(jpeg or str(at_s).encode(), float(at_s), grey))
        except CameraFailure as failure:
            health.record_failure(failure, float(at_s))
            return float(at_s)
    return float("inf")


def test_the_same_frame_for_a_minute_is_a_stuck_camera_until_the_frame_changes() -> None:
    health, view = CameraHealth(0.0, stuck_after_s=60.0), Yard().grey()
    assert see(health, view, from_s=0, to_s=200, jpeg=b"same") == 60.0
    assert (health.read().state, health.read().cause) == ("blind", "camera_stuck")
    assert see(health, view, from_s=61, to_s=65, jpeg=b"same") == 61.0
    assert see(health, view, from_s=66, to_s=400) == float("inf")
    assert (health.read().state, health.read().cause, health.read().since_s) == ("watching", None, 66.0)


@pytest.mark.parametrize(("level", "cause"), [(2, "camera_dark"), (120, "camera_covered"), (250, "camera_covered")])
def test_a_black_or_even_picture_for_ten_seconds_makes_the_camera_blind_with_a_cause(level: int, cause: str) -> None:
    health = CameraHealth(0.0, stuck_after_s=60.0)
    see(health, Yard().grey(), from_s=0, to_s=5)
    assert see(health, flat(level), from_s=5, to_s=60) == 15.0
    assert (health.read().state, health.read().cause) == ("blind", cause)
    assert health.read().last_frame_s == 14.0


def test_a_camera_that_is_dark_for_a_moment_is_not_blind() -> None:
    health = CameraHealth(0.0, stuck_after_s=60.0)
    assert see(health, flat(0), from_s=0, to_s=8) == float("inf")
    assert see(health, Yard().grey(), from_s=8, to_s=9) == float("inf")
    assert see(health, flat(0), from_s=9, to_s=18) == float("inf")


class Driver:
    """Hangs in the named call until `let_go` is set."""

    def __init__(self, *, hangs_in: str, let_go: threading.Event) -> None:
        self._hangs_in = hangs_in
        self._let_go = let_go
        self.closed = threading.Event()

    def open(self) -> None:
        self._maybe("open")

    def frame(self, form: FrameFormat) -> Frame:
        del form
        self._maybe("still")
        return Frame(b"jpeg", 1.0, flat(9))

    def close(self) -> None:
        self.closed.set()

    def _maybe(self, call: str) -> None:
        if call == self._hangs_in:
            self._let_go.wait(60.0)


@pytest.mark.parametrize("hangs_in", ["open", "still"])
def test_a_hanging_driver_is_abandoned_and_closed_when_its_call_returns(
    hangs_in: str,
) -> None:
    let_go = threading.Event()
    drivers = [Driver(hangs_in=hangs_in, let_go=let_go), Driver(hangs_in="", let_go=let_go)]
    made = iter(drivers)
    guarded = TimeoutGuard(lambda: next(made), timeout_s=0.02, margin_s=0.02)

    def ask() -> None:
        guarded.open()
        guarded.frame(FrameFormat())

    with pytest.raises(CameraFailure, match="no answer from the driver") as caught:
        ask()
    assert caught.value.cause == "camera_hangs"
    guarded.open()
    assert guarded.frame(FrameFormat()).jpeg == b"jpeg"
    assert not drivers[0].closed.is_set()
    let_go.set()
    assert drivers[0].closed.wait(5.0)
    guarded.close()
    assert drivers[1].closed.wait(5.0)


def test_after_eight_hanging_calls_a_new_process_is_needed_and_no_camera_is_opened() -> None:
    let_go = threading.Event()
    guarded = TimeoutGuard(lambda: Driver(hangs_in="open", let_go=let_go), timeout_s=0.01, margin_s=0.01)
    for _ in range(8):
        assert not guarded.needs_new_process
        with pytest.raises(CameraFailure, match="no answer"):
            guarded.open()
    with pytest.raises(CameraFailure, match="8 attempts hang in the driver"):
        guarded.open()
    assert guarded.needs_new_process
    let_go.set()


def test_the_guard_raises_what_the_camera_raises() -> None:
    class Broken(Driver):
        def frame(self, form: FrameFormat) -> Frame:
            raise CameraFailure("lens cap")

    guarded = TimeoutGuard(lambda: Broken(hangs_in="", let_go=threading.Event()), timeout_s=5.0)
    guarded.open()
    with pytest.raises(CameraFailure, match="lens cap"):
        guarded.frame(FrameFormat())
    guarded.close()


def test_another_thread_may_close_a_camera_at_any_time() -> None:
    guarded = TimeoutGuard(lambda: Driver(hangs_in="", let_go=threading.Event()), timeout_s=20.0)
    raised: list[BaseException] = []

    def take() -> None:
        for _ in range(300):
            try:
                guarded.open()
                guarded.frame(FrameFormat())
            except CameraFailure:
                continue
            except Exception as error:  # noqa: BLE001 - what must not come
                raised.append(error)
                return

    taking = threading.Thread(target=take)
    taking.start()
    while taking.is_alive():
        guarded.close()
    taking.join()
    assert raised == []
