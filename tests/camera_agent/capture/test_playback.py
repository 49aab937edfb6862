"""Recordings: the same bursts in every run, at every speed, and none from the future."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from camera_agent.burst import Burst
from camera_agent.cameras.camera import Recognised, RecordedPicture, Recording
from camera_agent.capture.playback import Playback
from camera_agent.config.settings import BurstSettings, CameraSettings
from camera_agent.imaging.frame import CameraFailure, EncodedPicture, Thumbnail
from tests.camera_agent.conftest import HandClock

START = datetime(2026, 1, 1, tzinfo=UTC)
DOT = Thumbnail(1, 1, b"0")
START_MS = 1_767_225_600_000


class Film:
    """Pictures at given instants, whose bytes are their number; picture `broken` cannot be read."""

    def __init__(self, instants_s: list[float], *, broken: int | None = None, fails_once_at: int | None = None) -> None:
        self._instants_s = instants_s
        self._broken = broken
        self._fails_once_at = fails_once_at

    def open(self) -> None:
        pass

    def fingerprint(self) -> str:
        return "film"

    def content(self) -> bytes:
        return b'"film"'

    def recognise(self, saved: bytes, played_ms: int) -> Recognised:
        del played_ms
        msgspec.json.decode(saved)
        return Recognised(continues=True, content=self.content())

    def shortfall(self) -> str:
        return ""

    def started_ms(self) -> int | None:
        return None

    def duration_s(self) -> float:
        return self._instants_s[-1]

    def pictures(self) -> Iterator[RecordedPicture]:
        for number, at_s in enumerate(self._instants_s):
            if number == self._fails_once_at:
                self._fails_once_at = None
                raise CameraFailure("the drive went to sleep")
            yield RecordedPicture(
                number=number, at_s=at_s, read=lambda number=number: EncodedPicture(self._read(number), DOT)
            )

    def close(self) -> None:
        pass

    def _read(self, number: int) -> bytes:
        if number == self._broken:
            raise CameraFailure("broken")
        return str(number).encode()


class Kept:
    """Keeps bursts with the instants at which they came; stops the playback after `enough`."""

    def __init__(self, clock: HandClock, stop: threading.Event, *, enough: int = 1000) -> None:
        self.bursts: list[Burst] = []
        self.at_s: list[float] = []
        self._clock = clock
        self._stop = stop
        self._enough = enough

    def put(self, burst: Burst) -> bool:
        self.bursts.append(burst)
        self.at_s.append(self._clock.monotonic_s())
        if len(self.bursts) >= self._enough:
            self._stop.set()
        return True

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        del size_bytes, timeout_s
        return True

    @property
    def numbers(self) -> list[list[int]]:
        return [[int(frame) for frame in burst.frames] for burst in self.bursts]


def play(
    state: Path, clock: HandClock, film: Film, *, enough: int = 1000, site: str = "yard", **more: object
) -> tuple[Kept, Playback]:
    settings = {"name": "gate", "video": "x", "speed": 0.0, "burst": BurstSettings(frames=4), "started_at": START}
    camera = CameraSettings(**{**settings, **more})  # type: ignore[arg-type]
    return play_camera(state, clock, camera, film, enough=enough, site=site)


def play_camera(
    state: Path,
    clock: HandClock,
    camera: CameraSettings,
    recording: Recording,
    *,
    enough: int = 1000,
    site: str = "yard",
) -> tuple[Kept, Playback]:
    state.mkdir(exist_ok=True)
    stop = threading.Event()
    kept = Kept(clock, stop, enough=enough)
    playback = Playback(site, camera, recording, kept.put, kept.wait_for_room, state, clock, stop)
    playback.run()
    return kept, playback


def at_rate(pictures: int, per_s: float = 10.0) -> list[float]:
    return [number / per_s for number in range(pictures)]


@pytest.mark.parametrize(
    ("frames_per_s", "expected"),
    [
        (10.0, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (5.0, [[0, 2, 4, 6], [8]]),
        (2.0, [[0, 5]]),
        (3.0, [[0, 4, 7]]),
        (20.0, [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]),
    ],
)
def test_footage_is_sampled_at_the_set_rate(
    tmp_path: Path, clock: HandClock, frames_per_s: float, expected: list[list[int]]
) -> None:
    kept, playback = play(tmp_path, clock, Film(at_rate(10)), frames_per_s=frames_per_s)
    assert kept.numbers == expected
    assert playback.is_over


def test_first_picture_sets_the_phase_and_keeps_its_instant(tmp_path: Path, clock: HandClock) -> None:
    kept, _ = play(tmp_path, clock, Film(at_rate(12)), frames_per_s=5.0, first_picture=1)
    assert kept.numbers == [[1, 3, 5, 7], [9, 11]]
    assert kept.bursts[0].envelope.captured_at == "2026-01-01T00:00:00.100Z"
    assert kept.bursts[0].envelope.offsets_ms == (0, 200, 400, 600)
    assert kept.bursts[1].envelope.captured_at == "2026-01-01T00:00:00.900Z"


def test_instants_are_those_of_the_footage_also_at_an_odd_rate(tmp_path: Path, clock: HandClock) -> None:
    kept, _ = play(tmp_path, clock, Film(at_rate(3000, 30000 / 1001)), frames_per_s=7.0)
    for burst, numbers in zip(kept.bursts, kept.numbers, strict=True):
        first_ms = round(numbers[0] * 1001 / 30)
        assert burst.envelope.clock.monotonic_ms == first_ms
        assert burst.envelope.offsets_ms == tuple(round(number * 1001 / 30) - first_ms for number in numbers)
    taken = [number for numbers in kept.numbers for number in numbers]
    assert taken == sorted(set(taken))
    assert len(taken) == pytest.approx(3000 * 1001 / 30000 * 7, abs=1)


def test_pictures_between_bursts_are_left_out(tmp_path: Path, clock: HandClock) -> None:
    burst = BurstSettings(frames=2, spacing_s=0.2, every_s=1.0)
    kept, _ = play(tmp_path, clock, Film(at_rate(25)), burst=burst)
    assert kept.numbers == [[0, 2], [10, 12], [20, 22]]


def test_pictures_that_are_far_apart_are_all_taken(tmp_path: Path, clock: HandClock) -> None:
    kept, _ = play(tmp_path, clock, Film([0.0, 30.0, 61.0]))
    assert kept.numbers == [[0], [1], [2]]


def test_a_picture_that_cannot_be_read_is_left_out(tmp_path: Path, clock: HandClock) -> None:
    kept, playback = play(tmp_path, clock, Film(at_rate(6), broken=2), frames_per_s=10.0)
    assert kept.numbers == [[0, 1, 3], [4, 5]]
    assert playback.is_over


def test_after_a_failure_playback_continues_with_the_interrupted_burst(tmp_path: Path, clock: HandClock) -> None:
    whole, _ = play(tmp_path / "a", clock, Film(at_rate(12)), frames_per_s=10.0)
    kept, _ = play(tmp_path / "b", clock, Film(at_rate(12), fails_once_at=6), frames_per_s=10.0)
    assert kept.bursts == whole.bursts


@pytest.mark.parametrize("enough", [1, 2, 3])
def test_a_stopped_run_continues_at_its_position(tmp_path: Path, clock: HandClock, enough: int) -> None:
    whole, _ = play(tmp_path / "a", clock, Film(at_rate(14)), frames_per_s=10.0)
    first, playback = play(tmp_path / "b", clock, Film(at_rate(14)), frames_per_s=10.0, enough=enough)
    assert not playback.is_over
    rest, playback = play(tmp_path / "b", clock, Film(at_rate(14)), frames_per_s=10.0)
    assert first.bursts + rest.bursts == whole.bursts
    assert playback.is_over


def test_a_start_instant_that_the_agent_chose_is_saved(tmp_path: Path, clock: HandClock) -> None:
    clock.ahead_s += 0.7
    first, _ = play(tmp_path, clock, Film(at_rate(14)), frames_per_s=10.0, started_at=None, enough=1)
    assert first.bursts[0].envelope.captured_at == "2027-01-15T07:59:59.000Z"
    clock.ahead_s += 3600
    rest, _ = play(tmp_path, clock, Film(at_rate(14)), frames_per_s=10.0, started_at=None)
    assert rest.bursts[0].envelope.captured_at == "2027-01-15T07:59:59.400Z"


def test_other_burst_settings_give_other_ids_and_start_the_recording_again(tmp_path: Path, clock: HandClock) -> None:
    first, _ = play(tmp_path, clock, Film(at_rate(12)), frames_per_s=10.0)
    second, _ = play(tmp_path, clock, Film(at_rate(12)), frames_per_s=5.0)
    assert second.numbers[0] == [0, 2, 4, 6]
    ids = [burst.envelope.burst_id for kept in (first, second) for burst in kept.bursts]
    assert len(ids) == len(set(ids))


def test_two_sites_never_share_an_id(tmp_path: Path, clock: HandClock) -> None:
    here, _ = play(tmp_path / "a", clock, Film(at_rate(4)))
    there, _ = play(tmp_path / "b", clock, Film(at_rate(4)), site="harbour")
    assert here.bursts[0].envelope.burst_id != there.bursts[0].envelope.burst_id


@pytest.mark.parametrize(
    ("speed", "expected_s"), [(1.0, [0.3, 0.7, 1.1]), (4.0, [0.075, 0.175, 0.275]), (0.0, [0, 0, 0])]
)
def test_a_burst_is_due_when_its_last_frame_has_been_played(
    tmp_path: Path, clock: HandClock, speed: float, expected_s: list[float]
) -> None:
    kept, _ = play(tmp_path, clock, Film(at_rate(12)), frames_per_s=10.0, speed=speed)
    assert [at_s - 1000.0 for at_s in kept.at_s] == pytest.approx(expected_s)


def test_no_burst_is_sent_before_the_instant_of_its_last_frame(tmp_path: Path, clock: HandClock) -> None:
    started_at = datetime.fromtimestamp(clock.unix_s() - 0.5, tz=UTC)
    kept, _ = play(tmp_path, clock, Film(at_rate(12)), frames_per_s=10.0, started_at=started_at)
    assert [at_s - 1000.0 for at_s in kept.at_s] == pytest.approx([0.0, 0.2, 0.6], abs=1e-3)


@pytest.mark.parametrize("damage", [b"\0\0\0", b'{"plan": "\xff"}'])
def test_an_unreadable_position_starts_the_recording_again(tmp_path: Path, clock: HandClock, damage: bytes) -> None:
    whole, _ = play(tmp_path, clock, Film(at_rate(12)), frames_per_s=10.0)
    (tmp_path / "recording-gate.json").write_bytes(damage)
    again, _ = play(tmp_path, clock, Film(at_rate(12)), frames_per_s=10.0)
    assert again.bursts == whole.bursts


def test_a_recording_that_was_played_to_its_end_is_over_at_once(tmp_path: Path, clock: HandClock) -> None:
    play(tmp_path, clock, Film(at_rate(12)))
    again, playback = play(tmp_path, clock, Film(at_rate(12)))
    assert not again.bursts
    assert playback.is_over
    playback.forget()
    assert play(tmp_path, clock, Film(at_rate(12)))[0].bursts


def test_first_does_not_move_the_position(tmp_path: Path, clock: HandClock) -> None:
    stop = threading.Event()
    settings = CameraSettings(name="gate", video="x", burst=BurstSettings(frames=4))
    kept = Kept(clock, stop)
    first = Playback("yard", settings, Film(at_rate(60)), kept.put, kept.wait_for_room, tmp_path, clock, stop).first()
    Playback("yard", settings, Film(at_rate(60)), kept.put, kept.wait_for_room, tmp_path, clock, stop).run()
    assert first == kept.bursts[0]
