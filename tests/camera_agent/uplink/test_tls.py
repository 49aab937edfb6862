"""HTTPS: the pinned certificate, or an authority of one's own, is trusted, and no other; nothing is sent to others."""

from __future__ import annotations

from pathlib import Path

import pytest

from camera_agent.config.settings import ServerSettings
from camera_agent.uplink.http_client import Accepted, HttpClient, Outcome, RetryLater
from camera_agent.wall_clock import WallClock
from tests.camera_agent.certificates import certificate, context_of, fingerprint_line
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.spool.test_spool import burst, spool_in
from tests.camera_agent.stand_in import StandIn


def sent(
    folder: Path, server: StandIn, clock: HandClock, ca_file: Path | None = None, fingerprint: str | None = None
) -> Outcome:
    url = server.url.replace("http://", "https://")
    file = None if ca_file is None else str(ca_file)
    settings = ServerSettings(url=url, ca_file=file, fingerprint=fingerprint, read_timeout_s=5.0)
    client, spool = HttpClient(settings, WallClock(clock)), spool_in(folder)
    spool.put(burst(1))
    waiting = spool.next()
    assert waiting is not None
    try:
        return client.send_burst(waiting, "sw_token_secret")
    finally:
        client.close()


def test_only_the_authority_of_ca_file_is_trusted(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, key = certificate(tmp_path, "ours")
    other, _ = certificate(tmp_path, "other")
    with StandIn(context_of(ours, key)) as server:
        assert isinstance(sent(tmp_path, server, clock, ours), Accepted)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ours))
        refused = sent(tmp_path, server, clock, other)
        assert isinstance(refused, RetryLater)
        assert refused.cause.startswith("the server's certificate is not trusted by its `ca_file`")
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        assert isinstance(sent(tmp_path, server, clock), RetryLater)


def test_a_pinned_server_is_trusted_whatever_name_is_in_its_certificate(tmp_path: Path, clock: HandClock) -> None:
    ours, key = certificate(tmp_path, "ours", subject_names="DNS:elsewhere.example")
    with StandIn(context_of(ours, key)) as server:
        assert isinstance(sent(tmp_path, server, clock, fingerprint=fingerprint_line(ours)), Accepted)


@pytest.mark.parametrize("trust", ["public", "ca_file", "fingerprint"])
def test_to_a_server_that_is_not_trusted_nothing_is_sent_and_the_message_names_the_setting_that_mends_it(
    trust: str, tmp_path: Path, clock: HandClock
) -> None:
    ours, key = certificate(tmp_path, "ours")
    other, _ = certificate(tmp_path, "other")
    given = {"public": {}, "ca_file": {trust: other}, "fingerprint": {trust: fingerprint_line(other)}}[trust]
    with StandIn(context_of(ours, key)) as server:
        outcome = sent(tmp_path, server, clock, **given)  # type: ignore[arg-type]
        assert not server.arrivals
    assert isinstance(outcome, RetryLater)
    presented = fingerprint_line(ours).partition("=")[2]
    assert f'`fingerprint = "{presented}"` in [server]' in outcome.cause
    assert "sectorwatch doctor" in outcome.cause


def test_a_server_without_tls_and_an_untrusted_one_have_different_messages(
    tmp_path: Path, server: StandIn, clock: HandClock
) -> None:
    outcome = sent(tmp_path, server, clock)
    assert isinstance(outcome, RetryLater)
    assert outcome.cause.endswith("of 127.0.0.1 does not speak TLS: is it http:// there?")
