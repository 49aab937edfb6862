"""The examples of the agent's README work, and the example settings name every setting."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import certifi
import msgspec
import pytest

from camera_agent.__main__ import make_parser
from camera_agent.config.load import load_settings
from camera_agent.config.settings import (
    BurstSettings,
    CameraSettings,
    GateSettings,
    ServerSettings,
    Settings,
    SpoolSettings,
)
from tests.camera_agent.conftest import CHECKOUT

README = CHECKOUT / "camera_agent/README.md"
TEXT = README.read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [
    shlex.split(line.removeprefix("$ "))
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
AGENT_COMMANDS = [
    words[words.index("camera-agent") + 1 :]
    for words in COMMANDS
    if "camera-agent" in words and words[0] != "journalctl"
]
EXAMPLE = (CHECKOUT / "deploy/agent.example.toml").read_text()
STRUCTS = (Settings, ServerSettings, SpoolSettings, CameraSettings, BurstSettings, GateSettings)
REST = {
    "site": 'site = "north-yard"\n',
    "server": '[server]\nurl = "http://127.0.0.1:8765"\n',
    "cameras": '[[cameras]]\nname = "gate"\ndevice = 0\n',
}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_toml_block_can_be_used(tmp_path: Path, block: str) -> None:
    for name in ("token", "footage.avi"):
        (tmp_path / name).write_text("t0ken")
    (tmp_path / "stills").mkdir()
    shutil.copy(certifi.where(), tmp_path / "our-ca.pem")
    missing = {key: text for key, text in REST.items() if key not in tomllib.loads(block)}
    site = missing.pop("site", "")
    (tmp_path / "agent.toml").write_text("\n".join([site, block, *missing.values()]))
    assert load_settings(tmp_path / "agent.toml").cameras


@pytest.mark.parametrize("words", AGENT_COMMANDS, ids=" ".join)
def test_every_agent_command_can_be_parsed(words: list[str]) -> None:
    assert make_parser().parse_args(words).command == words[0]


def test_the_readme_has_examples_of_every_kind_of_camera_and_of_every_command() -> None:
    text = "\n".join(BLOCKS)
    for source in ("device", "picamera", "rtsp", "mjpeg", "snapshot", "video", "folder"):
        assert re.search(rf"^{source} = ", text, re.MULTILINE), source
    assert {words[0] for words in AGENT_COMMANDS} == {"validate", "once", "run", "doctor", "coverage"}


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_the_example_settings_name_every_setting(struct: type[msgspec.Struct]) -> None:
    names = {field.encode_name for field in msgspec.structs.fields(struct)}
    tables = {"server", "cameras", "spool", "burst", "gate"}
    missing = {name for name in names if not re.search(rf"^(# )?{name} = ", EXAMPLE, re.MULTILINE)}
    assert missing <= tables


def test_every_local_link_of_the_readme_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert [link for link in links if not (README.parent / link).exists()] == []
