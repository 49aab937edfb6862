"""Videos and folders of pictures: each picture comes with its instant."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from camera_agent.cameras.folder import Folder
from camera_agent.cameras.video import Video
from camera_agent.imaging.frame import CameraFailure, FrameFormat
from tests.camera_agent.cameras.test_cameras import brightness
from tests.camera_agent.conftest import jpeg, make_video


def test_a_video_gives_every_picture_in_order_with_its_own_instant(footage: Path) -> None:
    video = Video(footage, FrameFormat(quality=90))
    video.open()
    assert video.duration_s() == pytest.approx(6.0)
    seen = [(picture.number, picture.at_s, brightness(picture.read().jpeg)) for picture in video.pictures()]
    video.close()
    assert [number for number, _, _ in seen] == list(range(60))
    assert [at_s for _, at_s, _ in seen] == pytest.approx([number / 10 for number in range(60)])
    assert [light for _, _, light in seen] == pytest.approx([2 * number for number in range(60)], abs=3)


def test_the_same_picture_of_a_video_has_the_same_bytes_whether_others_were_read_or_not(footage: Path) -> None:
    def bytes_of(wanted: set[int]) -> dict[int, bytes]:
        video = Video(footage, FrameFormat(quality=90))
        video.open()
        jpegs = {picture.number: picture.read().jpeg for picture in video.pictures() if picture.number in wanted}
        video.close()
        return jpegs

    every = bytes_of(set(range(60)))
    assert bytes_of({17, 40}) == {17: every[17], 40: every[40]}


def test_a_wide_video_is_made_smaller(tmp_path: Path) -> None:
    make_video(tmp_path / "wide.avi", pictures=1, width=640, height=480)
    video = Video(tmp_path / "wide.avi", FrameFormat(quality=90, max_width=320))
    video.open()
    sizes = [Image.open(io.BytesIO(picture.read().jpeg)).size for picture in video.pictures()]
    video.close()
    assert sizes == [(320, 240)]


def test_a_file_that_is_no_video_is_a_camera_failure(tmp_path: Path) -> None:
    (tmp_path / "notes.avi").write_text("not a video")
    with pytest.raises(CameraFailure, match="cannot be opened"):
        Video(tmp_path / "notes.avi", FrameFormat(max_width=0)).open()


def folder_of(path: Path, *, pictures_per_s: float | None = None) -> Folder:
    folder = Folder(path, FrameFormat(), pictures_per_s=pictures_per_s)
    folder.open()
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("gate_20260101T070000.250Z.jpg", "gate_20260101T070001Z.jpg"),
        ("2026-01-01T07-00-00.25Z-gate.jpeg", "2026-01-01T07-00-01.000000Z-gate.JPG"),
        ("a 20260101_070000.25Z.jpg", "a 20260101_070001Z.jpg"),
    ],
)
def test_instants_in_names_are_utc_to_the_millisecond(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in reversed(list(enumerate(names))):
        (tmp_path / name).write_bytes(jpeg(number))
    (tmp_path / "notes.txt").write_text("no picture")
    folder = folder_of(tmp_path)
    assert folder.started_ms() == 1_767_250_800_250
    assert [picture.at_s for picture in folder.pictures()] == [0.0, 0.75]
    assert [picture.read().jpeg for picture in folder.pictures()] == [jpeg(0), jpeg(1)]


def test_a_set_rate_overrides_names_and_file_times(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}_20260101T070000Z.jpg").write_bytes(jpeg(number))
    folder = folder_of(tmp_path, pictures_per_s=4.0)
    assert folder.started_ms() is None
    assert [picture.at_s for picture in folder.pictures()] == [0.0, 0.25, 0.5]


def test_without_names_or_rate_the_file_times_count(tmp_path: Path) -> None:
    for number in range(3):
        path = tmp_path / f"{number:03d}.jpg"
        path.write_bytes(jpeg(number))
        os.utime(path, (1_767_250_800 + 2 * number, 1_767_250_800 + 2 * number))
    folder = folder_of(tmp_path)
    assert folder.started_ms() == 1_767_250_800_000
    assert folder.duration_s() == 4.0
    assert [picture.at_s for picture in folder.pictures()] == [0.0, 2.0, 4.0]


def test_instants_that_do_not_increase_with_the_names_are_refused_with_both_names(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(jpeg(number))
        os.utime(path, (1_767_250_800 - number, 1_767_250_800 - number))
    with pytest.raises(CameraFailure, match=r"0\.jpg and 1\.jpg do not increase .* set `pictures_per_s`"):
        folder_of(tmp_path)


def test_an_empty_folder_is_a_camera_failure(tmp_path: Path) -> None:
    with pytest.raises(CameraFailure, match="holds no file"):
        folder_of(tmp_path)
