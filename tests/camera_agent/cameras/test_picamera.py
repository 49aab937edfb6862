"""The Pi's camera, against a stand-in for picamera2 that checks how it is called."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from camera_agent.cameras import factory
from camera_agent.cameras.camera import whole_frame
from camera_agent.cameras.picamera import PiCamera
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.frame import CameraFailure, DamagedPicture, FrameFormat
from tests.camera_agent.conftest import CHECKOUT

PI = Path(__file__).parents[1] / "pi"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in, imported as picamera2 would be, new for each test."""
    monkeypatch.syspath_prepend(str(PI))
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    import picamera2

    yield picamera2
    sys.modules.pop("picamera2")


def camera_of(**settings: object) -> PiCamera:
    camera = factory.live_camera(CameraSettings(name="gate", picamera=0, **settings))  # type: ignore[arg-type]
    assert isinstance(camera, PiCamera)
    return camera


def test_it_is_configured_once_for_any_number_of_frames(library: ModuleType) -> None:
    camera = camera_of()
    camera.open()
    looks = [camera.frame(FrameFormat()) for _ in range(50)]
    camera.close()
    assert [call for call in library.done if call != "frame"] == ["open", "configure", "start", "close"]
    instants = [look.at_s for look in looks]
    assert instants == sorted(instants)
    assert len({look.jpeg for look in looks}) == 50


def test_a_frame_without_its_instant_is_passed_over_and_the_next_one_comes_from_the_same_camera(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = camera_of()
    camera.open()
    metadata = library.Request.get_metadata
    faulty = iter([True, False])
    monkeypatch.setattr(library.Request, "get_metadata", lambda self: {} if next(faulty) else metadata(self))
    damaged: list[DamagedPicture] = []
    assert whole_frame(camera, FrameFormat(), damaged.append).jpeg
    camera.close()
    assert [str(damage) for damage in damaged] == ["the picture cannot be used: KeyError 'SensorTimestamp'"]
    assert library.done.count("open") == 1


def test_the_first_dark_frames_are_skipped(library: ModuleType) -> None:
    camera = camera_of()
    camera.open()
    grey = camera.frame(FrameFormat()).thumbnail
    camera.close()
    assert sum(grey.pixels) / len(grey.pixels) > 50


def test_the_whole_view_is_scaled_to_the_set_width(library: ModuleType) -> None:
    camera = camera_of(max_width=801)
    camera.open()
    image = Image.open(io.BytesIO(camera.frame(FrameFormat(max_width=801)).jpeg))
    camera.close()
    assert (image.format, image.size) == ("JPEG", (800, 602))


def test_masks_are_painted_before_anything_is_encoded(library: ModuleType) -> None:
    camera = camera_of()
    camera.open()
    form = FrameFormat(masks=(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),))
    look = camera.frame(form)
    camera.close()
    assert max(Image.open(io.BytesIO(look.jpeg)).convert("L").tobytes()) < 3
    assert max(look.thumbnail.pixels) == 0


def test_an_unplugged_cable_is_a_hanging_camera_that_can_be_opened_again(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PI_CABLE_OFF_AFTER", "14")
    camera = camera_of(timeout_s=3.0)
    camera.open()
    camera.frame(FrameFormat())
    camera.frame(FrameFormat())
    with pytest.raises(CameraFailure, match="no frame came within 3 s") as failure:
        camera.frame(FrameFormat())
    assert failure.value.cause == "camera_hangs"
    camera.close()
    camera.close()
    monkeypatch.delenv("PI_CABLE_OFF_AFTER")
    camera.open()
    camera.frame(FrameFormat())
    camera.close()


def test_a_camera_that_another_program_uses_is_a_camera_failure(library: ModuleType) -> None:
    other = camera_of()
    other.open()
    with pytest.raises(CameraFailure, match="the camera gave up: Camera __init__ sequence did not complete"):
        camera_of().open()
    other.close()


def test_a_camera_that_the_pi_does_not_see_is_reported_with_what_to_do(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PI_CAMERAS", "0")
    with pytest.raises(CameraFailure, match=r"sees 0 cameras.*check the cable"):
        camera_of().open()


def test_a_missing_library_is_reported_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraFailure, match=r"sudo apt install python3-picamera2.*--system-site-packages"):
        camera_of().open()


def test_the_agent_takes_and_shows_a_burst_of_it(tmp_path: Path, write_settings: Callable[..., Path]) -> None:
    settings = write_settings("picamera = 0\nmax_width = 320\nburst = { frames = 3, spacing_s = 0.5 }")
    run = subprocess.run(
        [sys.executable, "-m", "camera_agent", "once", str(settings), "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT}:{PI}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "3 frames of gate" in run.stdout
    assert Image.open(tmp_path / "out/000.jpg").size == (320, 240)
