"""No command prints a password, whatever characters it has, and each says what is wrong."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from camera_agent.__main__ import _log_crash, command
from camera_agent.cameras.health import CameraHealth
from camera_agent.config.load import load_settings
from camera_agent.imaging.frame import CameraFailure
from camera_agent.logs import TextFormatter
from tests.camera_agent.conftest import AgentProcess
from tests.camera_agent.network.test_addresses import MARK, REFUSED, USABLE, WRONG

REACHABLE = [address for address in USABLE if address.startswith("http")] + [
    f"http://admin:{MARK}@{MARK}@127.0.0.1:9/snap.jpg",
    f"http://admin:{MARK}%zz:'\"{MARK}@127.0.0.1:9/snap.jpg?pwd={MARK}@{MARK}",
]


def toml(key: str, address: str, *, url: str = "http://127.0.0.1:9", token: str = f"{MARK}t") -> str:
    quoted = address.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return (
        f'site = "yard"\nstate_dir = "state"\n[server]\nurl = "{url}"\ntoken = "{token}"\nconnect_timeout_s = 1.0\n'
        f'[[cameras]]\nname = "gate"\ntimeout_s = 1.0\nburst = {{ frames = 1 }}\n{key} = "{quoted}"\n'
    )


def written(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def near(address: str) -> str:
    """The same address at a port of this machine where nothing listens."""
    for host in ("10.0.0.7:554", "[fd00::7]:554", "nvr:7441", "cam:554", "cam:80", "cam"):
        if host in address:
            return address.replace(host, "127.0.0.1:9")
    return address


@pytest.mark.parametrize("address", USABLE)
def test_validate_shows_a_usable_address_without_its_password(
    address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(["validate", str(written(tmp_path, toml("rtsp", address)))]) == 0
    out, err = capfd.readouterr()
    assert "camera gate: rtsp " in out
    assert MARK not in out + err
    is_unclear = "@" in address.rpartition("@")[0].partition("?")[0] or "%zz" in address or "%@" in address
    assert ("%40" in err) is is_unclear


@pytest.mark.parametrize("address", [*REFUSED, *(address for address, _ in WRONG)])
@pytest.mark.parametrize("name", ["validate", "once", "doctor", "run"])
def test_every_command_refuses_a_wrong_address_by_its_line_without_its_password(
    name: str, address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command([name, str(written(tmp_path, toml("rtsp", address)))]) == 78
    out, err = capfd.readouterr()
    assert "agent.toml:" in err
    assert "cameras[0]" in err
    assert MARK not in out + err


@pytest.mark.parametrize("kind", ["snapshot", "mjpeg", "rtsp"])
@pytest.mark.parametrize("address", sorted({near(address) for address in REACHABLE}))
def test_once_and_doctor_say_that_nothing_answers_without_the_password(
    kind: str, address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, toml(kind, address))
    assert command(["once", str(path), "--out", str(tmp_path / "out")]) == 1
    assert command(["doctor", str(path)]) == 1
    out, err = capfd.readouterr()
    assert out.count("nothing listens on port 9") + err.count("nothing listens on port 9") >= 2
    assert MARK not in out + err


@pytest.mark.parametrize(
    "address", [near(address) for address in USABLE if address.startswith("rtsp://") and address != "rtsp://"]
)
def test_ffmpeg_prints_no_password_either(address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(["once", str(written(tmp_path, toml("rtsp", address))), "--out", str(tmp_path / "out")]) == 1
    out, err = capfd.readouterr()
    assert "camera gate (rtsp " in err
    assert MARK not in out + err


def test_a_running_agent_writes_no_password_to_log_or_status(
    tmp_path: Path, start_agent: Callable[..., AgentProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://worker:{MARK}@127.0.0.1:9")
    text = toml("snapshot", f"http://admin:{MARK}@{MARK}@127.0.0.1:9/snap.jpg?pwd={MARK}")
    text = text.replace(
        'http://127.0.0.1:9"\ntoken', f'http://u:{MARK}@yard.example.org/{MARK}aaaaaaaaaaaaaa1?token={MARK}"\ntoken'
    )
    agent = start_agent("run", written(tmp_path, text))
    agent.wait_for_line("address_unclear")
    agent.wait_for_line("nothing listens on port 9")
    agent.stop()
    assert agent.wait() == 0
    files = [path.read_text(errors="replace") for path in (tmp_path / "state").rglob("*.json")]
    assert files
    assert MARK not in "\n".join([*agent.lines, *files])


def test_settings_are_printed_without_passwords(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, toml("rtsp", f"rtsp://admin:{MARK}@cam/1")))
    assert MARK not in repr(settings) + str(settings)
    assert "gate" in repr(settings)


def test_a_heartbeat_carries_no_password() -> None:
    health = CameraHealth(0.0, stuck_after_s=60.0)
    health.record_failure(CameraFailure(f"Invalid URL 'http://admin:{MARK}@cam/?pwd={MARK}'"), 1.0)
    assert health.read().detail == "Invalid URL 'http://***@cam/?pwd=***'"


def test_a_traceback_in_the_log_has_no_password() -> None:
    try:
        requests.get(f"http://admin:{MARK}@127.0.0.1:9/snap.jpg?pwd={MARK}&token={MARK}", timeout=1)
    except requests.RequestException:
        record = logging.LogRecord("camera_agent", logging.ERROR, "", 1, "failed", None, sys.exc_info())
    line = TextFormatter().format(record)
    assert "Max retries exceeded with url: /snap.jpg?pwd=***&token=***" in line
    assert MARK not in line.replace('requests.get(f"http://admin:{MARK}', "")


def test_an_error_that_nothing_caught_is_logged_without_its_password(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise RuntimeError(f"cannot read rtsp://admin:{MARK}@{MARK}@cam/1")
    except RuntimeError as error:
        _log_crash(type(error), error, error.__traceback__)
    assert "camera_agent crashed" in caplog.text
    assert "cannot read rtsp://***@cam/1" in caplog.text
    assert MARK not in caplog.text
    assert threading.excepthook is not _log_crash
