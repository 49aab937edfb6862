"""The camera on the ribbon cable of a Raspberry Pi, through picamera2.

The camera is configured once and runs until it is closed: switching its mode for each picture fragments memory and
upsets the exposure (raspberrypi/picamera2#1125, #1130). The first frames are skipped until exposure and white balance
have settled. picamera2 and libcamera are system packages; they are imported when such a camera is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from camera_agent.imaging.frame import CameraFailure, DamagedPicture, Frame, FrameFormat
from camera_agent.imaging.pillow import encode_image

if TYPE_CHECKING:
    from picamera2 import Picamera2

_SETTLE_FRAMES = 12
_FRAME_US = (100_000, 200_000)
"""Ten frames a second, five in the dark: bursts need no more."""
_BUFFERS = 3
_HOW_TO_GET_IT = (
    "picamera2 is not installed in this environment: `sudo apt install python3-picamera2`, and make the environment"
    " with `python3 -m venv --system-site-packages` (deploy/install-agent does both)"
)


class PiCamera:
    """`frame()` gives a picture whose exposure began after the call."""

    def __init__(self, number: int, *, max_width: int, timeout_s: float) -> None:
        self._number = number
        self._max_width = max_width
        self._timeout_s = timeout_s
        self._camera: Picamera2 | None = None

    def open(self) -> None:
        """Configure, start, and let exposure and white balance settle. Raises `CameraFailure`."""
        try:
            from picamera2 import Picamera2
        except ImportError as error:
            raise CameraFailure(f"{_HOW_TO_GET_IT} ({error})") from error
        cameras = Picamera2.global_camera_info()
        if self._number >= len(cameras):
            raise CameraFailure(
                f"the Pi sees {len(cameras)} cameras, and number {self._number} is not among them: check the cable,"
                " and `rpicam-hello --list-cameras`"
            )
        try:
            camera = self._camera = Picamera2(self._number)
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

    def frame(self, frame_format: FrameFormat) -> Frame:
        """Raises `CameraFailure` when no picture comes in time, `DamagedPicture` for one that cannot be used."""
        if self._camera is None:
            raise CameraFailure("the camera is not open")
        try:
            request = self._camera.capture_request(wait=self._timeout_s, flush=True)
            try:
                picture = request.make_image("main")
                at_s = request.get_metadata()["SensorTimestamp"] / 1e9
            except _UNUSABLE as error:
                raise DamagedPicture(f"the picture cannot be used: {type(error).__name__} {error}") from error
            finally:
                request.release()  # else the camera loses this buffer
        except _FAULTS as error:
            raise _failure(error, self._timeout_s) from error
        return Frame.of(encode_image(picture.convert("RGB"), frame_format), at_s)

    def close(self) -> None:
        camera, self._camera = self._camera, None
        if camera is None:
            return
        try:
            camera.cancel_all_and_flush()  # else `close` waits for a capture that timed out
            camera.close()
        except _FAULTS as error:
            raise _failure(error, self._timeout_s) from error

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """The whole view of the sensor, at most `max_width` wide, in even numbers."""
        sent_width = min(width, self._max_width or width)
        return sent_width // 2 * 2, round(height * sent_width / width / 2) * 2


_FAULTS = (RuntimeError, OSError, ValueError, IndexError, KeyError)
"""What picamera2 and libcamera raise; a wait that times out raises `TimeoutError`, which is an `OSError`."""


_UNUSABLE = (ValueError, IndexError, KeyError)
"""What a buffer of another size, or metadata without an instant, comes to."""


def _failure(error: Exception, timeout_s: float) -> CameraFailure:
    if isinstance(error, TimeoutError):
        return CameraFailure(f"no frame came within {timeout_s:g} s", "camera_hangs")
    return CameraFailure(f"the camera gave up: {error}")
