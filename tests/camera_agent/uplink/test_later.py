"""What cannot be sent now is sent later, and other cameras do not wait for it."""

from __future__ import annotations

import email.utils
import json
from pathlib import Path

import pytest

from camera_agent.network.backoff import Backoff
from camera_agent.uplink.http_client import retry_after_s
from tests.camera_agent.spool.test_spool import burst
from tests.camera_agent.stand_in import Answer, StandIn
from tests.camera_agent.uplink.conftest import Bench


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_accepted_delays_only_its_camera(bench: Bench, server: StandIn, status: int) -> None:
    bench.tokens.update(gate=lambda: "old", door=lambda: "good")
    server.answers.append(Answer(status))
    bench.spool.put(burst(1, camera="gate"))
    bench.spool.put(burst(2, camera="door"))
    for _ in range(3):
        bench.send()
    assert list(server.bursts) == ["burst-0002"]
    assert server.bursts["burst-0002"].token == "Bearer good"
    assert len(server.arrivals) == 2
    bench.clock.now_s += 31.0
    bench.tokens["gate"] = lambda: "new"
    bench.send()
    assert server.bursts["burst-0001"].token == "Bearer new"


def busy(kind: str, retry_after_s: int = 0) -> Answer:
    problem = {"type": f"urn:sectorwatch:problem:{kind}", "title": "Not now"}
    return Answer(503, json.dumps(problem).encode(), {"Retry-After": str(retry_after_s)})


@pytest.mark.parametrize("kind", ["later", "over-quota"])
def test_a_camera_for_which_the_server_has_no_room_delays_only_itself(bench: Bench, server: StandIn, kind: str) -> None:
    server.on_arrival = lambda _count: busy(kind, 9) if server.arrivals[-1].envelope["camera"] == "gate" else None
    for number in range(4):
        bench.spool.put(burst(number, camera="gate"))
        bench.spool.put(burst(10 + number, camera="door"))
    assert [bench.send() for _ in range(5)] == [0.0] * 5
    assert sorted(server.bursts) == [f"burst-001{number}" for number in range(4)]
    assert len(server.arrivals) == 5
    server.on_arrival = lambda _count: None
    bench.clock.now_s += 20.0
    bench.send()
    assert "burst-0000" in server.bursts


def test_a_camera_that_gets_no_room_is_tried_again_after_growing_delays(bench: Bench, server: StandIn) -> None:
    server.always = busy("later")
    bench.spool.put(burst(1))
    for delay_s in (1.0, 2.0, 4.0):
        count = len(server.arrivals)
        bench.send()
        assert len(server.arrivals) == count + 1
        bench.clock.now_s += delay_s - 0.01
        bench.send()
        assert len(server.arrivals) == count + 1
        bench.clock.now_s += 0.02
    assert bench.tally.read().link == "down"


def test_after_an_outage_cameras_take_turns_however_many_bursts_each_has(bench: Bench, server: StandIn) -> None:
    for number in range(6):
        bench.spool.put(burst(number, camera="gate"))
    for number in (10, 11):
        bench.spool.put(burst(number, camera="door"))
    for _ in range(8):
        bench.send()
    cameras = [seen.envelope["camera"] for seen in server.arrivals]
    assert cameras == ["gate", "door", "gate", "door"] + ["gate"] * 4


def test_a_burst_that_never_gets_an_answer_lets_other_cameras_send_between_its_tries(
    bench: Bench, server: StandIn
) -> None:
    server.on_arrival = lambda _count: Answer(504) if server.arrivals[-1].envelope["camera"] == "gate" else None
    bench.spool.put(burst(1, camera="gate"))
    for number in range(10, 13):
        bench.spool.put(burst(number, camera="door"))
    for _ in range(7):
        bench.send()
    assert list(server.bursts) == [f"burst-00{number}" for number in range(10, 13)]


def test_a_burst_waits_while_its_token_file_is_missing(bench: Bench, server: StandIn, tmp_path: Path) -> None:
    bench.tokens["gate"] = (tmp_path / "gone").read_text
    bench.spool.put(burst(1))
    bench.send()
    assert (len(bench.spool), len(server.arrivals)) == (1, 0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(429),
        Answer(500, b"<html>oops"),
        Answer(502),
        Answer(503),
        Answer(404),
        Answer(302, headers={"Location": "/login"}),
        Answer(200, b"<html>Welcome to the hotel's network</html>"),
        Answer(201, b'{"burst_id": "another"}'),
        Answer(201, b'{"burst_id": "\xff"}'),
        Answer(500, b'{"detail": "\xff"}'),
        Answer(500, b"[" * 10_000),
        Answer(201, b'{"burst_id": "burst-0001", "events": [{"x": ' + b"[" * 10_000),
        Answer(503, headers={"Retry-After": "\xb2"}),
        Answer(503, b'{"title": {"a": [1]}, "detail": 7, "frame": "x"}'),
        Answer(0),
    ],
    ids=lambda answer: str(answer.status),
)
def test_a_temporary_fault_keeps_the_burst_with_growing_delays(bench: Bench, server: StandIn, answer: Answer) -> None:
    server.answers.extend([answer] * 8)
    bench.spool.put(burst(1))
    assert [bench.send() for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert bench.tally.read().link == "down"
    assert bench.send() == 0.0
    assert list(server.bursts) == ["burst-0001"]
    assert bench.tally.read().link == "up"


@pytest.mark.parametrize("header", ["17", email.utils.formatdate(1_800_000_017.0, usegmt=True)])
def test_retry_after_is_honoured_in_both_forms(bench: Bench, server: StandIn, header: str) -> None:
    server.answers.append(Answer(503, headers={"Retry-After": header}))
    bench.spool.put(burst(1))
    assert 17.0 <= bench.send() <= 18.0


@pytest.mark.parametrize(("header", "expected_s"), [(None, 0.0), ("soon", 0.0), ("-5", 0.0), ("999999", 3600.0)])
def test_an_invalid_retry_after_is_ignored(header: str | None, expected_s: float) -> None:
    assert retry_after_s(header, 0.0) == expected_s


def test_a_backoff_is_shortened_by_up_to_half() -> None:
    backoff = Backoff(first_s=1.0, max_s=8.0)
    for whole_s in (1.0, 2.0, 4.0, 8.0, 8.0):
        assert whole_s / 2 <= backoff.next_s() <= whole_s
    backoff.reset()
    assert backoff.next_s() <= 1.0
