"""The agent as a process: played to the end, killed anywhere, stopped, refused; the server is real and sees what
it would have seen.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.camera_agent.cameras.test_cameras import answering, serving
from tests.camera_agent.conftest import CHECKOUT, AgentProcess, jpeg
from tests.camera_agent.stand_in import Answer, StandIn

Write = Callable[..., Path]
Start = Callable[..., AgentProcess]

PLAYED = "speed = 0\nframes_per_s = 5\nstarted_at = 2026-01-01T00:00:00Z\nburst = { frames = 3 }\n"
BURSTS = 10


def camera(footage: Path) -> str:
    return f'video = "{footage}"\n{PLAYED}'


@pytest.fixture(scope="session")
def undisturbed(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """What a server receives in a run without faults: every burst's identity, in order."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with StandIn() as server:
        path = folder / "agent.toml"
        path.write_text(
            f'site = "yard"\nstate_dir = "state"\n[server]\nurl = "{server.url}"\n'
            f'[[cameras]]\nname = "gate"\n{camera(footage)}'
        )
        agent = AgentProcess(["run", str(path)])
        assert agent.wait() == 0, agent.lines
        agent.process.stdout.close()  # type: ignore[union-attr]
        assert len(server.arrivals) == BURSTS
        return [seen.identity for seen in server.bursts.values()]


def identities(server: StandIn) -> list[object]:
    return [seen.identity for seen in server.bursts.values()]


def status(tmp_path: Path, state: str = "state") -> dict[str, object]:
    return dict(json.loads((tmp_path / state / "status.json").read_text()))


def test_footage_is_played_to_its_end_and_a_summary_is_logged(
    tmp_path: Path, server: StandIn, footage: Path, write_settings: Write, start_agent: Start, undisturbed: list[object]
) -> None:
    agent = start_agent("run", write_settings(camera(footage)))
    assert agent.wait() == 0
    assert identities(server) == undisturbed
    seen = next(iter(server.bursts.values()))
    assert seen.token == "Bearer s3cret"
    assert seen.envelope["offsets_ms"] == [0, 200, 400]
    assert seen.envelope["captured_at"] == "2026-01-01T00:00:00.000Z"
    wrote = status(tmp_path)
    assert (wrote["state"], wrote["bursts"], wrote["frames"], wrote["sent"]) == ("finished", BURSTS, 30, BURSTS)
    assert int(str(wrote["bytes_sent"])) > sum(len(frame) for seen in server.bursts.values() for frame in seen.frames)
    summary = agent.wait_for_line("summary")
    assert f"state=finished bursts={BURSTS} frames=30 sent={BURSTS}" in summary
    assert "dropped=0 refused=0 waiting=0" in summary


def test_played_footage_is_played_again_only_with_from_start(
    server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    settings = write_settings(camera(footage))
    assert start_agent("run", settings).wait() == 0
    assert start_agent("run", settings).wait() == 0
    assert len(server.arrivals) == BURSTS
    assert start_agent("run", settings, "--from-start").wait() == 0
    assert (len(server.arrivals), len(server.bursts)) == (2 * BURSTS, BURSTS)


@pytest.mark.parametrize("at", [1, 4, BURSTS])
@pytest.mark.parametrize("is_kept", [False, True], ids=["before it is kept", "after it is kept"])
def test_a_kill_during_an_upload_changes_nothing_that_the_server_keeps(
    server: StandIn,
    footage: Path,
    write_settings: Write,
    start_agent: Start,
    undisturbed: list[object],
    at: int,
    is_kept: bool,
) -> None:
    settings = write_settings(camera(footage))
    agent = start_agent("run", settings)

    def kill(count: int) -> Answer | None:
        if count != at:
            return None
        agent.kill()
        agent.wait()
        return Answer(503, keep=is_kept)  # to nobody

    server.on_arrival = kill
    assert agent.wait() == -signal.SIGKILL
    server.on_arrival = lambda count: None
    assert start_agent("run", settings).wait() == 0
    assert identities(server) == undisturbed


@pytest.mark.parametrize("at", ["camera ", "footage_opened", "burst_taken", "sending_failed", "footage_over"])
def test_a_kill_while_bursts_wait_in_the_spool_changes_nothing_that_the_server_keeps(
    server: StandIn, footage: Path, write_settings: Write, start_agent: Start, undisturbed: list[object], at: str
) -> None:
    server.always = Answer(503)
    settings = write_settings(camera(footage))
    agent = start_agent("run", settings)
    agent.wait_for_line(at)
    agent.kill()
    assert agent.wait() == -signal.SIGKILL
    server.always = None
    assert start_agent("run", settings).wait() == 0
    assert identities(server) == undisturbed


def test_an_agent_that_is_killed_repeatedly_sends_everything(
    server: StandIn, footage: Path, write_settings: Write, start_agent: Start, undisturbed: list[object]
) -> None:
    settings = write_settings(camera(footage))
    lives = 0
    while True:
        agent = start_agent("run", settings)
        came = len(server.arrivals)

        def kill(count: int, agent: AgentProcess = agent, came: int = came) -> None:
            if count == came + 3:
                agent.kill()

        server.on_arrival = kill
        lives += 1
        if agent.wait() == 0:
            break
        assert lives < 2 * BURSTS
    assert lives > 2
    assert identities(server) == undisturbed


def test_a_chosen_start_instant_survives_a_kill(
    server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    text = f'video = "{footage}"\nspeed = 0\nframes_per_s = 5\nburst = {{ frames = 3 }}\n'
    settings = write_settings(text)
    server.always = Answer(503)
    agent = start_agent("run", settings)
    opened = agent.wait_for_line("footage_opened")
    agent.wait_for_line("burst_taken")
    agent.kill()
    agent.wait()
    server.always = None
    assert start_agent("run", settings).wait() == 0
    captured = [seen.envelope["captured_at"] for seen in server.bursts.values()]
    assert len(captured) == BURSTS
    assert captured == sorted(captured)
    assert f"started_at={captured[0]}" in opened
    assert captured[0].endswith(".000Z")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_after_a_signal_the_agent_finishes_the_upload_and_leaves_the_rest_in_the_spool(
    tmp_path: Path, server: StandIn, footage: Path, write_settings: Write, start_agent: Start, number: int
) -> None:
    settings = write_settings(camera(footage))
    agent = start_agent("run", settings)

    def stop(count: int) -> None:
        if count == 3:
            agent.process.send_signal(number)
            agent.wait_for_line("stopping")

    server.on_arrival = stop
    assert agent.wait() == 0
    assert len(server.bursts) == 3
    assert "state=stopped" in agent.wait_for_line("summary")
    wrote = status(tmp_path)
    assert wrote["sent"] == len(server.bursts)
    assert wrote["waiting"] == len(list((tmp_path / "state/spool").glob("*.burst")))


def test_a_signal_ends_an_agent_without_a_server_within_seconds(
    server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    server.always = Answer(503, headers={"Retry-After": "600"})
    agent = start_agent("run", write_settings(camera(footage)))
    agent.wait_for_line("sending_failed")
    agent.stop()
    assert agent.wait(8.0) == 0


def test_a_signal_ends_an_agent_whose_server_does_not_answer_within_seconds(
    tmp_path: Path, server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    asked, over = threading.Event(), threading.Event()

    def hang(count: int) -> None:
        del count
        asked.set()
        over.wait(60.0)

    server.on_arrival = hang
    agent = start_agent("run", write_settings(camera(footage)))
    assert asked.wait(30.0)
    agent.wait_for_line("footage_over")
    agent.stop()
    assert agent.wait() == 0
    over.set()
    assert len(list((tmp_path / "state/spool").glob("*.burst"))) == BURSTS


def test_with_at_end_wait_the_agent_runs_until_it_is_stopped(
    server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    agent = start_agent("run", write_settings(f'{camera(footage)}at_end = "wait"'))
    agent.wait_for_line("footage_over")
    server.wait_for(lambda: len(server.bursts) == BURSTS)
    assert agent.process.poll() is None
    agent.stop()
    assert agent.wait() == 0


def test_refused_bursts_are_set_aside_and_counted_and_others_are_sent(
    tmp_path: Path, server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    server.answers.extend(
        [Answer(422, b'{"type": "urn:sectorwatch:problem:unusable", "title": "Unusable", "detail": "no such site"}')]
        * 2
    )
    agent = start_agent("run", write_settings(camera(footage)))
    assert agent.wait() == 0
    assert len(server.bursts) == BURSTS - 2
    assert status(tmp_path)["refused"] == 2
    assert len(list((tmp_path / "state/refused").glob("*.burst"))) == 2
    assert 'problem="HTTP 422 Unusable: no such site"' in agent.wait_for_line("burst_refused")


def test_an_unknown_token_stops_the_uplink_and_not_the_capture(
    tmp_path: Path, server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    server.always = Answer(401, b'{"title": "Unauthorized"}')
    agent = start_agent("run", write_settings(camera(footage)))
    agent.wait_for_line("footage_over")
    agent.stop()
    assert agent.wait(8.0) == 0
    assert len(server.arrivals) == 1
    assert len(list((tmp_path / "state/spool").glob("*.burst"))) == BURSTS


def test_a_recording_waits_for_room_and_loses_nothing(
    tmp_path: Path, server: StandIn, write_settings: Write, start_agent: Start
) -> None:
    """Six megabytes of bursts for a spool of one, and a busy server at first."""
    folder = tmp_path / "stills"
    folder.mkdir()
    still = jpeg(5, width=2400, height=1800)
    for number in range(100):
        (folder / f"{number:03d}.jpg").write_bytes(still)
    server.answers.append(Answer(429, headers={"Retry-After": "1"}))
    text = f'folder = "{folder}"\npictures_per_s = 1\nspeed = 0\nmax_width = 0\nburst = {{ frames = 2 }}'
    agent = start_agent("run", write_settings(text, more="[spool]\nmax_bytes = 1_000_000"))
    assert agent.wait() == 0
    assert len(server.bursts) == 50
    assert status(tmp_path)["dropped"] == 0


def test_live_bursts_are_taken_on_the_schedule_until_stopped(
    server: StandIn, write_settings: Write, start_agent: Start
) -> None:
    with serving(answering(jpeg(3))) as url:
        agent = start_agent("run", write_settings(f'snapshot = "{url}"\nburst = {{ frames = 3, spacing_s = 0.1 }}'))
        server.wait_for(lambda: len(server.bursts) >= 5)
        agent.stop()
        assert agent.wait() == 0
    seen = list(server.bursts.values())
    ids = [arrival.envelope["burst_id"] for arrival in seen]
    assert ids == sorted(ids)
    for arrival in seen:
        offsets = arrival.envelope["offsets_ms"]
        assert offsets[0] == 0
        assert all(later > earlier for earlier, later in pairwise(offsets))
    begun_ms = [arrival.envelope["clock"]["monotonic_ms"] for arrival in seen]
    assert begun_ms == sorted(set(begun_ms))


def test_an_unreachable_live_camera_is_logged_and_retried(
    server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    text = (
        'snapshot = "http://127.0.0.1:9/snap.jpg"\nburst = { frames = 2, spacing_s = 0.2 }\n'
        f'[[cameras]]\nname = "door"\n{camera(footage)}'
    )
    agent = start_agent("run", write_settings(text))
    assert "camera=gate" in agent.wait_for_line("camera_failed")
    server.wait_for(lambda: len(server.bursts) == BURSTS)
    assert agent.process.poll() is None
    agent.stop()
    assert agent.wait(60.0) == 0


def test_a_second_agent_cannot_use_the_state_folder(
    server: StandIn, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    server.always = Answer(503)
    settings = write_settings(camera(footage))
    first = start_agent("run", settings)
    first.wait_for_line("footage_opened")
    second = start_agent("run", settings)
    assert second.wait() == 1
    assert "another agent is running on the state folder" in second.lines[-1]


def test_unusable_settings_end_the_process_with_78_and_no_traceback(tmp_path: Path, start_agent: Start) -> None:
    path = tmp_path / "agent.toml"
    path.write_text('site = "yard"\nserver = { url = "http://h" }\n[[cameras]]\nname = "gate"\ndevise = 0\n')
    agent = start_agent("run", path)
    assert agent.wait() == 78
    assert agent.lines == [f"{path}:5: cameras[0].devise: unknown key; did you mean `device`?"]


def test_an_unusable_state_folder_is_reported_in_one_line(
    tmp_path: Path, footage: Path, write_settings: Write, start_agent: Start
) -> None:
    (tmp_path / "state").write_text("a file is in the way")
    agent = start_agent("run", write_settings(camera(footage)))
    assert agent.wait() == 1
    assert agent.lines[-1].startswith(f"the state folder {tmp_path}/state cannot be used")
    assert (tmp_path / "state").is_file()


def test_the_example_in_deploy_is_valid(start_agent: Start) -> None:
    agent = start_agent("validate", CHECKOUT / "deploy/agent.example.toml")
    assert agent.wait() == 0, agent.lines
