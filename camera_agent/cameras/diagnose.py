"""Why OpenCV could not open a camera. OpenCV does not say, so the same is tried by simpler means."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from camera_agent.imaging.frame import CameraFailure
from camera_agent.network.connection_errors import explain_connection_error, host_and_port

_DEVICES = Path("/dev")
_MAX_TIMEOUT_S = 3.0
_STATUS = re.compile(rb"RTSP/1\.\d (\d{3})")


def open_failure(source: int | str, timeout_s: float) -> CameraFailure:
    """What is wrong with a device (by number) or a stream (by address)."""
    reason = _device_fault(source) if isinstance(source, int) else None
    if isinstance(source, str):
        try:
            reason = _stream_fault(source, min(timeout_s, _MAX_TIMEOUT_S))
        except TimeoutError:
            return CameraFailure(
                "no answer from the camera: is it switched on and reachable? Else restart it", "camera_hangs"
            )
        except OSError as error:
            reason = explain_connection_error(error, source)
    return CameraFailure(reason or "cannot be opened: OpenCV reads no picture there, or another program uses it")


def _device_fault(number: int) -> str | None:
    node = _DEVICES / f"video{number}"
    if not node.exists():
        others = sorted(str(path) for path in _DEVICES.glob("video*"))
        advice = f"there is {', '.join(others)}" if others else "nor any other camera: check the cable, and `lsusb`"
        return f"cannot be opened: there is no {node}; {advice}"
    if not os.access(node, os.R_OK | os.W_OK):
        return f"cannot be opened: this user may not use {node}: `sudo usermod -aG video $USER`, and log in again"
    return None


def _stream_fault(address: str, timeout_s: float) -> str | None:
    """Connect and, for RTSP, ask for the stream's description (RFC 2326, section 10.2) without the password.

    Raises `OSError`.
    """
    parts = urlsplit(address)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    with socket.create_connection(host_and_port(address), timeout_s) as connection:
        if parts.scheme != "rtsp":
            return None
        connection.sendall(f"DESCRIBE {bare} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
        match = _STATUS.match(connection.recv(256))
    if match is None:
        return f"port {host_and_port(address)[1]} does not speak RTSP"
    status = int(match[1])
    if status == 401:
        return (
            "the camera does not accept this user and password"
            if parts.username
            else "the camera needs a user and a password: rtsp://user:password@host/path"
        )
    if status == 404:
        return f"the camera has no stream at {parts.path or '/'}: its manual names the path"
    return None if status == 200 else f"the camera answers RTSP {status}"
