"""Which files of a folder are pictures, and their order."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from camera_agent.cameras.folder import Folder
from camera_agent.cameras.stills import listed, sort_key
from camera_agent.imaging.frame import FrameFormat
from tests.camera_agent.conftest import jpeg


@pytest.mark.parametrize(
    "names",
    [
        [f"frame{number}.jpg" for number in range(1, 13)],
        ["frame_9998.jpg", "frame_9999.jpg", "frame_10000.jpg", "frame_10001.jpg"],
        ["007.jpg", "8.jpg", "0009.jpg", "10.jpg"],
        ["IMG_1.JPG", "img_2.jpeg", "IMG_10.Jpg", "img_11.JPEG"],
        ["cam2_9_1.jpg", "cam2_9_10.jpg", "cam2_10_2.jpg", "cam10_1_1.jpg"],
        ["frame.jpg", "frame1.jpg", "frame2.jpg"],
        ["2026-11-9 7-05.jpg", "2026-11-9 12-00.jpg", "2026-11-10 1-00.jpg"],
        ["gate_20261122T070000.9Z.jpg", "gate_20261122T070001Z.jpg", "gate_20261122T070010.1Z.jpg"],
        ["1767250800.123456.jpg", "1767250800.25.jpg", "1767250800.5.jpg", "1767250801.jpg"],
        ["cam1.9.jpg", "cam1.10.jpg", "cam1.11.jpg"],
        ["t_-10.jpg", "t_-2.jpg", "t_0.jpg", "t_1.jpg"],
        ["gate-1.jpg", "gate-2.jpg", "gate-10.jpg"],
    ],
    ids=lambda names: names[0],
)
def test_numbers_in_names_are_compared_as_numbers(names: list[str]) -> None:
    shuffled = names[:]
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=sort_key) == names


def test_stills_without_leading_zeros_are_played_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in range(1, 13):
        (tmp_path / f"frame{number}.jpg").write_bytes(jpeg(number))
    folder = Folder(tmp_path, FrameFormat(), pictures_per_s=2.0)
    folder.open()
    assert [picture.read().jpeg for picture in folder.pictures()] == [jpeg(number) for number in range(1, 13)]


def test_file_times_that_rise_with_the_numbers_are_not_refused(tmp_path: Path) -> None:
    for number in range(1, 13):
        (tmp_path / f"frame{number}.jpg").write_bytes(jpeg(number))
        os.utime(tmp_path / f"frame{number}.jpg", (1_767_250_800 + number, 1_767_250_800 + number))
    folder = Folder(tmp_path, FrameFormat())
    folder.open()
    assert [picture.at_s for picture in folder.pictures()] == [float(second) for second in range(12)]


def test_hidden_files_and_leftovers_of_editors_and_copying_programs_are_no_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["20261122T070000Z.jpg", "20261122T070001Z.JPG", "20261122T070002Z.jpeg"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(jpeg(number))
        (tmp_path / f"._{name}").write_bytes(b"\0\5\x16\7" + bytes(4092))
    for leftover in (
        *(".#20261122T070000Z.jpg", ".20261122T070000Z.jpg.swp", "20261122T070000Z.jpg~", "#20261122T070000Z.jpg#"),
        *(
            "~$20261122T070000Z.jpg",
            "a.jpg.part",
            "a.jpg.tmp",
            "a.jpg.crdownload",
            "Thumbs.db",
            ".DS_Store",
            "a.jpg.filepart",
        ),
    ):
        (tmp_path / leftover).write_bytes(b"no picture")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    caplog.set_level("INFO")
    assert [still.name for still in listed(tmp_path)] == names
    assert "names_passed_over" in caplog.text
    folder = Folder(tmp_path, FrameFormat())
    folder.open()
    assert [picture.at_s for picture in folder.pictures()] == [0.0, 1.0, 2.0]


def test_one_name_without_an_instant_makes_the_file_times_count_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate(["20261122T070000Z.jpg", "20261122T070001Z.jpg", "20261122T0700.jpg"]):
        (tmp_path / name).write_bytes(jpeg(number))
    for number, still in enumerate(listed(tmp_path)):
        os.utime(tmp_path / still.name, (1_767_250_800 + number, 1_767_250_800 + number))
    Folder(tmp_path, FrameFormat()).open()
    assert "file_times_used" in caplog.text
    assert "without=1 such_as=20261122T0700.jpg" in caplog.text
