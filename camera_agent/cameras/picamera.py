"""The one door to picamera2: the camera on the ribbon cable of a Raspberry Pi.

The camera is configured once and runs until it is closed: switching its mode for each picture is what fragments
memory and upsets the exposure (raspberrypi/picamera2#1125, #1130). A few frames are let go by first, in which exposure
and white balance settle. picamera2 and libcamera are packages of the system, not of the index; nothing here is
loaded before such a camera is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from camera_agent.imaging.failure import CameraFailure
from camera_agent.imaging.frame import Look
from camera_agent.imaging.masks import Form
from camera_agent.imaging.pillow import encoded

if TYPE_CHECKING:
    from picamera2 import Picamera2

_SETTLE_FRAMES = 12
_FRAME_US = (100_000, 200_000)
"""Ten frames a second, in the dark half as many: what the burst does not need costs nothing."""
_BUFFERS = 3
_HOW_TO_GET_IT = (
    "picamera2 is not installed in this environment: `sudo apt install python3-picamera2`, and make the environment"
    " with `python3 -m venv --system-site-packages` (deploy/install-agent does both)"
)


class PiCamera:
    """`still()` gives a frame whose exposure began after the call."""

    def __init__(self, number: int, *, max_width: int, timeout_s: float) -> None:
        self._number = number
        self._max_width = max_width
        self._timeout_s = timeout_s
        self._camera: Picamera2 | None = None

    def open(self) -> None:
        """Configure, start, and let exposure and white balance settle. Raises `CameraFailure`."""
        library = _library()
        known = library.global_camera_info()
        if self._number >= len(known):
            raise CameraFailure(
                f"the Pi sees {len(known)} cameras, and number {self._number} is not among them: mind the cable,"
                " and `rpicam-hello --list-cameras`"
            )
        try:
            camera = self._camera = library(self._number)
            camera.configure(
                camera.create_video_configuration(
                    main={"size": self._size(*camera.sensor_resolution), "format": "RGB888"},
                    buffer_count=_BUFFERS,
                    queue=False,
                    controls={"FrameDurationLimits": _FRAME_US},
                )
            )
            camera.start()
            for _ in range(_SETTLE_FRAMES):
                camera.capture_metadata(wait=self._timeout_s)
        except _FAULTS as error:
            raise _failure(error, self._timeout_s) from error

    def still(self, form: Form) -> Look:
        """Raises `CameraFailure` when the camera gives nothing in time."""
        if self._camera is None:
            raise CameraFailure("the camera is not open")
        try:
            request = self._camera.capture_request(wait=self._timeout_s, flush=True)
            try:
                picture = request.make_image("main")
                at_s = request.get_metadata()["SensorTimestamp"] / 1e9
            finally:
                request.release()  # else its buffer is lost to the camera
        except _FAULTS as error:
            raise _failure(error, self._timeout_s) from error
        jpeg, grey = encoded(picture.convert("RGB"), form)
        return Look(jpeg=jpeg, at_s=at_s, grey=grey)

    def close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is None:
            return
        try:
            camera.cancel_all_and_flush()  # a capture that timed out would else be waited for
            camera.close()
        except _FAULTS as error:
            raise _failure(error, self._timeout_s) from error

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """The whole view of the sensor, not wider than asked, in even numbers."""
        wanted = min(width, self._max_width or width)
        return wanted // 2 * 2, round(height * wanted / width / 2) * 2


_FAULTS = (RuntimeError, OSError, ValueError, IndexError, KeyError)
"""What the library and libcamera raise; a wait that ends is `TimeoutError`, which is an `OSError`."""


def _failure(error: Exception, timeout_s: float) -> CameraFailure:
    if isinstance(error, TimeoutError):
        return CameraFailure(f"no frame came within {timeout_s:g} s", "camera_hangs")
    return CameraFailure(f"the camera gave up: {error}")


def _library() -> Any:
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise CameraFailure(f"{_HOW_TO_GET_IT} ({error})") from error
    return Picamera2
