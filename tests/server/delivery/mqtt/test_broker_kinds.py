"""Brokers of both versions, with passwords and certificates."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.domain.errors import ConfigurationError
from server.store import Store
from tests.server.delivery.mqtt.brokers import PATIENCE_S, Broker, Consumer
from tests.server.delivery.mqtt.worlds import World
from tests.stand_ins import ManualClock

AVAILABLE = "sectorwatch/available"


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_both_versions_of_mqtt_are_spoken(world: World, broker: Broker, version: str) -> None:
    world.start(version=version)
    world.drain()
    number = {"5": "5", "3.1.1": "2"}[version]  # as Mosquitto's log has it: p2 is 3.1.1
    assert [line for line in broker.output if "sectorwatch-" in line and f"p{number}," in line], broker.output


class OldBroker:
    """Speaks MQTT 3.1.1 alone: it passes such connections on, and answers others as the standard of 3.1.1 says."""

    def __init__(self, port: int, *, answers: bool) -> None:
        self._behind, self._answers = port, answers
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            first = client.recv(65536)
            if first[first.index(b"MQTT") + 4] == 5:
                if self._answers:
                    client.sendall(b"\x20\x02\x00\x01")
                client.close()
                continue
            behind = socket.create_connection(("127.0.0.1", self._behind))
            behind.sendall(first)
            self._sockets.append(behind)
            for source, target in ((client, behind), (behind, client)):
                threading.Thread(target=_passed, args=(source, target), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in self._sockets:
            each.close()
        self._thread.join(PATIENCE_S)


def _passed(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@pytest.mark.parametrize("answers", [True, False])
def test_a_broker_without_version_5_is_spoken_to_in_3_1_1_and_the_log_says_so(
    world: World, broker: Broker, consumer: Consumer, caplog: pytest.LogCaptureFixture, answers: bool
) -> None:
    old = OldBroker(broker.port, answers=answers)
    world.start(url=f"mqtt://127.0.0.1:{old.port}")
    world.drain()
    consumer.wait_for(AVAILABLE, b"online")
    assert 'set version = "3.1.1" for this broker' in caplog.text
    world.end()
    old.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """A broker that asks for a name and a password."""
    folder = tmp_path / "guarded"
    folder.mkdir()
    subprocess.run(["openssl", "version"], check=True, stdout=subprocess.DEVNULL)
    broker = Broker(folder, "allow_anonymous false", f"password_file {_passwords(folder)}")
    yield broker
    broker.stop()


def _passwords(folder: Path) -> Path:
    """A file as mosquitto_passwd writes it: PBKDF2 with SHA-512."""
    import base64
    import hashlib

    salt, rounds = b"0123456789ab", 101
    digest = hashlib.pbkdf2_hmac("sha512", b"s3cret", salt, rounds)
    parts = (base64.b64encode(salt).decode(), base64.b64encode(digest).decode())
    (folder / "passwords").write_text(f"yard:$7${rounds}${parts[0]}${parts[1]}\n")
    (folder / "passwords").chmod(0o600)
    return folder / "passwords"


def test_a_user_and_a_password_are_sent(
    tmp_path: Path, sqlite: Store, clock: ManualClock, guarded: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "s3cret")
    world = World(tmp_path, sqlite, clock, guarded.url, user="yard", password="env:MQTT_PASSWORD")
    world.drain()
    consumer = Consumer(guarded.port, user=("yard", "s3cret"))
    consumer.wait_for(AVAILABLE, b"online")
    consumer.close()
    world.end()


def test_a_wrong_password_is_said_and_tried_again(
    tmp_path: Path, sqlite: Store, clock: ManualClock, guarded: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "wrong")
    world = World(tmp_path, sqlite, clock, guarded.url, user="yard", password="env:MQTT_PASSWORD")
    world.drain()
    [state] = sqlite.channel_states()
    assert "refuses the connection: Not authorized; see `user`, `password`" in (state.error or "")
    assert "wrong" not in (state.error or "")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, and certificates that it signed: of the broker and of a client."""
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority", "-days", "30")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    for name in ("broker", "client"):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", "30")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed)
    return folder


@pytest.fixture
def encrypted(tmp_path: Path, authority: Path) -> Iterator[Broker]:
    """A broker that asks for a certificate of its authority."""
    files = {"cafile": "ca.crt", "certfile": "broker.crt", "keyfile": "broker.key"}
    lines = [f"{key} {authority / name}" for key, name in files.items()]
    broker = Broker(tmp_path / "encrypted", "allow_anonymous true", "require_certificate true", *lines)
    yield broker
    broker.stop()


def test_tls_with_a_certificate_of_ours(
    tmp_path: Path, sqlite: Store, clock: ManualClock, encrypted: Broker, authority: Path
) -> None:
    ours = {"ca": authority / "ca.crt", "certificate": authority / "client.crt", "key": authority / "client.key"}
    world = World(tmp_path, sqlite, clock, encrypted.url.replace("mqtt:", "mqtts:"), **ours)
    world.live(8)
    world.drain()
    tls = ssl.create_default_context(cafile=ours["ca"])
    tls.load_cert_chain(ours["certificate"], ours["key"])
    consumer = Consumer(encrypted.port, tls=tls)
    consumer.wait_for(AVAILABLE, b"online")
    consumer.close()
    world.end()


@pytest.mark.parametrize("lacks", ["ca", "certificate"])
def test_a_broker_of_an_unknown_authority_is_refused_and_refuses_who_has_no_certificate(
    tmp_path: Path, sqlite: Store, clock: ManualClock, encrypted: Broker, authority: Path, lacks: str
) -> None:
    ours = {"ca": authority / "ca.crt", "certificate": authority / "client.crt", "key": authority / "client.key"}
    del ours[lacks]
    if lacks == "certificate":
        del ours["key"]
    world = World(tmp_path, sqlite, clock, encrypted.url.replace("mqtt:", "mqtts:"), **ours)
    world.drain()
    assert world.channel._session is None
    [state] = sqlite.channel_states()
    said = {"ca": "CERTIFICATE_VERIFY_FAILED", "certificate": "broker at 127.0.0.1"}[lacks]
    assert said in (state.error or "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ca": Path("ca.crt")}, "need a url that begins with mqtts://"),
        ({"url": "mqtts://127.0.0.1", "ca": Path("/nowhere/ca.crt")}, "/nowhere/ca.crt cannot be used"),
        ({"url": "mqtts://127.0.0.1", "key": Path("x")}, "`key` needs `certificate`"),
        ({"password": "env:HOME"}, "`password` needs `user`"),
        ({"user": "yard", "password": "env:NOT_SET_AT_ALL"}, "NOT_SET_AT_ALL"),
        ({"url": "mqtt://127.0.0.1:99999"}, "no port"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused_with_what_mends_them(
    world: World, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        world.start(**settings)
