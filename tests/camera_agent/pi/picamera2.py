"""A stand-in for picamera2 that keeps the rules of its manual, as far as the agent uses it.

With this folder in the path, it is imported as `picamera2`. It counts calls, holds as many frames as it has buffers,
and is dark until its exposure has settled. The number of cameras and their faults come from the environment, so that an
agent process can get them too.
"""

from __future__ import annotations

import os
import time
from typing import Any

from PIL import Image

SENSOR = (3280, 2464)
SETTLED_AFTER = 8
FRAME_S = 0.005
done: list[str] = []
"""What was called, of any camera, in order."""


class Request:
    """A frame, which holds a buffer of its camera until it is released."""

    def __init__(self, camera: Picamera2, number: int, at_s: float) -> None:
        self._camera = camera
        self._number = number
        self._at_s = at_s
        self._is_released = False

    def get_metadata(self) -> dict[str, Any]:
        return {"SensorTimestamp": round(self._at_s * 1e9), "ExposureTime": 1000}

    def make_image(self, name: str) -> Image.Image:
        stream = self._camera.configuration[name]
        assert stream["format"] == "RGB888"
        level = 120 if self._number >= SETTLED_AFTER else 10
        image = Image.new("RGB", stream["size"], (level, level // 2, 0))
        image.paste((255, 255, 255), (self._number % 200, 0, self._number % 200 + 60, 60))
        return image

    def release(self) -> None:
        if self._is_released:
            raise RuntimeError("CompletedRequest: lock now has negative ref_count")
        self._is_released = True
        self._camera.free_buffers += 1


class Picamera2:
    """One camera. A second object of the same number cannot be made while it is open."""

    open_numbers: set[int] = set()  # noqa: RUF012 - the state of the machine

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return [{"Model": "imx219", "Num": number} for number in range(int(os.environ.get("PI_CAMERAS", "1")))]

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num in self.open_numbers:
            raise RuntimeError("Camera __init__ sequence did not complete.")
        done.append("open")
        self.open_numbers.add(camera_num)
        self._number = camera_num
        self.sensor_resolution = SENSOR
        self.configuration: dict[str, Any] = {}
        self.free_buffers = 0
        self._frames = 0
        self._is_started = False
        self._is_waited_for = False

    def create_video_configuration(
        self, main: dict[str, Any], buffer_count: int, queue: bool, controls: dict[str, Any]
    ) -> dict[str, Any]:
        width, height = main["size"]
        if width % 2 or height % 2:
            raise RuntimeError("width and height should be even")
        return {"main": main, "buffer_count": buffer_count, "queue": queue, "controls": controls}

    def configure(self, configuration: dict[str, Any]) -> None:
        if self._is_started:
            raise RuntimeError("Camera must be stopped before configuring")
        done.append("configure")
        self.configuration = configuration
        self.free_buffers = configuration["buffer_count"]

    def start(self) -> None:
        if not self.configuration:
            raise RuntimeError("Camera has not been configured")
        done.append("start")
        self._is_started = True

    def capture_metadata(self, wait: float) -> dict[str, Any]:
        request = self.capture_request(wait=wait)
        request.release()
        return request.get_metadata()

    def capture_request(self, wait: float, flush: bool | None = None) -> Request:
        """A frame as of now. Without a free buffer, or without its cable, none comes."""
        del flush
        done.append("frame")
        is_off = self._frames >= int(os.environ.get("PI_CABLE_OFF_AFTER", "1000000"))
        if not self._is_started or not self.free_buffers or is_off:
            self._is_waited_for = True
            raise TimeoutError
        del wait
        self.free_buffers -= 1
        self._frames += 1
        return Request(self, self._frames, time.monotonic() + FRAME_S)

    def cancel_all_and_flush(self) -> None:
        self._is_waited_for = False

    def close(self) -> None:
        assert not self._is_waited_for, "a job is still waited for: the real library would hang here"
        done.append("close")
        self._is_started = False
        self.open_numbers.discard(self._number)
