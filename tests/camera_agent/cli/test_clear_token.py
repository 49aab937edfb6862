"""A token that crosses the network in the clear is warned of, once, with the command that mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from camera_agent.__main__ import command
from camera_agent.cli.validate import clear_token_advice
from camera_agent.config.load import load_settings
from camera_agent.config.settings import CameraSettings, InvalidSettings, ServerSettings, Settings
from tests.camera_agent.conftest import AgentProcess
from tests.camera_agent.stand_in import StandIn


def settings(url: str, token: str | None = "sw_1_2") -> Settings:
    return Settings(
        site="yard", server=ServerSettings(url=url, token=token), cameras=(CameraSettings(name="gate", device=0),)
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://192.168.1.10:8765",
        "HTTP://server.example",
        "http://pc:8765",
        "http://127.0.0.1.example:8765",
        "http://[fd00::2]",
    ],
)
def test_a_token_over_plain_http_to_another_machine_is_warned_of_with_the_command_that_mends_it(url: str) -> None:
    advice = clear_token_advice(settings(url))
    assert advice is not None
    assert "in the clear" in advice
    assert "`sectorwatch tls init` on the server" in advice


@pytest.mark.parametrize(
    "url",
    [
        "https://192.168.1.10:8765",
        "http://127.0.0.1:8765",
        "http://localhost:8765",
        "http://[::1]:8765",
        "http://127.9.9.9",
    ],
)
def test_neither_https_nor_loopback_is_warned_of(url: str) -> None:
    assert clear_token_advice(settings(url)) is None


def test_without_a_token_there_is_nothing_to_warn_of() -> None:
    assert clear_token_advice(settings("http://192.168.1.10:8765", token=None)) is None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "agent.toml"
    (tmp_path / "empty").mkdir()
    file.write_text(
        f'site = "yard"\nstate_dir = "{tmp_path}/state"\n[server]\nurl = "http://192.0.2.1:9"\ntoken = "sw_1_2"\n'
        'connect_timeout_s = 0.1\nheartbeat_s = 0\n[[cameras]]\nname = "gate"\nfolder = "empty"\n'
    )
    return file


def test_a_run_says_so_once(file: Path, start_agent: Callable[..., AgentProcess]) -> None:
    agent = start_agent("run", file)
    assert "sectorwatch tls init" in agent.wait_for_line("token_in_clear")
    agent.stop()
    agent.wait()


@pytest.mark.parametrize("name", ["once", "doctor"])
def test_each_other_command_that_sends_the_token_says_so_once(
    name: str, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command([name, str(file)]) in (0, 1)
    out, err = capfd.readouterr()
    assert (out + err).count("sectorwatch tls init") == 1


def test_a_fingerprint_needs_https_and_excludes_ca_file(tmp_path: Path) -> None:
    pin = ":".join(["AB"] * 32)
    for lines, told in (
        (f'url = "http://pc:8765"\nfingerprint = "{pin}"\n', "begins with https://"),
        ('url = "https://pc:8765"\nfingerprint = "AB:CD"\n', "64 hex digits"),
        (f'url = "https://pc:8765"\nca_file = "x.pem"\nfingerprint = "{pin}"\n', "leave `ca_file` out"),
    ):
        file = tmp_path / "agent.toml"
        file.write_text(f'site = "yard"\n[server]\n{lines}[[cameras]]\nname = "gate"\ndevice = 0\n')
        with pytest.raises(InvalidSettings, match=told):
            load_settings(file)


def test_doctor_says_that_a_server_with_https_is_addressed_with_http(
    server: StandIn, footage: Path, write_settings: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server.heartbeat_status = 426
    assert command(["doctor", str(write_settings(f'video = "{footage}"'))]) == 1
    assert f"NOT  server: {server.url} answers HTTP 426" in capsys.readouterr().out
