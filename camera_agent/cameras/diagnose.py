"""Why OpenCV could not open a camera, which it does not say: the same is tried in small, and told in words."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

from camera_agent.imaging.failure import CameraFailure
from camera_agent.network.connection_errors import address_of, why_unreached

_DEVICES = Path("/dev")
_PATIENCE_S = 3.0
_STATUS = re.compile(rb"RTSP/1\.\d (\d{3})")


def why_not(source: int | str, timeout_s: float) -> CameraFailure:
    """What is the matter with a device's number or a stream's address."""
    why = _no_device(source) if isinstance(source, int) else None
    if isinstance(source, str):
        try:
            why = _no_stream(source, min(timeout_s, _PATIENCE_S))
        except TimeoutError:
            return CameraFailure("no answer from the camera: is it on, and in reach? Else restart it", "camera_hangs")
        except OSError as error:
            why = why_unreached(error, source)
    return CameraFailure(why or "cannot be opened: OpenCV reads no picture there, or something else holds it")


def _no_device(number: int) -> str | None:
    node = _DEVICES / f"video{number}"
    if not node.exists():
        others = sorted(str(path) for path in _DEVICES.glob("video*"))
        found = f"there is {', '.join(others)}" if others else "nor any other camera: mind the cable, and `lsusb`"
        return f"cannot be opened: there is no {node}; {found}"
    if not os.access(node, os.R_OK | os.W_OK):
        return f"cannot be opened: this user may not use {node}: `sudo usermod -aG video $USER`, and log in again"
    return None


def _no_stream(address: str, timeout_s: float) -> str | None:
    """Connect and, with RTSP, ask for the stream's description (RFC 2326, section 10.2), without the password. Raises
    `OSError`.
    """
    parts = urlsplit(address)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    with socket.create_connection(address_of(address), timeout_s) as door:
        if parts.scheme != "rtsp":
            return None
        door.sendall(f"DESCRIBE {bare} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
        said = _STATUS.match(door.recv(256))
    if said is None:
        return f"what listens on port {address_of(address)[1]} does not speak RTSP"
    status = int(said[1])
    if status == 401:
        return (
            "the camera does not take this user and password"
            if parts.username
            else "the camera wants a user and a password: rtsp://user:password@host/path"
        )
    if status == 404:
        return f"the camera has no stream at {parts.path or '/'}: its manual names the path"
    return None if status == 200 else f"the camera answers RTSP {status}"
