"""Each kind of camera against real files, folders and HTTP servers."""

from __future__ import annotations

import io
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from camera_agent.cameras import factory
from camera_agent.cameras.camera import whole_frame
from camera_agent.cameras.folder import Folder
from camera_agent.cameras.snapshot import Snapshot
from camera_agent.cameras.stream import Stream
from camera_agent.cameras.video import Video
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.frame import CameraFailure, DamagedPicture, FrameFormat
from camera_agent.imaging.pillow import encode_bytes
from tests.camera_agent.conftest import jpeg, picture


@contextmanager
def serving(respond: Callable[[BaseHTTPRequestHandler], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                respond(self)
            except ConnectionError:  # the camera's user hung up
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that do not trust it hang up
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http{'' if tls is None else 's'}://127.0.0.1:{server.server_port}/snap.jpg"
    finally:
        server.shutdown()
        server.server_close()


def answering(body: bytes, *, status: int = 200, length: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def brightness(data: bytes) -> float:
    return float(np.median(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)))


def snapshot_of(url: str) -> Snapshot:
    camera = Snapshot(url, timeout_s=5.0)
    camera.open()
    return camera


def test_a_snapshot_is_sent_as_the_camera_made_it() -> None:
    with serving(answering(jpeg(7))) as url:
        camera = snapshot_of(url)
        first, second = camera.frame(FrameFormat()), camera.frame(FrameFormat())
        camera.close()
    assert first.jpeg == jpeg(7)
    assert second.at_s >= first.at_s


def test_a_snapshot_that_is_too_wide_is_made_smaller() -> None:
    with serving(answering(jpeg(7, width=800, height=600))) as url:
        still = snapshot_of(url).frame(FrameFormat(max_width=400))
    image = Image.open(io.BytesIO(still.jpeg))
    assert (image.format, image.size) == ("JPEG", (400, 300))


@pytest.mark.parametrize(
    ("respond", "cause"),
    [
        (answering(b"", status=503), "HTTP 503"),
        (answering(b"<html>log in</html>"), "not a whole image: it begins with b'<html>lo'"),
        (answering(jpeg(7)[:-200]), "not a whole image"),
        (answering(jpeg(7), length=10**6), "the snapshot broke off"),
    ],
    ids=["status", "html", "cut", "hangs up"],
)
def test_an_answer_that_is_no_picture_is_a_camera_failure(
    respond: Callable[[BaseHTTPRequestHandler], None], cause: str
) -> None:
    with serving(respond) as url, pytest.raises(CameraFailure, match=cause):
        snapshot_of(url).frame(FrameFormat())


def test_an_unreachable_camera_is_a_camera_failure() -> None:
    with pytest.raises(CameraFailure, match="no answer"):
        snapshot_of("http://127.0.0.1:9/snap.jpg").frame(FrameFormat())


def sending_on(address: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.end_headers()

    return respond


@pytest.mark.parametrize("address", ["file:///etc/passwd", "http://[::cam/", "http://cam:port/", "/again"])
def test_a_redirect_to_an_invalid_address_is_a_camera_failure(address: str) -> None:
    with serving(sending_on(address)) as url, pytest.raises(CameraFailure, match="no answer"):
        snapshot_of(url).frame(FrameFormat())


@pytest.mark.parametrize("redirects", [5, 6])
def test_five_redirects_are_followed_and_no_more(redirects: int) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        left = int(handler.path.rpartition("/")[2].removesuffix(".jpg").replace("snap", str(redirects)))
        (sending_on(f"/{left - 1}") if left else answering(jpeg(7)))(handler)

    with (
        serving(respond) as url,
        nullcontext() if redirects == 5 else pytest.raises(CameraFailure, match="than 5 times"),
    ):
        assert snapshot_of(url).frame(FrameFormat()).jpeg == jpeg(7)


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "EPS"])
def test_an_image_format_that_no_camera_sends_is_not_opened(kind: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (90, 60)).save(out, kind)
    with pytest.raises(CameraFailure, match=r"cannot identify|begins with"):
        encode_bytes(out.getvalue(), FrameFormat())


def test_a_png_with_alpha_becomes_a_jpeg() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (90, 60), (0, 200, 0, 128)).save(out, "PNG")
    image = Image.open(io.BytesIO(encode_bytes(out.getvalue(), FrameFormat(max_width=0)).jpeg))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (90, 60))


def sideways(orientation: int) -> tuple[Image.Image, bytes]:
    """A picture with one bright corner as it is shown, and its JPEG from a camera that is mounted with another
    orientation.
    """
    shown = Image.new("RGB", (96, 64), (30, 30, 30))
    shown.paste((250, 250, 250), (64, 0, 96, 32))
    undo = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    turn = undo[orientation]
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    (shown if turn is None else shown.transpose(turn)).save(out, "JPEG", quality=95, exif=exif)
    return shown, out.getvalue()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize(
    "form",
    [
        FrameFormat(),
        FrameFormat(max_width=48),
        FrameFormat(always_encode=True),
        FrameFormat(masks=(((0.0, 0.9), (0.1, 0.9), (0.1, 1.0)),)),
    ],
    ids=["as it is", "smaller", "thrifty", "masked"],
)
def test_a_picture_keeps_its_exif_orientation(orientation: int, form: FrameFormat) -> None:
    shown, data = sideways(orientation)
    seen = encode_bytes(data, form)
    sent = ImageOps.exif_transpose(Image.open(io.BytesIO(seen.jpeg)))
    assert sent.width * shown.height == sent.height * shown.width
    small = [np.asarray(picture.convert("L").resize((6, 4))).astype(int) for picture in (sent, shown)]
    assert np.abs(small[0] - small[1]).max() < 35
    looked = Image.frombytes("L", (seen.thumbnail.width, seen.thumbnail.height), seen.thumbnail.pixels)
    assert looked.height == round(looked.width * shown.height / shown.width)
    assert looked.getpixel((looked.width - 10, 10)) > 230
    assert looked.getpixel((10, 10)) < 50


def test_a_mask_covers_the_picture_as_exif_orients_it() -> None:
    _, data = sideways(6)
    window = ((2 / 3, 0.0), (1.0, 0.0), (1.0, 0.5), (2 / 3, 0.5))
    masked = Image.open(io.BytesIO(encode_bytes(data, FrameFormat(masks=(window,))).jpeg)).convert("L")
    assert masked.getextrema()[1] < 60


def test_a_stream_gives_the_newest_picture(tmp_path: Path) -> None:
    """The server sends numbered pictures faster than the test asks for them."""
    over = threading.Event()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        handler.end_headers()
        for number in range(5000):
            body = jpeg(number % 100)
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
            handler.wfile.write(head.encode() + body + b"\r\n")
            if over.wait(0.01):
                return

    with serving(respond) as url:
        camera = Stream(url, timeout_s=10.0)
        camera.open()
        stills = [camera.frame(FrameFormat()) for _ in range(5)]
        camera.close()
        camera.close()
        over.set()
    instants = [still.at_s for still in stills]
    assert instants == sorted(set(instants))
    assert len({brightness(still.jpeg) for still in stills}) == 5


class HalfDecoded:
    """A source of OpenCV of which every second picture cannot be decoded."""

    def __init__(self) -> None:
        self.grabbed = 0
        self._released = threading.Event()

    def grab(self) -> bool:
        self.grabbed += 1
        self._released.wait(0.011)  # longer than for a picture of the backlog
        return True

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return (True, picture(self.grabbed)) if self.grabbed % 2 else (False, None)

    def release(self) -> None:
        self._released.set()


def test_a_picture_that_opencv_cannot_decode_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[HalfDecoded] = []

    def opened(source: object, *, timeout_s: float) -> HalfDecoded:
        sources.append(HalfDecoded())
        return sources[-1]

    monkeypatch.setattr("camera_agent.cameras.stream.open_capture", opened)
    damaged: list[DamagedPicture] = []
    camera = Stream(0, timeout_s=5.0)
    camera.open()
    frames = [whole_frame(camera, FrameFormat(), damaged.append) for _ in range(8)]
    camera.close()
    assert all(frame.jpeg for frame in frames)
    assert {str(damage) for damage in damaged} == {"the picture cannot be decoded"}
    assert len(sources) == 1


def test_a_snapshot_camera_is_asked_again_for_the_same_instant_when_its_picture_is_damaged() -> None:
    answers = iter([jpeg(7)[:-200], jpeg(8)])
    damaged: list[DamagedPicture] = []
    with serving(lambda handler: answering(next(answers))(handler)) as url:
        frame = whole_frame(snapshot_of(url), FrameFormat(), damaged.append)
    assert frame.jpeg == jpeg(8)
    assert len(damaged) == 1


def test_five_damaged_pictures_in_a_row_are_a_camera_failure() -> None:
    damaged: list[DamagedPicture] = []
    with serving(answering(jpeg(7)[:-200])) as url, pytest.raises(CameraFailure, match="5 damaged pictures in a row"):
        whole_frame(snapshot_of(url), FrameFormat(), damaged.append)
    assert len(damaged) == 5


def test_a_stream_that_ends_is_a_camera_failure() -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        handler.end_headers()
        for number in range(40):
            body = jpeg(number)
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
            handler.wfile.write(head.encode() + body + b"\r\n")

    with serving(respond) as url:
        camera = Stream(url, timeout_s=5.0)
        camera.open()
        with pytest.raises(CameraFailure, match="the stream ended"):
            deque((camera.frame(FrameFormat()) for _ in range(100)), maxlen=0)
        camera.close()


def test_a_missing_device_is_a_camera_failure() -> None:
    camera = Stream(99, timeout_s=1.0)
    with pytest.raises(CameraFailure, match="cannot be opened"):
        camera.open()


def test_each_source_opens_its_kind_of_camera(tmp_path: Path) -> None:
    def camera(**source: object) -> CameraSettings:
        return CameraSettings(name="gate", **source)  # type: ignore[arg-type]

    assert isinstance(factory.live_camera(camera(device=0)), Stream)
    assert isinstance(factory.live_camera(camera(rtsp="rtsp://cam/1")), Stream)
    assert isinstance(factory.live_camera(camera(snapshot="http://cam/1")), Snapshot)
    assert isinstance(factory.recording(camera(video="a.avi")), Video)
    assert isinstance(factory.recording(camera(folder="a")), Folder)
