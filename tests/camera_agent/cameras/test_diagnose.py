"""The message for a camera that cannot be opened, and for an unreachable address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from camera_agent.cameras import diagnose
from camera_agent.cameras.diagnose import open_failure
from camera_agent.cameras.stream import Stream
from camera_agent.imaging.frame import CameraFailure


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A port that gives every connection this answer, or none."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer_all() -> None:
            held = []
            while True:
                try:
                    connection = door.accept()[0]
                except OSError:  # closed
                    return
                held.append(connection)
                if answer is not None:
                    connection.recv(4096)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=answer_all, daemon=True).start()
        yield door.getsockname()[1]
        door.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("answer", "user", "message"),
    [
        (b"RTSP/1.0 401 Unauthorized\r\n\r\n", "", "needs a user and a password"),
        (b"RTSP/1.0 401 Unauthorized\r\n\r\n", "root:pass@", "does not accept this user and password"),
        (b"RTSP/1.0 404 Not Found\r\n\r\n", "", "no stream at /stream2: its manual"),
        (b"RTSP/1.0 200 OK\r\n\r\n", "", "reads no picture there"),
        (b"RTSP/1.0 503 Service Unavailable\r\n\r\n", "", "answers RTSP 503"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "", "does not speak RTSP"),
    ],
)
def test_a_stream_that_cannot_be_opened_says_why(answer: bytes, user: str, message: str) -> None:
    with listening(answer) as port, pytest.raises(CameraFailure, match=message) as caught:
        Stream(f"rtsp://{user}127.0.0.1:{port}/stream2", timeout_s=2.0).open()
    assert caught.value.cause == "camera_failed"
    assert "pass@" not in str(caught.value)


def test_a_camera_that_accepts_the_connection_and_sends_nothing_hangs() -> None:
    with listening(None) as port:
        failure = open_failure(f"rtsp://127.0.0.1:{port}/", timeout_s=0.2)
    assert failure.cause == "camera_hangs"


def test_an_unreachable_address_is_reported_with_what_to_check() -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    assert "nothing listens on port" in str(open_failure(f"rtsp://127.0.0.1:{port}/", timeout_s=1.0))
    assert "nothing listens on port" in str(open_failure(f"http://127.0.0.1:{port}/video", timeout_s=1.0))
    assert "no host is known as camera.invalid" in str(open_failure("rtsp://camera.invalid/", timeout_s=1.0))


def test_a_missing_device_is_reported_with_the_existing_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "_DEVICES", tmp_path)
    assert "nor any other camera" in str(open_failure(3, 1.0))
    (tmp_path / "video0").touch()
    assert f"there is no {tmp_path / 'video3'}; there is {tmp_path / 'video0'}" in str(open_failure(3, 1.0))
    assert "another program uses it" in str(open_failure(0, 1.0))
