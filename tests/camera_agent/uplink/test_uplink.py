"""Sending: what each answer means, and how long is waited before the next try. The server is real; the clock is
turned by hand.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import msgspec
import pytest

from camera_agent.burst import ClockReading
from camera_agent.clock import boot_id
from camera_agent.spool.spool import SendOrder, Spool
from camera_agent.uplink.http_client import Accepted, Gone, Refused, RetryLater, Unauthorised
from tests.camera_agent.conftest import HandClock
from tests.camera_agent.spool.test_spool import burst, spool_in
from tests.camera_agent.stand_in import Answer, StandIn
from tests.camera_agent.uplink.conftest import Bench, client_of

UNUSABLE = "urn:sectorwatch:problem:unusable"


def test_a_new_burst_is_accepted_and_leaves_the_spool(bench: Bench, server: StandIn) -> None:
    server.events = [{"kind": "entered"}]
    bench.spool.put(burst(1))
    assert bench.send() == 0.0
    assert len(bench.spool) == 0
    status = bench.tally.read()
    assert (status.sent, status.known, status.events, status.link) == (1, 0, 1, "up")
    seen = server.bursts["burst-0001"]
    assert seen.frames == burst(1).frames
    assert seen.envelope["agent"]["sent_at"] == "2027-01-15T08:00:00.000Z"


def test_a_burst_that_the_server_already_has_counts_as_sent(bench: Bench, server: StandIn) -> None:
    server.answers.append(Answer(0, keep=True))
    bench.spool.put(burst(1))
    assert bench.send() == 1.0
    assert len(bench.spool) == 1
    bench.send()
    assert (bench.tally.read().known, len(bench.spool)) == (1, 0)
    assert len(server.arrivals) == 2
    assert server.arrivals[0].identity == server.arrivals[1].identity


def test_bytes_sent_are_counted_as_on_the_wire(bench: Bench, server: StandIn) -> None:
    bench.spool.put(burst(1, size_bytes=50_000))
    bench.send()
    assert 50_000 < bench.tally.read().bytes_sent < 52_500


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refused_burst_is_set_aside_with_the_servers_reason_and_the_next_one_is_sent(
    tmp_path: Path, bench: Bench, server: StandIn, status: int
) -> None:
    errors = [{"frame": 3, "reason": "not a JPEG"}]
    problem = {"type": UNUSABLE, "title": "Unusable", "detail": "not a JPEG", "errors": errors, "status": status}
    server.answers.append(Answer(status, json.dumps(problem).encode()))
    for number in (1, 2):
        bench.spool.put(burst(number))
    assert [bench.send(), bench.send()] == [0.0, 0.0]
    assert list(server.bursts) == ["burst-0002"]
    text = next((tmp_path / "refused").glob("*.txt")).read_text()
    assert text == f"HTTP {status} Unusable: not a JPEG (frame 3)\n"
    assert bench.tally.read().refused == 1


@pytest.mark.parametrize(
    "body", [b"<html>413 Request Entity Too Large</html>", b'{"type": "about:blank"}', b"[1]", b""]
)
@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_an_answer_of_a_proxy_sets_no_burst_aside_and_delays_only_its_camera(
    bench: Bench, server: StandIn, status: int, body: bytes
) -> None:
    server.answers.append(Answer(status, body))
    bench.spool.put(burst(1, camera="gate"))
    bench.spool.put(burst(2, camera="door"))
    assert [bench.send(), bench.send()] == [0.0, 0.0]
    assert list(server.bursts) == ["burst-0002"]
    assert [entry.burst_id for entry in bench.spool.entries_of("gate")] == ["burst-0001"]
    bench.clock.now_s += 1.0
    bench.send()
    assert list(server.bursts) == ["burst-0002", "burst-0001"]


@pytest.mark.parametrize("send", ["oldest_first", "newest_first"])
def test_a_burst_that_a_proxy_does_not_let_through_keeps_no_other_of_its_camera_back(
    tmp_path: Path, bench: Bench, server: StandIn, send: SendOrder
) -> None:
    spool = Spool(tmp_path / "s", max_bytes=10**6, refused_folder=tmp_path / "r", keep_refused=1, send=send)
    spool.open()
    bench.uplink._spool = spool
    server.answers.append(Answer(413, b"<html>413 Request Entity Too Large</html>"))
    for number in (1, 2, 3):
        spool.put(burst(number))
    for _ in range(4):
        bench.send()
        bench.clock.now_s += 5.0
    late = "burst-0001" if send == "oldest_first" else "burst-0003"
    assert len(server.bursts) == 3
    assert list(server.bursts)[-1] == late


def test_a_burst_that_was_sent_at_an_unknown_time_keeps_its_instants(bench: Bench, server: StandIn) -> None:
    server.unix_s = lambda: None  # a proxy leaves out `Date`
    clock = ClockReading(synced=False, boot_id=boot_id(), monotonic_ms=1_000_000)
    plain = burst(1)
    bench.spool.put(msgspec.structs.replace(plain, envelope=msgspec.structs.replace(plain.envelope, clock=clock)))
    server.answers.append(Answer(0, keep=True))
    bench.send()
    server.unix_s = bench.clock.unix_s
    bench.client.fetch_time()
    bench.send()
    assert (len(server.arrivals), len(bench.spool), bench.tally.read().refused) == (2, 0, 0)
    assert server.arrivals[0].identity == server.arrivals[1].identity


def test_a_burst_of_an_unknown_time_is_not_sent_before_the_server_can_tell_the_time(
    bench: Bench, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be sent again with other instants, under an id that the server knows already."""
    clock = ClockReading(synced=False, boot_id=boot_id(), monotonic_ms=1_000_000)
    plain = burst(1)
    bench.spool.put(msgspec.structs.replace(plain, envelope=msgspec.structs.replace(plain.envelope, clock=clock)))
    with monkeypatch.context() as patch:
        patch.setattr(bench.client, "_url", "http://127.0.0.1:1")
        assert bench.send() == 1.0
    assert server.arrivals == []
    server.answers.append(Answer(0, keep=True))
    sent = [bench.send(), bench.send()]
    assert (sent, len(bench.spool), bench.tally.read().refused) == ([2.0, 0.0], 0, 0)
    assert server.arrivals[0].identity == server.arrivals[1].identity


def test_a_spool_that_cannot_be_opened_for_lack_of_handles_loses_nothing(
    tmp_path: Path, server: StandIn, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_in(tmp_path)
    spool.put(burst(1), to_disk=True)
    waiting = spool.next()
    assert waiting is not None
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", _too_many_open_files)
        assert isinstance(client_of(server.url, clock).send_burst(waiting, None), RetryLater)
    assert isinstance(client_of(server.url, clock).send_burst(waiting, None), Accepted)


def _too_many_open_files(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_password_of_a_netrc_is_never_sent(
    tmp_path: Path, server: StandIn, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login bob password hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    client_of(server.url, clock).fetch_version()
    assert [token for _, token in server.asked] == [None]


def test_a_long_problem_text_is_cut(tmp_path: Path, bench: Bench, server: StandIn) -> None:
    server.answers.append(
        Answer(400, json.dumps({"type": UNUSABLE, "title": "No", "detail": "x" * 1_000_000}).encode())
    )
    bench.spool.put(burst(1))
    bench.send()
    assert next((tmp_path / "refused").glob("*.txt")).read_text() == f"HTTP 400 No: {'x' * 1000}\n"


def test_an_unreachable_server_is_an_outcome_and_not_an_exception(tmp_path: Path, clock: HandClock) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        spool = spool_in(tmp_path)
        spool.put(burst(1))
        waiting = spool.next()
        assert waiting is not None
        outcome = client_of(f"http://127.0.0.1:{held.getsockname()[1]}", clock).send_burst(waiting, None)
    assert isinstance(outcome, RetryLater)
    assert "refused" in outcome.cause.lower()


def test_each_answer_is_an_outcome(tmp_path: Path, server: StandIn, clock: HandClock) -> None:
    spool = spool_in(tmp_path)
    spool.put(burst(1))
    waiting = spool.next()
    assert waiting is not None
    client = client_of(server.url, clock)
    server.answers.extend(
        [Answer(422, b'{"type": "urn:sectorwatch:problem:unusable", "title": "No"}'), Answer(401), Answer(503)]
    )
    outcomes = [client.send_burst(waiting, None) for _ in range(5)]
    assert [type(outcome) for outcome in outcomes] == [Refused, Unauthorised, RetryLater, Accepted, Accepted]
    assert [outcome.known for outcome in outcomes if isinstance(outcome, Accepted)] == [False, True]
    spool.remove(waiting)
    assert isinstance(client.send_burst(waiting, None), Gone)
    client.close()


def test_a_damaged_burst_is_set_aside_and_the_next_one_is_sent(tmp_path: Path, bench: Bench, server: StandIn) -> None:
    for number in (1, 2):
        bench.spool.put(burst(number))
    first = bench.spool.next()
    assert first is not None
    first.path.write_bytes(b"\0" * 500)
    bench.send()
    bench.send()
    assert list(server.bursts) == ["burst-0002"]
    assert len(list((tmp_path / "refused").glob("*.burst"))) == 1


def test_a_deleted_file_does_not_block_other_bursts(bench: Bench, server: StandIn) -> None:
    for number in (1, 2):
        bench.spool.put(burst(number))
    first = bench.spool.next()
    assert first is not None
    first.path.unlink()
    bench.send()
    bench.send()
    assert list(server.bursts) == ["burst-0002"]
    assert len(bench.spool) == 0


def test_one_connection_serves_many_bursts_and_a_closed_one_is_replaced(bench: Bench, server: StandIn) -> None:
    for number in range(4):
        bench.spool.put(burst(number))
    for _ in range(4):
        bench.send()
    assert list(server.bursts) == [f"burst-{number:04d}" for number in range(4)]


def test_the_uplink_stops_after_the_current_request(bench: Bench, server: StandIn) -> None:
    for number in range(5):
        bench.spool.put(burst(number))

    def stop_at_the_second(count: int) -> None:
        if count == 2:
            bench.stop.set()

    server.on_arrival = stop_at_the_second
    bench.uplink.run()
    assert list(server.bursts) == ["burst-0000", "burst-0001"]
    assert len(bench.spool) == 3
