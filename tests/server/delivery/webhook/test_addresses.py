"""A webhook reaches public addresses, others only where its owner allows it, and none but the one that was checked."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from server.delivery.webhook.addresses import Address, NotPublic, addresses_of, is_public
from server.delivery.webhook.exchange import Exchange, NoAnswer, Target
from server.domain.errors import ConfigurationError
from server.hosting.self_signed import Pair, make
from tests.server.delivery.webhook.parts import announced, channel
from tests.server.delivery.webhook.receiver import Answer, Receiver, receiving

PUBLIC = (
    "1.1.1.1",
    "93.184.215.14",
    "172.15.0.1",
    "172.32.0.1",
    "100.63.0.1",
    "2606:4700:4700::1111",
    "::ffff:1.1.1.1",
)
PRIVATE = (
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.1", "10.0.0.1", "172.16.0.1", "172.31.9.9", "192.168.1.1"),
    *("169.254.169.254", "169.254.0.1", "168.63.129.16", "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1"),
    *("198.18.0.1", "198.51.100.7", "203.0.113.5", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "100::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_of_machine_network_and_cloud_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1"),
        *("127.1", "0", "169.254.169.254", "2852039166", "[fe80::1]", "10.1", "３.3.3.3@127.0.0.1", "１２７.0.0.1"),
    ],
)
def test_an_address_that_is_not_public_is_refused_at_the_start_in_whatever_form(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not public: .* `allow_private = true`"):
        channel(f"http://{host}/in", allow_private=False)


def test_an_address_that_is_not_public_is_named_once() -> None:
    with pytest.raises(ConfigurationError) as error:
        channel("http://127.0.0.1/", allow_private=False)
    assert str(error.value).endswith(
        "`url`: 127.0.0.1 is not public: a webhook goes there with `allow_private = true` only"
    )


def test_a_name_that_leads_to_this_machine_is_refused_when_it_is_reached(receiver: Receiver) -> None:
    hook = channel(f"http://localhost:{receiver.port}/in", allow_private=False)
    with pytest.raises(NoAnswer, match=r"localhost has the address \S+, which is not public"):
        hook.send(announced())
    assert receiver.received == []
    assert receiver.connections == 0


def test_a_redirect_leads_nowhere_also_not_to_this_machine(receiver: Receiver) -> None:
    with receiving() as outside:
        outside.say = lambda _: Answer(302, headers={"Location": receiver.url})
        with pytest.raises(Exception, match="redirects are not followed"):
            channel(outside.url).send(announced())
    assert receiver.received == []


def test_of_the_addresses_of_a_name_only_the_public_ones_are_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("127.0.0.1", "1.1.1.1", "1.1.1.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: mixed)
    assert addresses_of("rebinding.example", 80, allow_private=False) == [Address(socket.AF_INET, ("1.1.1.1", 80))]
    del mixed[1:]
    with pytest.raises(NotPublic):
        addresses_of("rebinding.example", 80, allow_private=False)


def test_the_connection_goes_to_the_address_that_was_checked_and_the_name_stays(receiver: Receiver) -> None:
    """No name server knows the name: nothing can be resolved a second time."""
    target = Target.of(f"http://receiver.invalid:{receiver.port}/in?a=b%20c#d")
    asked: list[int] = []

    def resolve() -> list[Address]:
        asked.append(1)
        return [Address(socket.AF_INET, ("127.0.0.1", receiver.port))]

    exchange = Exchange(target, resolve, None, 5)
    for _ in range(3):
        exchange.ask("PUT", {"webhook-id": "x"}, b"{}")
    exchange.close()
    assert asked == [1]
    assert {(each.method, each.headers["host"], each.path) for each in receiver.received} == {
        ("PUT", f"receiver.invalid:{receiver.port}", "/in?a=b%20c")
    }


def test_the_next_address_of_a_name_is_tried_where_one_does_not_answer(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = free.getsockname()
    places = [Address(socket.AF_INET, dead), Address(socket.AF_INET, ("127.0.0.1", receiver.port))]
    exchange = Exchange(Target.of(receiver.url), lambda: places, None, 5)
    assert exchange.ask("POST", {"webhook-id": "x"}, b"{}").status == 200
    exchange.close()


def certified(folder: Path, *names: str) -> Pair:
    pair = Pair(folder / f"{names[0]}.crt", folder / f"{names[0]}.key")
    make(pair, names)
    return pair


def test_a_receiver_with_a_certificate_of_its_own_is_reached_with_ca_alone(tmp_path: Path) -> None:
    pair = certified(tmp_path, "127.0.0.1")
    with receiving(pair) as receiver:
        with pytest.raises(NoAnswer, match="its certificate is not trusted: self-signed certificate"):
            channel(receiver.url).send(announced())
        assert receiver.received == []
        hook = channel(receiver.url, ca=str(pair.certificate))
        for seq in (1, 2):
            hook.send(announced(seq=seq))
        assert len(receiver.received) == 2


def test_the_certificate_is_that_of_the_name_and_not_of_the_address(tmp_path: Path) -> None:
    pair = certified(tmp_path, "receiver.invalid")
    context = ssl.create_default_context(cafile=pair.certificate)
    with receiving(pair) as receiver:
        here = [Address(socket.AF_INET, ("127.0.0.1", receiver.port))]
        good = Exchange(Target.of("https://receiver.invalid/"), lambda: here, context, 5)
        assert good.ask("POST", {"webhook-id": "x"}, b"{}").status == 200
        good.close()
        with pytest.raises(NoAnswer, match="Hostname mismatch"):
            Exchange(Target.of("https://other.invalid/"), lambda: here, context, 5).ask("POST", {}, b"{}")


def test_a_handshake_that_does_not_end_ends_with_the_time_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(NoAnswer, match=r"no whole answer within 0.2 s"):
            channel(f"https://127.0.0.1:{port}/", timeout_s=0.2).send(announced())


def test_an_answer_over_tls_that_trickles_in_ends_with_the_time_limit(tmp_path: Path) -> None:
    pair = certified(tmp_path, "127.0.0.1")
    with receiving(pair) as receiver:
        hook = channel(receiver.url, ca=str(pair.certificate), timeout_s=0.4)
        hook.send(announced())
        receiver.say = lambda _: Answer(raw=(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 500))
        with pytest.raises(NoAnswer, match=r"no whole answer within 0.4 s"):
            hook.send(announced(seq=2))
        receiver.say = lambda _: Answer()
        hook.send(announced(seq=3))
        assert receiver.connections == 2, "what was left of the answer is left with its connection"


def test_a_receiver_that_is_not_there_is_named_without_its_path() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NoAnswer) as error:
        channel(f"http://127.0.0.1:{port}/secret/path").send(announced())
    assert str(error.value) == f"http://127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize(
    "url",
    [
        *("http://", "https://:443/in", "http://host:port/", "http://host:99999/", "http://[::1/", "http://a b/"),
        *("http://a..b/", f"http://{'a' * 64}.example/"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_without_repeating_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", url)
    with pytest.raises(ConfigurationError, match="channel `hook`: `url`: it ") as error:
        channel("env:HOOK")
    assert url not in str(error.value)
    monkeypatch.setenv("HOOK", "ftp://example.org/")
    with pytest.raises(ConfigurationError, match="it is not of the form https://HOST/PATH"):
        channel("env:HOOK")
