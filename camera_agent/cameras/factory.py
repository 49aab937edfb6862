"""From a camera's settings to the camera. The module of each kind is imported here, when it is needed."""

from __future__ import annotations

from pathlib import Path

from camera_agent.cameras.camera import Camera, Recording
from camera_agent.config.settings import CameraSettings


def live_camera(settings: CameraSettings) -> Camera:
    """The live camera that `settings` describe, not yet opened."""
    if settings.snapshot is not None:
        from camera_agent.cameras.snapshot import Snapshot

        return Snapshot(
            settings.snapshot,
            timeout_s=settings.timeout_s,
            trust=settings.trust,
            redirect_hosts=settings.redirect_hosts,
        )
    if settings.mjpeg is not None:
        from camera_agent.cameras.mjpeg import MotionJpeg

        return MotionJpeg(
            settings.mjpeg, timeout_s=settings.timeout_s, trust=settings.trust, redirect_hosts=settings.redirect_hosts
        )
    if settings.picamera is not None:
        from camera_agent.cameras.picamera import PiCamera

        return PiCamera(settings.picamera, max_width=settings.max_width, timeout_s=settings.timeout_s)
    from camera_agent.cameras.stream import Stream

    source = settings.rtsp if settings.device is None else settings.device
    if source is None:
        raise ValueError(f"camera {settings.name!r} is not live")
    return Stream(source, timeout_s=settings.timeout_s, trust=settings.trust)


def recording(settings: CameraSettings) -> Recording:
    """The recording that `settings` describe, not yet opened."""
    if settings.folder is not None:
        from camera_agent.cameras.folder import Folder

        return Folder(Path(settings.folder), settings.frame_format, pictures_per_s=settings.pictures_per_s)
    if settings.video is None:
        raise ValueError(f"camera {settings.name!r} is not a recording")
    from camera_agent.cameras.video import Video

    return Video(Path(settings.video), settings.frame_format, pictures_per_s=settings.pictures_per_s)
