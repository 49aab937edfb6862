"""The instants of a video's pictures, and files that are cut short."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import pytest

from camera_agent.cameras.video import Video, _Timeline
from camera_agent.imaging.frame import CameraFailure, FrameFormat
from tests.camera_agent.conftest import AgentProcess, jpeg, make_video, picture
from tests.camera_agent.stand_in import StandIn

UNEVEN_S = [0.05] * 20 + [0.2] * 20 + [0.05] * 20
"""Twenty pictures a second, then five, then twenty: ten a second on average."""


def make_mp4(path: Path, pictures: int, per_s: float = 10.0) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), per_s, (160, 120))
    assert writer.isOpened()
    for index in range(pictures):
        writer.write(picture(index))
    writer.release()


def with_durations(data: bytes, durations_s: list[float]) -> bytes:
    """The MP4 with these durations of its pictures in `stts` (ISO 14496-12, 8.6.1.2); their sum must be as it was."""
    scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    entries = b"".join(struct.pack(">II", 1, round(duration_s * scale)) for duration_s in durations_s)
    table = struct.pack(">I4sII", 16 + len(entries), b"stts", 0, len(durations_s)) + entries
    at = data.index(b"stts") - 4
    old_size = struct.unpack_from(">I", data, at)[0]
    changed = bytearray(data[:at] + table + data[at + old_size :])
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):  # `moov` is behind the pictures: no offset changes
        place = data.rindex(name, 0, at) - 4
        struct.pack_into(">I", changed, place, struct.unpack_from(">I", changed, place)[0] + len(table) - old_size)
    return bytes(changed)


def instants(path: Path, **settings: float) -> list[float]:
    video = Video(path, FrameFormat(), **settings)
    video.open()
    seen = [picture.at_s for picture in video.pictures()]
    video.close()
    return seen


def shortfall(path: Path) -> str:
    video = Video(path, FrameFormat())
    video.open()
    for _ in video.pictures():
        pass
    text = video.shortfall()
    video.close()
    return text


def test_a_picture_of_an_uneven_video_has_its_own_time_stamp(tmp_path: Path) -> None:
    make_mp4(tmp_path / "even.mp4", 60)
    (tmp_path / "uneven.mp4").write_bytes(with_durations((tmp_path / "even.mp4").read_bytes(), UNEVEN_S))
    expected = [math.fsum(UNEVEN_S[:number]) for number in range(60)]
    assert instants(tmp_path / "uneven.mp4") == pytest.approx(expected, abs=0.001)
    assert shortfall(tmp_path / "uneven.mp4") == ""


def test_a_rate_that_is_set_counts_more_than_the_time_stamps(tmp_path: Path) -> None:
    make_mp4(tmp_path / "even.mp4", 60)
    (tmp_path / "uneven.mp4").write_bytes(with_durations((tmp_path / "even.mp4").read_bytes(), UNEVEN_S))
    assert instants(tmp_path / "uneven.mp4", pictures_per_s=5.0) == [number / 5 for number in range(60)]


@pytest.mark.parametrize("rate", [10.0, 30000 / 1001, 25.0, 12.5])
@pytest.mark.parametrize("kind", ["avi", "mkv", "mp4"])
def test_an_even_video_is_timed_by_its_rate_to_the_last_digit(tmp_path: Path, kind: str, rate: float) -> None:
    path = tmp_path / f"even.{kind}"
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*("mp4v" if kind == "mp4" else "MJPG")), rate, (160, 120)
    )
    for index in range(90):
        writer.write(picture(index))
    writer.release()
    named = cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS)
    assert instants(path) == [number / named for number in range(90)]


def test_the_footage_of_the_project_is_timed_by_its_rate_to_the_last_digit(vtest: str) -> None:
    assert instants(Path(vtest)) == [number / 10 for number in range(795)]


def test_a_file_of_bare_pictures_has_the_rate_that_ffmpeg_gives(tmp_path: Path) -> None:
    (tmp_path / "raw.mjpeg").write_bytes(b"".join(jpeg(number) for number in range(30)))
    assert instants(tmp_path / "raw.mjpeg") == [number / 25 for number in range(30)]


def timed(stamps_s: list[float], rate: float = 10.0) -> tuple[list[float], int]:
    timeline = _Timeline(rate)
    return [timeline.at_s(number, stamp_s) for number, stamp_s in enumerate(stamps_s)], timeline.replaced


@pytest.mark.parametrize(
    ("stamps_s", "expected", "replaced"),
    [
        ([0.0] * 4, [0.0, 0.1, 0.2, 0.3], 3),
        ([math.nan] * 3, [0.0, 0.1, 0.2], 2),
        ([0.0, 0.4, 0.4, 0.9], [0.0, 0.4, 0.5, 0.9], 1),
        ([0.0, 0.4, 0.3, 0.9], [0.0, 0.4, 0.5, 0.9], 1),
        ([5.0, 5.3, 5.9], [0.0, 0.3, 0.9], 0),
        ([0.0, 3.0, 6.0, 0.0, 3.0, 6.0], [0.0, 3.0, 6.0, 6.1, 9.1, 12.1], 1),
        ([0.0, 3.0, 9e9, 9e9 + 3], [0.0, 3.0, 3.1, 6.1], 1),
        ([0.0, 3.0, math.inf, 6.0], [0.0, 3.0, 3.1, 6.0], 1),
        ([0.0, 3600.0, 3600.5], [0.0, 3600.0, 3600.5], 0),
    ],
    ids=["none", "no number", "repeated", "back a little", "late start", "joined", "leap", "infinite", "pause"],
)
def test_stamps_become_rising_instants(stamps_s: list[float], expected: list[float], replaced: int) -> None:
    assert timed(stamps_s) == (pytest.approx(expected), replaced)


def test_a_thousand_pictures_without_stamps_are_timed_by_the_rate() -> None:
    assert timed([0.0] * 1000)[0] == pytest.approx([number / 10 for number in range(1000)])


def test_time_stamps_that_do_not_increase_are_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_mp4(tmp_path / "even.mp4", 60)
    stopped = [0.1] * 20 + [0.0] * 5 + [0.6] + [0.1] * 34
    (tmp_path / "a.mp4").write_bytes(with_durations((tmp_path / "even.mp4").read_bytes(), stopped))
    seen = instants(tmp_path / "a.mp4")
    assert all(earlier < later for earlier, later in pairwise(seen))
    assert seen[-1] == pytest.approx(5.9)
    assert caplog.text.count("video_stamps_unusable") == 1


def test_a_video_without_a_usable_rate_is_timed_by_its_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers write WebM with a rate of 1000: that is their clock."""
    make_mp4(tmp_path / "even.mp4", 60)
    (tmp_path / "a.mp4").write_bytes(with_durations((tmp_path / "even.mp4").read_bytes(), UNEVEN_S))
    monkeypatch.setattr("camera_agent.cameras.video._MAX_RATE", 10.0)
    expected = [math.fsum(UNEVEN_S[:number]) for number in range(60)]
    assert instants(tmp_path / "a.mp4") == pytest.approx(expected, abs=0.001)
    monkeypatch.setattr("camera_agent.cameras.video._MAX_RATE", 5.0)
    with pytest.raises(CameraFailure, match="no usable rate and no time stamps: set `pictures_per_s`"):
        instants(tmp_path / "a.mp4")


@pytest.mark.parametrize("part", [0.5, 0.9])
@pytest.mark.parametrize("kind", ["avi", "mkv"])
def test_a_video_that_is_cut_off_has_less_than_its_header_promises(tmp_path: Path, kind: str, part: float) -> None:
    make_video(tmp_path / f"whole.{kind}", pictures=60)
    data = (tmp_path / f"whole.{kind}").read_bytes()
    assert shortfall(tmp_path / f"whole.{kind}") == ""
    cut = tmp_path / f"cut.{kind}"
    cut.write_bytes(data[: round(len(data) * part)])
    text = shortfall(cut)
    assert text.startswith("the video ends after ")
    assert "its header promises 6.0 s and 60 pictures" in text
    assert f"of {len(data):,} bytes" in text


def test_a_video_whose_second_half_was_not_copied_into_the_reserved_space_is_cut_short(tmp_path: Path) -> None:
    make_video(tmp_path / "a.avi", pictures=60)
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    assert "its header promises 6.0 s and 60 pictures" in shortfall(tmp_path / "a.avi")


def test_an_mp4_whose_index_comes_first_and_that_is_cut_off_is_cut_short(tmp_path: Path) -> None:
    make_mp4(tmp_path / "a.mp4", 60)
    data = (tmp_path / "a.mp4").read_bytes()
    at = data.index(b"moov") - 4
    head, pictures, index = data[:0x1C], data[0x1C:at], bytearray(data[at:])
    chunks = index.index(b"stco") + 4
    count = struct.unpack_from(">I", index, chunks + 4)[0]
    for number in range(count):
        place = chunks + 8 + 4 * number
        struct.pack_into(">I", index, place, struct.unpack_from(">I", index, place)[0] + len(index))
    first = head + bytes(index) + pictures
    (tmp_path / "a.mp4").write_bytes(first)
    assert shortfall(tmp_path / "a.mp4") == ""
    (tmp_path / "a.mp4").write_bytes(first[: len(first) * 2 // 3])
    assert f"of {len(first):,} bytes" in shortfall(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(CameraFailure, match="is the file whole"):
        shortfall(tmp_path / "a.mp4")


def test_an_agent_that_plays_a_file_that_is_cut_short_says_so_and_ends_with_1(
    tmp_path: Path, write_settings: Callable[..., Path], start_agent: Callable[..., AgentProcess], server: StandIn
) -> None:
    make_video(tmp_path / "a.avi", pictures=60)
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(data[: len(data) // 2])
    settings = write_settings(f'video = "{tmp_path}/a.avi"\nspeed = 0\nframes_per_s = 10')
    agent = start_agent("run", settings)
    assert agent.wait() == 1
    line = agent.wait_for_line("footage_cut_short camera=gate")
    assert "its header promises 6.0 s and 60 pictures" in line
    played = sum(len(seen.frames) for seen in server.bursts.values())
    assert 20 < played < 40
    (tmp_path / "a.avi").write_bytes(data)
    assert start_agent("run", settings).wait() == 0
    assert sum(len(seen.frames) for seen in server.bursts.values()) == 60
