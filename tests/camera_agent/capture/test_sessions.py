"""What is played again and what is not, when footage changes under a camera: real folders and videos."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from camera_agent.burst import Burst
from camera_agent.cameras import factory
from camera_agent.config.settings import BurstSettings, CameraSettings, GateSettings
from tests.camera_agent.capture.test_playback import START, play_camera
from tests.camera_agent.conftest import HandClock, jpeg, make_video

TIME_S = 1_767_250_800


def add(folder: Path, numbers: Sequence[int], *, prefix: str = "frame", shade: int = 0, time_s: int = TIME_S) -> None:
    """Stills `frame1.jpg` and so on, a second apart by their file times; picture i + `shade` is in file i."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        path = folder / f"{prefix}{number}.jpg"
        path.write_bytes(jpeg(number + shade))
        os.utime(path, (time_s + number, time_s + number))


class Player:
    """Plays one camera as often as it is asked to, on one state folder; each time to the end of the footage."""

    def __init__(self, tmp_path: Path, clock: HandClock) -> None:
        self._state = tmp_path / "state"
        self._clock = clock

    def play(self, *, enough: int = 1000, **settings: object) -> list[Burst]:
        of_all = {"name": "gate", "speed": 0.0, "burst": BurstSettings(frames=4)}
        camera = CameraSettings(**{**of_all, **settings})  # type: ignore[arg-type]
        kept, _ = play_camera(self._state, self._clock, camera, factory.recording(camera), enough=enough)
        return kept.bursts

    def frames(self, **settings: object) -> list[bytes]:
        return [frame for burst in self.play(**settings) for frame in burst.frames]


@pytest.fixture
def player(tmp_path: Path, clock: HandClock) -> Player:
    return Player(tmp_path, clock)


def jpegs(numbers: Sequence[int]) -> list[bytes]:
    return [jpeg(number) for number in numbers]


BY_RATE = {"pictures_per_s": 1.0, "started_at": START}
BY_TIME: dict[str, object] = {}
BY_GATE = {**BY_RATE, "gate": GateSettings(looks_per_s=1.0)}


@pytest.mark.parametrize("rule", [BY_RATE, BY_TIME])
def test_other_stills_in_the_same_folder_are_played_from_the_start(
    tmp_path: Path, player: Player, rule: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    stills = tmp_path / "stills"
    add(stills, range(10))
    first = player.play(folder=str(stills), **rule)
    shutil.rmtree(stills)
    add(stills, range(10), prefix="other", shade=20)
    second = player.play(folder=str(stills), **rule)
    assert [frame for burst in second for frame in burst.frames] == jpegs(range(20, 30))
    assert {burst.envelope.burst_id for burst in first}.isdisjoint(burst.envelope.burst_id for burst in second)
    assert "footage_changed camera=gate played_before=0" in caplog.text


def test_other_stills_of_the_same_names_sizes_and_times_are_played_from_the_start(
    tmp_path: Path, player: Player
) -> None:
    def fill(shade: int) -> list[bytes]:
        data = [jpeg(number + shade).ljust(4000, b"\0") for number in range(8)]
        for number, each in enumerate(data):
            (tmp_path / f"{number}.jpg").write_bytes(each)
            os.utime(tmp_path / f"{number}.jpg", (TIME_S + number, TIME_S + number))
        return data

    fill(0)
    assert len(player.frames(folder=str(tmp_path), **BY_RATE)) == 8
    others = fill(30)
    assert player.frames(folder=str(tmp_path), **BY_RATE) == others


@pytest.mark.parametrize("rule", [BY_RATE, BY_TIME])
@pytest.mark.parametrize("played", [8, 10, 13])
def test_pictures_added_to_a_folder_are_played_all_of_them(
    tmp_path: Path, player: Player, rule: dict[str, object], played: int
) -> None:
    """The last burst of the first run is full, or half full, or has one frame."""
    add(tmp_path / "stills", range(played))
    first = player.play(folder=str(tmp_path / "stills"), **rule)
    add(tmp_path / "stills", range(played, 33))
    second = player.play(folder=str(tmp_path / "stills"), **rule)
    frames = [frame for burst in first + second for frame in burst.frames]
    assert frames == jpegs(range(33))
    assert len({burst.envelope.burst_id for burst in first + second}) == len(first + second)
    assert player.play(folder=str(tmp_path / "stills"), **rule) == []


def test_added_pictures_have_the_instants_that_they_have_when_all_are_played_at_once(
    tmp_path: Path, player: Player, clock: HandClock
) -> None:
    def instants(bursts: list[Burst]) -> list[tuple[str, int]]:
        return [(b.envelope.captured_at, offset) for b in bursts for offset in b.envelope.offsets_ms if not offset]

    add(tmp_path / "stills", range(8))
    parts = player.play(folder=str(tmp_path / "stills"), **BY_RATE)
    add(tmp_path / "stills", range(8, 20))
    parts += player.play(folder=str(tmp_path / "stills"), **BY_RATE)
    whole = Player(tmp_path / "again", clock)
    (tmp_path / "again").mkdir()
    assert parts == whole.play(folder=str(tmp_path / "stills"), **BY_RATE)
    assert instants(parts)[2] == ("2026-01-01T00:00:08.000Z", 0)


def test_a_gate_looks_at_every_picture_that_was_added(tmp_path: Path, player: Player) -> None:
    add(tmp_path / "stills", range(9))
    first = player.frames(folder=str(tmp_path / "stills"), **BY_GATE)
    add(tmp_path / "stills", range(9, 25))
    second = player.frames(folder=str(tmp_path / "stills"), **BY_GATE)
    assert first == jpegs(range(9))
    assert second == jpegs(range(9, 25))


def test_pictures_added_before_those_that_were_played_are_played(tmp_path: Path, player: Player) -> None:
    stills = tmp_path / "stills"
    add(stills, range(5, 15))
    player.play(folder=str(stills), **BY_TIME)
    add(stills, range(5))
    assert player.frames(folder=str(stills), **BY_TIME) == jpegs(range(5))
    add(stills, range(15, 17))
    assert player.frames(folder=str(stills), **BY_TIME) == jpegs([15, 16])
    assert player.frames(folder=str(stills), **BY_TIME) == []


def test_a_folder_from_which_the_oldest_are_removed_plays_only_the_new_ones(tmp_path: Path, player: Player) -> None:
    stills = tmp_path / "stills"
    add(stills, range(12))
    player.play(folder=str(stills), **BY_TIME)
    for number in range(6):
        (stills / f"frame{number}.jpg").unlink()
    assert player.frames(folder=str(stills), **BY_TIME) == []
    add(stills, range(12, 18))
    assert player.frames(folder=str(stills), **BY_TIME) == jpegs(range(12, 18))


@pytest.mark.parametrize("rule", [BY_RATE, BY_TIME])
def test_a_folder_that_is_copied_again_with_new_file_times_is_not_played_twice(
    tmp_path: Path, player: Player, rule: dict[str, object]
) -> None:
    stills = tmp_path / "stills"
    add(stills, range(10))
    player.play(folder=str(stills), **rule)
    add(stills, range(10), time_s=TIME_S + 5000)
    assert player.frames(folder=str(stills), **rule) == []
    add(stills, range(10, 13), time_s=TIME_S + 5000)
    assert player.frames(folder=str(stills), **rule) == jpegs([10, 11, 12])


@pytest.mark.parametrize("keep_time", [True, False])
def test_a_picture_that_changes_in_the_middle_is_played_and_the_others_are_not(
    tmp_path: Path, player: Player, keep_time: bool
) -> None:
    stills = tmp_path / "stills"
    add(stills, range(12))
    player.play(folder=str(stills), **BY_RATE)
    changed = jpeg(77).ljust((stills / "frame5.jpg").stat().st_size, b"\0")
    (stills / "frame5.jpg").write_bytes(changed)
    if keep_time:
        os.utime(stills / "frame5.jpg", (TIME_S + 5, TIME_S + 5))
    assert player.frames(folder=str(stills), **BY_RATE) == [changed]
    assert player.frames(folder=str(stills), **BY_RATE) == []


def test_a_run_that_was_stopped_in_an_added_part_continues_there(tmp_path: Path, player: Player) -> None:
    stills = tmp_path / "stills"
    add(stills, range(5, 15))
    player.play(folder=str(stills), **BY_TIME)
    add(stills, range(5))
    add(stills, range(15, 22))
    begun = player.play(folder=str(stills), enough=1, **BY_TIME)
    rest = player.play(folder=str(stills), **BY_TIME)
    frames = [frame for burst in begun + rest for frame in burst.frames]
    assert frames == jpegs([*range(5), *range(15, 22)])


def test_a_last_picture_that_was_half_copied_is_played_when_it_is_whole(tmp_path: Path, player: Player) -> None:
    stills = tmp_path / "stills"
    add(stills, range(6))
    (stills / "frame5.jpg").write_bytes(jpeg(5)[:300])
    assert player.frames(folder=str(stills), **BY_RATE) == jpegs(range(5))
    add(stills, [5])
    assert player.frames(folder=str(stills), **BY_RATE) == [jpeg(5)]


def test_a_new_session_that_was_not_saved_before_the_power_failed_loses_nothing(tmp_path: Path, player: Player) -> None:
    """The footage is written before the position: an old position must not be taken for one in the new footage."""
    stills = tmp_path / "stills"
    add(stills, range(10))
    player.play(folder=str(stills), **BY_RATE)
    old = (tmp_path / "state/recording-gate.json").read_bytes()
    shutil.rmtree(stills)
    add(stills, range(10), prefix="other", shade=20)
    player.play(folder=str(stills), enough=1, **BY_RATE)
    (tmp_path / "state/recording-gate.json").write_bytes(old)
    assert player.frames(folder=str(stills), **BY_RATE) == jpegs(range(20, 30))


@pytest.mark.parametrize("damage", [b"", b"0123456789abcdef\n[]", b"\xff\xfe"])
def test_a_damaged_list_of_the_footage_neither_loses_nor_repeats_a_picture(
    tmp_path: Path, player: Player, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path / "stills", range(10))
    player.play(folder=str(tmp_path / "stills"), enough=1, **BY_RATE)
    (tmp_path / "state/footage-gate").write_bytes(damage)
    assert player.frames(folder=str(tmp_path / "stills"), **BY_RATE) == jpegs(range(4, 10))
    assert "footage_taken_for_the_same camera=gate" in caplog.text


def test_a_name_that_is_not_utf_8_is_played_and_remembered(tmp_path: Path, player: Player) -> None:
    stills = tmp_path / "stills"
    add(stills, range(3))
    Path(os.fsdecode(os.fsencode(stills) + b"/gate \xe4 4.jpg")).write_bytes(jpeg(4))
    assert len(player.frames(folder=str(stills), **BY_RATE)) == 4
    assert player.frames(folder=str(stills), **BY_RATE) == []


def test_a_folder_of_very_many_stills_is_compared_by_reading_few_of_them(
    tmp_path: Path, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    stills = tmp_path / "stills"
    stills.mkdir()
    data = jpeg(1)
    for number in range(2000):
        (stills / f"{number}.jpg").write_bytes(data)
    settings = {**BY_RATE, "burst": BurstSettings(frames=2, spacing_s=1000.0)}
    assert len(player.frames(folder=str(stills), **settings)) == 2
    opened: list[str] = []
    whole_open = Path.open

    def noted_open(path: Path, *arguments: object, **more: object) -> object:
        opened.append(path.name)
        return whole_open(path, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", noted_open)
    assert player.frames(folder=str(stills), **settings) == []
    assert 0 < sum(name.endswith(".jpg") for name in opened) <= 512
    assert {"0.jpg", "1999.jpg"} <= set(opened)


def test_another_video_of_the_same_size_and_rate_is_played_from_the_start(tmp_path: Path, player: Player) -> None:
    """As recorders write them that reserve equal files."""
    for name, pictures in (("a.avi", 20), ("b.avi", 24)):
        make_video(tmp_path / name, pictures=pictures)
        with (tmp_path / name).open("ab") as file:
            file.truncate(300_000)
    first = player.play(video=str(tmp_path / "a.avi"), frames_per_s=10.0, started_at=START)
    second = player.play(video=str(tmp_path / "b.avi"), frames_per_s=10.0, started_at=START)
    assert [sum(len(burst.frames) for burst in bursts) for bursts in (first, second)] == [20, 24]


def test_a_video_that_moved_or_was_copied_is_not_played_twice(tmp_path: Path, player: Player) -> None:
    make_video(tmp_path / "a.avi", pictures=20)
    assert len(player.frames(video=str(tmp_path / "a.avi"), frames_per_s=10.0)) == 20
    shutil.copyfile(tmp_path / "a.avi", tmp_path / "b.avi")
    assert player.frames(video=str(tmp_path / "b.avi"), frames_per_s=10.0) == []


@pytest.mark.parametrize("name", ["long.avi", "long.mkv"])
@pytest.mark.parametrize("frames", [4, 7])
def test_a_video_that_grows_goes_on_where_it_ended(tmp_path: Path, player: Player, name: str, frames: int) -> None:
    make_video(tmp_path / name, pictures=60)
    data = (tmp_path / name).read_bytes()
    settings = {"frames_per_s": 10.0, "started_at": START, "burst": BurstSettings(frames=frames)}
    whole = Player(tmp_path / "other", HandClock())
    (tmp_path / "other").mkdir()
    expected = whole.frames(video=str(tmp_path / name), **settings)
    played: list[bytes] = []
    for part in (0.4, 0.7, 1.0):
        (tmp_path / "now.avi").write_bytes(data[: round(len(data) * part)])
        played += player.frames(video=str(tmp_path / "now.avi"), **settings)
    assert len(played) == 60
    assert sum(frame in expected for frame in played) >= 58, "at most the picture at each cut differs"


def test_a_video_whose_header_is_completed_at_the_end_goes_on_where_it_ended(tmp_path: Path, player: Player) -> None:
    make_video(tmp_path / "whole.avi", pictures=60)
    data = (tmp_path / "whole.avi").read_bytes()
    unfinished = bytearray(data[: len(data) // 2])
    unfinished[4:8] = bytes(4)  # the size in the RIFF header
    (tmp_path / "now.avi").write_bytes(unfinished)
    begun = player.frames(video=str(tmp_path / "now.avi"), frames_per_s=10.0)
    (tmp_path / "now.avi").write_bytes(data)
    assert len(begun) + len(player.frames(video=str(tmp_path / "now.avi"), frames_per_s=10.0)) == 60


def test_a_resent_burst_keeps_its_id_when_footage_grew_or_not(tmp_path: Path, player: Player, clock: HandClock) -> None:
    """The agent is killed after a burst was kept and before the position was saved."""
    stills = tmp_path / "stills"
    add(stills, range(10))
    kept = player.play(folder=str(stills), enough=1, **BY_RATE)
    position = (tmp_path / "state/recording-gate.json").read_bytes()
    kept += player.play(folder=str(stills), **BY_RATE)
    (tmp_path / "state/recording-gate.json").write_bytes(position)
    assert player.play(folder=str(stills), **BY_RATE) == kept[1:]
    (tmp_path / "state/recording-gate.json").write_bytes(position)
    add(stills, range(10, 12))
    again = player.play(folder=str(stills), **BY_RATE)
    assert again[0] == kept[1]
    assert again[1].envelope.burst_id != kept[2].envelope.burst_id, "two frames more: not the burst that was kept"
    assert again[1].frames[:2] == kept[2].frames


def test_a_random_history_of_a_folder_loses_and_repeats_nothing(tmp_path: Path, player: Player) -> None:
    chance = random.Random(7)
    stills, missing = tmp_path / "stills", list(range(60))
    played: list[bytes] = []
    while missing:
        more = sorted(chance.sample(missing, min(len(missing), chance.randint(1, 9))))
        add(stills, more)
        missing = [number for number in missing if number not in more]
        played += player.frames(folder=str(stills), enough=chance.choice([1, 2, 1000]), **BY_TIME)
    played += player.frames(folder=str(stills), **BY_TIME)
    assert sorted(played) == sorted(jpegs(range(60)))
