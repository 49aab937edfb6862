"""The files for nginx and Caddy in `deploy/` are accepted by the real programs, and requests pass through them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from server.hosting.self_signed import Pair
from tests import programs
from tests.documentation import ROOT
from tests.server.doors import Door, free_port, self_signed
from tests.server.launched import PATIENCE_S, Running
from tests.server.web_client import jpeg

MOST_BYTES = 64 << 20


def once(pattern: str, replacement: str, text: str) -> str:
    changed, count = re.subn(pattern, replacement, text)
    assert count, pattern
    return changed


def nginx(folder: Path, pair: Pair, port: int, upstream: int) -> list[str]:
    """The shipped site with another port, certificate and server, in a configuration that needs no installation."""
    site = (ROOT / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    site = once(r"listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;", site)
    site = once(r" *listen \[::\]:443 ssl;\n", "", site)
    site = once(r"/etc/ssl/sectorwatch\.crt", str(pair.certificate), site)
    site = once(r"/etc/ssl/sectorwatch\.key", str(pair.key), site)
    site = once(r"127\.0\.0\.1:8765", f"127.0.0.1:{upstream}", site)
    (folder / "site.conf").write_text(site)
    user = "user root;" if os.geteuid() == 0 else ""
    places = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off; {places} include {folder}/site.conf; }}\n"
    )
    command = [str(programs.program("nginx")), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    subprocess.run([*command, "-t"], check=True, timeout=PATIENCE_S)
    return command


def caddy(folder: Path, pair: Pair, port: int, upstream: int) -> list[str]:
    file = (ROOT / "deploy" / "Caddyfile").read_text(encoding="utf-8")
    file = once(r"\{\n\tservers", "{\n\tadmin off\n\tauto_https disable_redirects\n\tservers", file)
    file = once(r"sectorwatch\.example \{", f"https://127.0.0.1:{port} {{\n\ttls {pair.certificate} {pair.key}", file)
    file = once(r"127\.0\.0\.1:8765", f"127.0.0.1:{upstream}", file)
    (folder / "Caddyfile").write_text(file)
    command = [str(programs.program("caddy"))]
    files = ["--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
    subprocess.run([*command, "validate", *files], check=True, timeout=PATIENCE_S, env=os.environ | home(folder))
    return [*command, "run", *files]


def home(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


KINDS: dict[str, Callable[[Path, Pair, int, int], list[str]]] = {"nginx": nginx, "caddy": caddy}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "data").mkdir()
    server = Running(
        [
            "tests.server.hosted",
            str(tmp_path / "data"),
            json.dumps({"max_body_bytes": MOST_BYTES, "open_classify": True}),
        ]
    )
    yield server
    server.end()


@pytest.fixture(params=KINDS)
def door(request: pytest.FixtureRequest, tmp_path: Path, server: Running) -> Iterator[Door]:
    """The proxy's TLS, in front of a server."""
    if missing := programs.missing():
        pytest.fail(missing)
    upstream = int(server.line(r"^port (\d+)")[1])
    pair, port = self_signed(tmp_path), free_port()
    command = KINDS[request.param](tmp_path, pair, port, upstream)
    proxy = subprocess.Popen(command, env=os.environ | home(tmp_path), stderr=subprocess.DEVNULL)
    try:
        wait = threading.Event()
        for _ in range(200):
            if socket.socket().connect_ex(("127.0.0.1", port)) == 0:
                break
            wait.wait(0.1)
        yield Door(port, pair.certificate)
    finally:
        proxy.terminate()
        proxy.wait(PATIENCE_S)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


def body(padding: int = 0) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.jpg"\r\n\r\n'
    return bytes(padding) + head + jpeg(255) + b"\r\n--x--\r\n"


def test_pictures_and_tokens_pass_through_the_proxy_as_the_server_means_them(door: Door, server: Running) -> None:
    asking = door.asking()
    asking.request("POST", "/batch", body(), MULTIPART)
    server.line("^asked")
    server.say("\n")
    answer = asking.getresponse()
    assert (answer.status, json.loads(answer.read())["people"]) == (200, ["person"])
    asking.request("GET", "/v1/events", headers={"Authorization": "Bearer sw_1_2"})
    answer = asking.getresponse()
    assert answer.status == 401
    assert "this token is unknown or revoked" in json.loads(answer.read())["detail"]


@pytest.mark.parametrize("door", ["nginx"], indirect=True)
def test_a_client_that_is_refused_while_it_sends_reads_the_server_s_own_answer(door: Door) -> None:
    asking = door.asking()
    asking.request("POST", "/batch", body(MOST_BYTES), MULTIPART)
    answer = asking.getresponse()
    assert answer.status == 413
    assert "this server takes at most" in json.loads(answer.read())["detail"]


def test_forwarded_requests_are_not_taken_for_those_of_this_machine(door: Door) -> None:
    asking = door.asking()
    asking.request("GET", "/v1/events")
    assert asking.getresponse().status == 401


def test_fifty_half_open_and_slow_connections_at_the_proxy_keep_nobody_waiting(door: Door) -> None:
    half_open = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(25)]
    slow = [door.connected() for _ in range(25)]
    for client in slow:
        client.sendall(b"POST /batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nx")
    assert door.status(timeout_s=8) == 200
    for client in [*half_open, *slow]:
        client.close()
