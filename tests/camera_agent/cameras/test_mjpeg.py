"""Motion JPEG without OpenCV, against an HTTP server with the variations of real cameras."""

from __future__ import annotations

import base64
import itertools
import subprocess
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler

import pytest

from camera_agent.cameras import factory
from camera_agent.cameras.camera import whole_frame
from camera_agent.cameras.mjpeg import MotionJpeg, PictureStream
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.frame import CameraFailure, DamagedPicture, FrameFormat
from camera_agent.network.certificates import PUBLIC
from tests.camera_agent.cameras.test_cameras import serving
from tests.camera_agent.conftest import CHECKOUT, jpeg

Respond = Callable[[BaseHTTPRequestHandler], None]


def camera_at(url: str, *, timeout_s: float = 5.0) -> MotionJpeg:
    camera = factory.live_camera(CameraSettings(name="gate", mjpeg=url, timeout_s=timeout_s))
    assert isinstance(camera, MotionJpeg)
    camera.open()
    return camera


def head_of(handler: BaseHTTPRequestHandler, content_type: str = "multipart/x-mixed-replace; boundary=part") -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", content_type)
    handler.end_headers()


def part(body: bytes, *, boundary: bytes = b"--part", length: bool = True) -> bytes:
    length_line = b"Content-Length: %d\r\n" % len(body) if length else b""
    return boundary + b"\r\nContent-Type: image/jpeg\r\n" + length_line + b"\r\n" + body + b"\r\n"


def pictures_of(respond: Respond) -> list[bytes]:
    """Every picture of a stream that ends."""
    with serving(respond) as url:
        stream = PictureStream(url, 5.0, PUBLIC)
        pictures = []
        while stream.advance():
            pictures.append(stream.picture())
        stream.release()
    return pictures


def counting(over: threading.Event, *, every_s: float = 0.005) -> Respond:
    """Pictures that grow brighter, sent faster than the test asks for them."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        head_of(handler)
        for number in range(100_000):
            handler.wfile.write(part(jpeg(number % 100)))
            if over.wait(every_s):
                return

    return respond


def test_it_gives_the_newest_picture_unchanged() -> None:
    over, made = threading.Event(), {jpeg(number) for number in range(100)}
    with serving(counting(over)) as url:
        camera = camera_at(url)
        looks = [camera.frame(FrameFormat()) for _ in range(6)]
        camera.close()
        camera.close()
        over.set()
    instants = [look.at_s for look in looks]
    assert instants == sorted(set(instants))
    assert all(look.jpeg in made for look in looks)


TYPES = [
    "multipart/x-mixed-replace;boundary=part",
    'multipart/x-mixed-replace; boundary="part"',
    "multipart/x-mixed-replace; boundary=--part",
    "Multipart/X-Mixed-Replace; boundary=part; charset=x",
    "multipart/x-mixed-replace; Boundary=part",
    "multipart/x-mixed-replace; BOUNDARY = 'part'",
    "multipart/x-mixed-replace; boundary=another",
    "multipart/x-mixed-replace; boundary=",
    "multipart/x-mixed-replace",
    "multipart/mixed; boundary=part",
    "video/x-motion-jpeg",
    "application/octet-stream",
    "",
]


@pytest.mark.parametrize("with_length", [True, False])
@pytest.mark.parametrize("content_type", TYPES)
def test_every_picture_is_read_whatever_the_answer_says_of_its_type(content_type: str, *, with_length: bool) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        head_of(handler, content_type)
        for number in range(40):
            handler.wfile.write(part(jpeg(number), length=with_length))

    assert pictures_of(respond) == [jpeg(number) for number in range(40)]


def chunked(handler: BaseHTTPRequestHandler, pieces: Iterable[bytes]) -> None:
    for piece in [*pieces, b""]:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "X-GZIP", "identity"])
@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_stream_that_a_proxy_compresses_is_read(coding: str, *, is_chunked: bool) -> None:
    """Each part is flushed, as a proxy does that passes a stream on."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        handler.send_header("Content-Encoding", coding)
        handler.send_header("Transfer-Encoding" if is_chunked else "Connection", "chunked" if is_chunked else "close")
        handler.end_headers()
        packer = zlib.compressobj(wbits=31 if "gzip" in coding.lower() else 15)
        parts = [part(jpeg(number)) for number in range(40)]
        if coding != "identity":
            parts = [packer.compress(each) + packer.flush(zlib.Z_SYNC_FLUSH) for each in parts] + [packer.flush()]
        if is_chunked:
            chunked(handler, parts)
        else:
            handler.wfile.write(b"".join(parts))
            handler.close_connection = True

    assert pictures_of(respond) == [jpeg(number) for number in range(40)]


def test_a_damaged_picture_does_not_end_the_stream() -> None:
    """Of fifty pictures asked for, each is whole, though every fifth one is cut off."""
    over = threading.Event()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        head_of(handler)
        for number in itertools.count():
            handler.wfile.write(part(jpeg(number)[: -300 if number % 5 == 4 else None]))
            if over.wait(0.002):
                return

    opened: list[str] = []
    damaged: list[DamagedPicture] = []
    with serving(lambda handler: (opened.append(handler.path), respond(handler))[1]) as url:
        camera = camera_at(url)
        frames = [whole_frame(camera, FrameFormat(), damaged.append) for _ in range(50)]
        camera.close()
        over.set()
    assert len({frame.at_s for frame in frames}) == 50
    assert len(opened) == 1
    assert damaged


def test_a_stream_that_ends_or_sends_nothing_is_a_camera_failure() -> None:
    over = threading.Event()

    def ends(handler: BaseHTTPRequestHandler) -> None:
        head_of(handler)
        handler.wfile.write(part(jpeg(1)))

    def silent(handler: BaseHTTPRequestHandler) -> None:
        head_of(handler)
        handler.wfile.write(part(jpeg(1))[:200])
        over.wait(10.0)

    with serving(ends) as url:
        camera = camera_at(url)
        with pytest.raises(CameraFailure, match="the stream ended"):
            deque((camera.frame(FrameFormat()) for _ in range(3)), maxlen=0)
        camera.close()
    with serving(silent) as url:
        camera = camera_at(url, timeout_s=0.3)
        with pytest.raises(CameraFailure) as failure:
            camera.frame(FrameFormat())
        assert failure.value.cause in ("camera_hangs", "camera_failed")
        camera.close()
        over.set()


def test_a_part_without_end_is_a_camera_failure_and_memory_stays_bounded() -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        head_of(handler)
        handler.wfile.write(b"--part\r\nContent-Type: image/jpeg\r\n\r\n")
        for _ in range(40):
            handler.wfile.write(bytes(1_000_000))

    with serving(respond) as url:
        camera = camera_at(url, timeout_s=20.0)
        with pytest.raises(CameraFailure, match="more than 16000000 bytes"):
            camera.frame(FrameFormat())
        camera.close()


@pytest.mark.parametrize(
    ("content_type", "message"), [("image/jpeg", "answers with image/jpeg"), ("text/html", "not with Motion JPEG")]
)
def test_an_answer_that_is_no_stream_is_a_camera_failure_that_names_its_type(content_type: str, message: str) -> None:
    with serving(lambda handler: head_of(handler, content_type)) as url, pytest.raises(CameraFailure, match=message):
        camera_at(url)


def test_a_picture_cut_off_inside_a_whole_part_is_a_camera_failure() -> None:
    over = threading.Event()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        head_of(handler)
        while not over.wait(0.002):
            handler.wfile.write(part(jpeg(1)[:-300]))

    with serving(respond) as url:
        camera = camera_at(url)
        with pytest.raises(CameraFailure, match="not a whole image"):
            camera.frame(FrameFormat())
        camera.close()
        over.set()


def asking(scheme: str, over: threading.Event) -> Respond:
    """A camera with a password, which accepts it by one of HTTP's two schemes."""
    plain = "Basic " + base64.b64encode(b"eve:pa55").decode()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        authorization = handler.headers.get("Authorization", "")
        is_accepted = (
            'username="eve"' in authorization and "response=" in authorization
            if scheme == "Digest"
            else authorization == plain
        )
        if is_accepted:
            counting(over)(handler)
            return
        handler.send_response(401)
        handler.send_header("WWW-Authenticate", f'{scheme} realm="camera", nonce="n0nce", qop="auth"')
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return respond


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
def test_user_and_password_are_sent_by_the_scheme_that_the_camera_asks_for(scheme: str) -> None:
    over = threading.Event()
    with serving(asking(scheme, over)) as url:
        camera = camera_at(url.replace("//", "//eve:pa55@"))
        assert camera.frame(FrameFormat()).jpeg
        camera.close()
        with pytest.raises(CameraFailure, match="HTTP 401"):
            camera_at(url)
        over.set()


def test_it_never_loads_opencv_or_numpy() -> None:
    code = "import sys, camera_agent.cameras.mjpeg; print(sorted({'cv2', 'numpy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
