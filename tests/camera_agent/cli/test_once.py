"""The commands `once` and `validate`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from camera_agent.__main__ import command
from camera_agent.cli.answer import answer_lines, event_line
from camera_agent.uplink.http_client import Receipt
from tests.camera_agent.cameras.test_cameras import answering, serving
from tests.camera_agent.conftest import CHECKOUT, jpeg
from tests.camera_agent.spool.test_spool import burst, spool_in
from tests.camera_agent.stand_in import Answer, StandIn

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """Restores the signal handlers that the command sets in the test's process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def seen(**answers: object) -> dict[str, object]:
    return {"frame": 0, "at": "2026-01-01T00:00:00Z", "frame_sha256": "", "answers": answers}


def box(label: str, score: float) -> dict[str, object]:
    return {"label": label, "score": score, "box": [0.1, 0.1, 0.2, 0.2]}


def receipt_of(**more: object) -> Receipt:
    return msgspec.json.decode(msgspec.json.encode({"burst_id": "b", **more}), type=Receipt)


def test_once_shows_each_label_with_its_score_and_whether_it_is_a_vote() -> None:
    receipt = receipt_of(
        labels={"yolov3-tiny": ["person", "person", "nothing"], "frame-change": ["still", "moving", ""]},
        votes={"yolov3-tiny": [[], ["person"], []], "frame-change": [[], [], []]},
        observations=[
            seen(**{"yolov3-tiny": [box("person", 0.14)], "frame-change": [{"label": "still", "score": 0.97}]}),
            seen(**{"yolov3-tiny": [box("dog", 0.2), box("person", 0.8312)], "frame-change": [box("moving", 0.5)]}),
            seen(**{"yolov3-tiny": [], "frame-change": None}),
        ],
    )
    assert list(answer_lines((0, 1000, 2000), receipt)) == [
        "frame  at        yolov3-tiny    frame-change",
        "-----  --------  -------------  ------------",
        "0      +0.000 s  person 0.14    still 0.97",
        "1      +1.000 s  person 0.83 *  moving 0.50",
        "2      +2.000 s  nothing        -",
        "",
        "* a vote for a target of the site",
        "events: none yet",
    ]


def test_once_says_that_no_label_is_a_vote() -> None:
    receipt = receipt_of(labels={"eye": ["person"]}, votes={"eye": [[]]}, observations=[seen(eye=[box("person", 0.3)])])
    lines = list(answer_lines((0,), receipt))
    assert lines[2] == "0      +0.000 s  person 0.30"
    assert "no label is a vote for a target of the site" in lines


def test_the_answer_of_an_older_server_is_shown_without_votes() -> None:
    lines = list(
        answer_lines((0,), receipt_of(labels={"eye": ["person"]}, observations=[seen(eye=[box("person", 0.3)])]))
    )
    assert lines[2] == "0      +0.000 s  person 0.30"
    assert not any("vote" in line for line in lines)


@pytest.mark.usefixtures("_in_berlin")
@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"kind": "entered", "sector": "table", "direction": "bottom"}, "12:04 person entered table from the bottom"),
        ({"kind": "entered", "sector": "table", "direction": "unknown"}, "12:04 person entered table"),
        ({"kind": "left", "sector": "table", "direction": "right"}, "12:04 person left table to the right"),
        ({"kind": "moved", "from_sector": "a", "to_sector": "b"}, "12:04 person moved a > b"),
        (
            {"kind": "moved", "from_sector": "a", "to_sector": "b", "direction": "up"},
            "12:04 person moved a > b, upwards",
        ),
        ({"kind": "crossed", "line": "middle", "direction": "in"}, "12:04 person crossed middle, in"),
        ({"kind": "lingered", "sector": "table"}, "12:04 person lingered at table"),
        ({"kind": "presence_started", "sector": "table"}, "12:04 person present at table"),
        (
            {"kind": "presence_ended", "sector": "table", "ended_at": "2026-01-01T17:12:15Z"},
            "12:15 person gone from table, 11 s",
        ),
        ({"kind": "vanished", "sector": "table"}, "12:04 person vanished table"),
    ],
)
def test_an_event_is_one_line_in_local_time(event: dict[str, object], line: str) -> None:
    """A presence that ended is shown at its end."""
    whole = {"label": "person", "started_at": "2026-01-01T17:12:04Z", **event}
    assert event_line(whole) == f"2026-01-01 18:{line}"


def test_an_event_of_today_has_no_date() -> None:
    at = datetime.now(UTC)
    line = event_line({"kind": "entered", "sector": "yard", "label": "person", "started_at": at.isoformat()})
    assert line == f"{at.astimezone():%H:%M:%S} person entered yard"


@pytest.mark.parametrize("event", [{}, {"kind": 7, "started_at": "soon"}, {"label": "a\x1b[31m\nb", "kind": "entered"}])
def test_an_event_that_is_not_understood_is_one_plain_line(event: dict[str, object]) -> None:
    assert event_line(event).isprintable()


def test_once_writes_the_first_burst_of_a_recording_to_a_folder_and_sends_it(
    tmp_path: Path, server: StandIn, footage: Path, write_settings: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_settings(f'video = "{footage}"')
    assert command(["once", str(settings), "--out", str(tmp_path / "look")]) == 0
    written = sorted(path.name for path in (tmp_path / "look").iterdir())
    assert written == ["000.jpg", "001.jpg", "002.jpg", "003.jpg", "004.jpg", "answer.json", "burst.json"]
    seen = next(iter(server.bursts.values()))
    assert seen.frames == tuple((tmp_path / f"look/{index:03d}.jpg").read_bytes() for index in range(5))
    assert json.loads((tmp_path / "look/burst.json").read_text())["burst_id"] == seen.envelope["burst_id"]
    out = capsys.readouterr().out
    assert "accepted it: burst" in out
    assert "4      +4.000 s  nothing" in out


def test_once_sends_the_new_burst_though_the_folder_holds_an_older_one(
    tmp_path: Path, server: StandIn, footage: Path, write_settings: Write
) -> None:
    settings = str(write_settings(f'video = "{footage}"'))
    spool_in(tmp_path / "look").put(burst(7))
    assert command(["once", settings, "--out", str(tmp_path / "look")]) == 0
    assert "burst-0007" not in server.bursts
    assert len(server.bursts) == 1


def test_once_takes_a_live_burst_now(
    tmp_path: Path, server: StandIn, write_settings: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(answering(jpeg(9))) as url:
        settings = write_settings(f'snapshot = "{url}"\nburst = {{ frames = 3, spacing_s = 1.0 }}')
        assert command(["once", str(settings), "--camera", "gate", "--out", str(tmp_path / "look")]) == 0
    seen = next(iter(server.bursts.values()))
    assert seen.frames == (jpeg(9),) * 3
    assert seen.token == "Bearer s3cret"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Answer(422, b'{"type": "urn:sectorwatch:problem:unusable", "title": "Unusable", "detail": "unknown site"}'),
            "refused it: HTTP 422 Unusable: unknown site",
        ),
        (Answer(401, b'{"title": "Unauthorized"}'), "does not accept this camera's token: HTTP 401 Unauthorized"),
        (Answer(503), "did not accept it: HTTP 503"),
    ],
)
def test_once_reports_why_the_server_did_not_accept_the_burst(
    tmp_path: Path,
    server: StandIn,
    footage: Path,
    write_settings: Write,
    capsys: pytest.CaptureFixture[str],
    answer: Answer,
    message: str,
) -> None:
    server.answers.append(answer)
    settings = write_settings(f'video = "{footage}"')
    assert command(["once", str(settings), "--out", str(tmp_path / "look")]) == 1
    assert message in capsys.readouterr().out


def test_once_reports_a_missing_camera_in_one_line(
    tmp_path: Path, server: StandIn, write_settings: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = write_settings("device = 99")
    assert command(["once", str(settings), "--out", str(tmp_path / "look")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("camera gate (device 99): cannot be opened")
    assert not server.arrivals


def test_once_reports_why_no_frame_could_be_taken(write_settings: Write, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(answering(b"", status=404)) as url:
        settings = write_settings(f'snapshot = "{url}"\nburst = {{ frames = 1 }}')
        assert command(["once", str(settings)]) == 1
    assert "the camera answers HTTP 404: its manual names the path of the address\n" in capsys.readouterr().err


def test_a_misspelt_camera_is_a_configuration_error(
    footage: Path, write_settings: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["once", str(write_settings(f'video = "{footage}"')), "--camera", "gaet"]) == 78
    assert capsys.readouterr().err == "no camera is called 'gaet'; did you mean `gate`?\n"


def test_validate_describes_the_settings(
    footage: Path, write_settings: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["validate", str(write_settings(f'video = "{footage}"'))]) == 0
    out = capsys.readouterr().out
    assert "5 frames 1 s apart every 5 s, no blind time" in out
    assert "with a token" in out
    assert "s3cret" not in out


def test_validate_names_the_hours_in_which_a_camera_is_off(
    write_settings: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["validate", str(write_settings('device = 0\nhours = ["06:00-22:00"]'))]) == 0
    assert "no blind time; off outside 06:00-22:00\n" in capsys.readouterr().out


def test_unusable_settings_end_with_78_and_one_line(write_settings: Write, capsys: pytest.CaptureFixture[str]) -> None:
    settings = write_settings("devcie = 0")
    assert command(["validate", str(settings)]) == 78
    assert capsys.readouterr().err.endswith("agent.toml:9: cameras[0].devcie: unknown key; did you mean `device`?\n")


def test_a_closed_pipe_causes_no_traceback(footage: Path, write_settings: Write) -> None:
    agent = f"{sys.executable} -m camera_agent coverage {write_settings(f'video = {str(footage)!r}')}"
    done = subprocess.run(["/bin/sh", "-c", f"{agent} | true"], capture_output=True, text=True, check=False)
    assert done.stderr == ""


REPORT = {
    "site": "yard",
    "camera": "gate",
    "file": "yard.toml",
    "policy": "abc",
    "in_force": "last_good",
    "faults": ["yard.toml, line 12: `polygn` is no key; did you mean `polygon`?"],
    "remarks": ["yard.toml has no [cameras.gate]: the rules of the whole site are used"],
}


def test_once_and_doctor_show_what_the_server_makes_of_the_site_file(
    tmp_path: Path, server: StandIn, footage: Path, write_settings: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    server.site_policy = Answer(200, json.dumps(REPORT).encode())
    settings = str(write_settings(f'video = "{footage}"'))
    assert command(["once", settings, "--out", str(tmp_path / "look")]) == 0
    out = capsys.readouterr().out
    assert "the server's site policy: yard.toml: the last good policy stays in force\n" in out
    assert "  fault: yard.toml, line 12: `polygn` is no key" in out
    assert "  mind: yard.toml has no [cameras.gate]" in out
    assert server.asked == [("/v1/site-policy?site=yard&camera=gate", "Bearer s3cret")]
    server.heartbeat_status = 422
    assert command(["doctor", settings]) == 1
    out = capsys.readouterr().out
    assert "NOT  site policy of gate: yard.toml: the last good policy stays in force\n" in out
    assert "NOT  site policy of gate: yard.toml, line 12: `polygn`" in out
    assert "ok   site policy of gate: mind: yard.toml has no [cameras.gate]" in out


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404),
        Answer(401),
        Answer(0),
        Answer(200, b"<html>"),
        Answer(200, json.dumps({**REPORT, "in_force": "file", "faults": [], "remarks": []}).encode()),
    ],
    ids=["older server", "other token", "no answer", "a portal", "all is well"],
)
def test_once_shows_nothing_of_a_site_file_without_a_fault_or_from_an_older_server(
    tmp_path: Path,
    server: StandIn,
    footage: Path,
    write_settings: Write,
    capsys: pytest.CaptureFixture[str],
    answer: Answer,
) -> None:
    server.site_policy = answer
    assert command(["once", str(write_settings(f'video = "{footage}"')), "--out", str(tmp_path / "look")]) == 0
    assert "site policy" not in capsys.readouterr().out


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What a shell makes of a line in which `agent` is `camera-agent`."""
    script = f'agent() {{ "{sys.executable}" -m camera_agent "$@"; }}; {line}'
    names = {**os.environ, "PYTHONPATH": str(CHECKOUT), **environment}
    names.pop("PYTHONUNBUFFERED", None)
    return subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False, env=names)


@pytest.mark.parametrize("words", ["validate {}", "coverage {}", "doctor {}", "once {} --out {}.look", "--help"])
@pytest.mark.parametrize(
    ("output", "error"), [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_a_full_or_closed_output_is_one_line_and_a_failure(
    footage: Path, write_settings: Write, words: str, output: str, error: str
) -> None:
    settings = write_settings(f'video = "{footage}"')
    done = shell(f"agent {words.replace('{}', str(settings))} {output}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"camera-agent: the output cannot be written: {error}"
    assert "Traceback" not in done.stderr


def test_a_closed_error_output_does_not_stop_a_command(footage: Path, write_settings: Write) -> None:
    done = shell(f"agent validate {write_settings(f'video = {str(footage)!r}')} 2>&-")
    assert done.returncode == 0
    assert "is valid" in done.stdout


@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "LANG": "C"}])
@pytest.mark.parametrize("words", ["validate", "doctor", "once"])
def test_what_a_terminal_cannot_show_is_escaped(
    tmp_path: Path, server: StandIn, footage: Path, write_settings: Write, words: str, environment: dict[str, str]
) -> None:
    server.heartbeat_status = 422
    snow = tmp_path / "sn\u2603w.avi"
    snow.write_bytes(footage.read_bytes())
    settings = write_settings('video = "sn\u2603w.avi"', state="st\u2603te")
    out = f"--out {tmp_path}/l\u2603k" if words == "once" else ""
    done = shell(f"agent {words} {settings} {out}", **environment)
    assert "Traceback" not in done.stderr
    assert ("\\u2603" if "PYTHONIOENCODING" in environment else "\u2603") in done.stdout
    if words == "validate":
        assert done.returncode == 0
