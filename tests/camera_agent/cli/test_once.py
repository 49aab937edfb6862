"""The commands `once` and `validate`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from camera_agent.__main__ import command
from camera_agent.cli.once import table
from camera_agent.uplink.http_client import Receipt
from tests.camera_agent.cameras.test_cameras import answering, serving
from tests.camera_agent.conftest import jpeg
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


def test_once_shows_the_label_of_each_frame_and_model_and_the_events() -> None:
    receipt = Receipt(
        burst_id="b",
        labels={"yolov3-tiny": ["person", "nothing"], "frame-change": ["still", "moving"]},
        events=[{"kind": "entered", "sector": "yard", "label": "person", "started_at": "2026-01-01T00:00:00Z"}],
    )
    assert table((0, 1000), receipt).splitlines() == [
        "frame  at        yolov3-tiny  frame-change",
        "-----  --------  -----------  ------------",
        "0      +0.000 s  person       still",
        "1      +1.000 s  nothing      moving",
        "",
        "events: 1",
        "  2026-01-01T00:00:00Z entered sector=yard label=person",
    ]


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
            Answer(422, b'{"title": "Unusable", "detail": "unknown site"}'),
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
