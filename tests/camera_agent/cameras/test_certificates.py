"""A camera's own certificate: trusted by fingerprint or `ca_file`, refused with its fingerprint else; HTTP and RTSP."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from camera_agent.cameras.factory import live_camera
from camera_agent.config.settings import CameraSettings
from camera_agent.imaging.frame import CameraFailure, FrameFormat
from tests.camera_agent.cameras.test_cameras import serving
from tests.camera_agent.certificates import certificate, context_of, fingerprint_line
from tests.camera_agent.conftest import jpeg
from tests.camera_agent.rtsp_camera import rtsp_camera

KINDS = ("snapshot", "mjpeg", "rtsp", "rtsps")
Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """`camera` names another host, as cameras do; `named` names this one; `other` belongs to nobody here."""
    folder = tmp_path_factory.mktemp("certificates")
    names = {"camera": "DNS:IPCamera", "named": "IP:127.0.0.1", "other": "IP:127.0.0.1"}
    return {name: certificate(folder, name, subject_names=names[name]) for name in names}


@contextmanager
def camera_of(kind: str, pair: Pair, **settings: str) -> Iterator[tuple[CameraSettings, list[str]]]:
    if kind == "rtsps":
        with rtsp_camera(*pair) as (port, requests):
            yield CameraSettings(name="gate", rtsp=f"rtsps://127.0.0.1:{port}/1", timeout_s=8.0, **settings), requests
        return
    seen: list[str] = []
    with serving(streaming(seen) if kind != "snapshot" else single(seen), context_of(*pair)) as url:
        address = url.replace("https://", "https://admin:zQ7x@")
        yield CameraSettings(name="gate", timeout_s=8.0, **{kind: address}, **settings), seen  # type: ignore[arg-type]


def single(seen: list[str]) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        seen.append(f"{handler.path} {handler.headers['Host']}")
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(jpeg(7))))
        handler.end_headers()
        handler.wfile.write(jpeg(7))

    return respond


def streaming(seen: list[str]) -> Callable[[BaseHTTPRequestHandler], None]:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        seen.append(f"{handler.path} {handler.headers['Host']}")
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        handler.end_headers()
        pace = threading.Event()
        for number in range(2000):
            body = jpeg(number % 100)
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
            handler.wfile.write(head.encode() + body + b"\r\n")
            pace.wait(0.01)

    return respond


def take(settings: CameraSettings) -> None:
    camera = live_camera(settings)
    try:
        camera.open()
        assert camera.frame(FrameFormat()).jpeg
        assert camera.frame(FrameFormat()).jpeg
    finally:
        camera.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_pinned_certificate_is_trusted_whatever_name_is_in_it(kind: str, pairs: dict[str, Pair]) -> None:
    with camera_of(kind, pairs["camera"], fingerprint=fingerprint_line(pairs["camera"][0])) as (settings, seen):
        take(settings)
    assert seen


@pytest.mark.parametrize("kind", KINDS)
def test_the_camera_s_own_certificate_in_ca_file_is_trusted_whatever_name_is_in_it(
    kind: str, pairs: dict[str, Pair]
) -> None:
    with camera_of(kind, pairs["camera"], ca_file=str(pairs["camera"][0])) as (settings, seen):
        take(settings)
    assert seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trust", ["public", "fingerprint", "ca_file"])
def test_another_certificate_is_refused_with_its_fingerprint_before_anything_is_sent(
    kind: str, trust: str, pairs: dict[str, Pair]
) -> None:
    other = pairs["other"][0]
    given = {"public": {}, "fingerprint": {trust: fingerprint_line(other)}, "ca_file": {trust: str(other)}}[trust]
    presented = fingerprint_line(pairs["camera"][0]).partition("=")[2]
    with (
        camera_of(kind, pairs["camera"], **given) as (settings, seen),
        pytest.raises(CameraFailure, match=re.escape(f'`fingerprint = "{presented}"` for this camera')) as caught,
    ):
        take(settings)
    assert not seen
    assert "server" not in str(caught.value)
    assert "zQ7x" not in str(caught.value)


def test_a_certificate_of_a_trusted_authority_for_another_name_is_refused(
    tmp_path: Path, pairs: dict[str, Pair]
) -> None:
    issued = issued_by(pairs["named"], tmp_path, "DNS:elsewhere.example")
    with (
        camera_of("snapshot", issued, ca_file=str(pairs["named"][0])) as (settings, _),
        pytest.raises(CameraFailure, match=r"not trusted by its `ca_file` \(.*127\.0\.0\.1"),
    ):
        take(settings)
    issued = issued_by(pairs["named"], tmp_path, "IP:127.0.0.1")
    with camera_of("snapshot", issued, ca_file=str(pairs["named"][0])) as (settings, _):
        take(settings)


def test_ffmpeg_reaches_no_tls_of_its_own_by_a_redirect(pairs: dict[str, Pair]) -> None:
    seen: list[str] = []
    with serving(streaming(seen), context_of(*pairs["other"])) as target:

        def respond(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", target)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with serving(respond) as url, pytest.raises(CameraFailure, match="cannot be opened"):
            take(CameraSettings(name="gate", rtsp=url, timeout_s=5.0))
    assert not seen


def test_a_redirect_from_https_to_http_is_refused(pairs: dict[str, Pair]) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "http://127.0.0.1:9/snap.jpg")
        handler.end_headers()

    with (
        serving(respond, context_of(*pairs["camera"])) as url,
        pytest.raises(CameraFailure, match="redirects from https to http://127"),
    ):
        take(CameraSettings(name="gate", snapshot=url, fingerprint=fingerprint_line(pairs["camera"][0])))


def test_the_camera_sees_its_own_name_through_the_relay(pairs: dict[str, Pair]) -> None:
    with camera_of("rtsp", pairs["camera"], ca_file=str(pairs["camera"][0])) as (settings, seen):
        take(settings)
        assert seen[0].split()[1] == str(settings.rtsp).split("@")[1].split("/")[0]


@pytest.mark.parametrize("kind", ["snapshot", "rtsp"])
def test_a_camera_without_tls_is_said_to_have_none(kind: str) -> None:
    with serving(single([])) as url, pytest.raises(CameraFailure, match="does not speak TLS: is it http:// there"):
        take(CameraSettings(name="gate", **{kind: url.replace("http:", "https:")}, timeout_s=5.0))  # type: ignore[arg-type]


def issued_by(authority: Pair, folder: Path, names: str) -> Pair:
    pem, key, request = folder / "issued.pem", folder / "issued.key", folder / "issued.csr"
    extensions = folder / "issued.ext"
    extensions.write_text(f"subjectAltName={names}\n")
    asked = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=c"]
    subprocess.run([*asked, "-keyout", key, "-out", request], check=True, capture_output=True)
    signed = ["openssl", "x509", "-req", "-in", request, "-CA", authority[0], "-CAkey", authority[1], "-days", "2"]
    subprocess.run([*signed, "-CAcreateserial", "-extfile", extensions, "-out", pem], check=True, capture_output=True)
    return pem, key
