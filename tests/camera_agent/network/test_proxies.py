"""Proxies of the environment: none for the own network, NO_PROXY for the rest, and an error that names the proxy."""

from __future__ import annotations

import os
import socket
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from camera_agent.cameras.snapshot import Snapshot
from camera_agent.cameras.stream import Stream
from camera_agent.config.settings import ServerSettings
from camera_agent.imaging.frame import CameraFailure, FrameFormat
from camera_agent.network.certificates import Trust, read_fingerprint
from camera_agent.network.proxies import exempt_from_proxies, is_own_network, proxy_for, through_proxy
from camera_agent.uplink.http_client import HttpClient
from camera_agent.wall_clock import WallClock
from tests.camera_agent.cameras.test_cameras import answering, serving
from tests.camera_agent.cameras.test_certificates import single, streaming
from tests.camera_agent.certificates import certificate, context_of, fingerprint_line
from tests.camera_agent.conftest import HandClock, jpeg
from tests.camera_agent.stand_in import StandIn
from tests.camera_agent.tls_proxy import TlsProxy, tls_proxy

_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
PROXY = "http://worker:zQ7x@127.0.0.1:{}"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _NAMES:
        monkeypatch.setenv(name, "")  # restored after the test, also where FFmpeg's variable was set
        monkeypatch.delenv(name)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("10.0.0.7", True),
        ("172.16.5.5", True),
        ("172.32.5.5", False),
        ("192.168.1.10", True),
        ("127.0.0.1", True),
        ("169.254.3.3", True),
        ("100.100.1.1", True),
        ("8.8.8.8", False),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fd00::7", True),
        ("2001:4860:4860::8888", False),
        ("::ffff:10.0.0.7", True),
        ("::ffff:8.8.8.8", False),
        ("localhost", True),
        ("gate-camera", True),
        ("gate.local", True),
        ("GATE.LOCAL.", True),
        ("gate.lan", True),
        ("gate.home.arpa", True),
        ("camera.example.org", False),
        ("local.example.org", False),
    ],
)
def test_the_own_network_is_told_by_the_host(host: str, is_own: bool) -> None:
    assert is_own_network(host) is is_own


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_proxy_is_used_for_foreign_hosts_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://proxy.example:3128")
    assert proxy_for("http://camera.example.org/a") == "http://proxy.example:3128"
    assert proxy_for("http://10.0.0.7/a") is None
    assert proxy_for("http://gate.local:8080/a") is None


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("value", ["*", " * ", "other.example, *", ".example.org", "camera.example.org"])
def test_no_proxy_is_honoured(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv(name, value)
    assert proxy_for("http://camera.example.org/a") is None


def test_a_camera_and_a_server_of_the_own_network_are_reached_beside_a_dead_proxy(
    closed_port: int, server: StandIn, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, PROXY.format(closed_port))
    with serving(answering(jpeg(7))) as url:
        camera = Snapshot(url, timeout_s=5.0)
        assert camera.frame(FrameFormat()).jpeg == jpeg(7)
        camera.close()
    client = HttpClient(ServerSettings(url=server.url), WallClock(clock))
    assert client.send_heartbeat(b"{}", None).status == 204
    client.close()


def test_a_stream_of_the_own_network_is_reached_beside_a_dead_proxy(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", PROXY.format(closed_port))
    monkeypatch.setenv("NO_PROXY", "other.example")

    with serving(streaming([])) as url:
        camera = Stream(url, timeout_s=8.0)
        camera.open()
        camera.frame(FrameFormat())
        camera.close()
    assert os.environ["no_proxy"] == "other.example,127.0.0.1"


def test_ffmpeg_also_honours_no_proxy_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    exempt_from_proxies("camera.example.org")
    assert os.environ["no_proxy"] == "*"


def test_an_error_on_the_way_through_a_proxy_names_it_without_its_password(
    closed_port: int, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY.format(closed_port))
    with pytest.raises(CameraFailure) as caught:
        Snapshot("http://camera.example.org/a.jpg", timeout_s=2.0).frame(FrameFormat())
    client = HttpClient(ServerSettings(url="http://yard.example.org"), WallClock(clock))
    answer = client.send_heartbeat(b"{}", None)
    for message in (str(caught.value), answer.problem):
        assert f"through the proxy http://***@127.0.0.1:{closed_port} of the environment" in message
        assert f"nothing listens on port {closed_port}" in message
        assert "zQ7x" not in message


def test_a_status_that_came_through_a_proxy_names_it(clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with serving(respond) as url:
        monkeypatch.setenv("http_proxy", url.replace("http://", "http://worker:zQ7x@").removesuffix("/snap.jpg"))
        with pytest.raises(CameraFailure, match=r"HTTP 503 \(through the proxy http://\*\*\*@127\.0\.0\.1"):
            Snapshot("http://camera.example.org/a.jpg", timeout_s=2.0).frame(FrameFormat())


def test_without_a_proxy_an_error_names_none() -> None:
    assert through_proxy("http://camera.example.org/") == ""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """`proxy` is publicly trusted, `other` by nobody. `ca` signs `gate` and `door`, each for its own name."""
    folder = tmp_path_factory.mktemp("behind-a-proxy")
    made = {name: certificate(folder, name) for name in ("proxy", "other", "ca")}
    for name in ("gate", "door"):
        made[name] = certificate(folder, name, subject_names=f"DNS:{name}.example.org", authority=made["ca"])
    return made


def taken_behind_a_tls_proxy(
    pairs: dict[str, tuple[Path, Path]],
    presented: str,
    trusts: Trust,
    monkeypatch: pytest.MonkeyPatch,
    proxy_presents: str = "proxy",
) -> tuple[TlsProxy, list[str]]:
    """A picture of https://gate.example.org through a proxy with TLS; what the proxy and the camera were asked."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pairs["proxy"][0]))
    seen: list[str] = []
    with (
        serving(single(seen), context_of(*pairs[presented])) as url,
        tls_proxy(pairs[proxy_presents], urlsplit(url).port or 0) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        camera = Snapshot("https://gate.example.org/snap.jpg", timeout_s=8.0, trust=trusts)
        try:
            camera.frame(FrameFormat())
        except CameraFailure as error:
            seen.append(f"failed: {error}")
        finally:
            camera.close()
    return proxy, seen


@pytest.mark.parametrize("by", ["ca_file", "fingerprint"])
def test_behind_a_proxy_with_tls_a_trusted_camera_is_reached(
    by: str, pairs: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = read_fingerprint(fingerprint_line(pairs["gate"][0]))
    trusts = Trust(str(pairs["ca"][0])) if by == "ca_file" else Trust(fingerprint=pin)
    proxy, seen = taken_behind_a_tls_proxy(pairs, "gate", trusts, monkeypatch)
    assert seen == ["/snap.jpg gate.example.org"]
    assert proxy.asked == ["gate.example.org:443"]


@pytest.mark.parametrize("by", ["ca_file", "fingerprint"])
def test_behind_a_proxy_with_tls_a_camera_with_another_name_or_fingerprint_is_asked_nothing(
    by: str, pairs: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = read_fingerprint(fingerprint_line(pairs["gate"][0]))
    trusts = Trust(str(pairs["ca"][0])) if by == "ca_file" else Trust(fingerprint=pin)
    _proxy, [failed] = taken_behind_a_tls_proxy(pairs, "door", trusts, monkeypatch)
    assert failed.startswith("failed: no answer")


def test_a_proxy_whose_certificate_is_not_trusted_is_asked_nothing_also_for_a_pinned_camera(
    pairs: dict[str, tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trusts = Trust(fingerprint=read_fingerprint(fingerprint_line(pairs["gate"][0])))
    proxy, [failed] = taken_behind_a_tls_proxy(pairs, "gate", trusts, monkeypatch, proxy_presents="other")
    assert failed.startswith("failed: no answer")
    assert proxy.heads == []
