"""Ray by setting: nothing of it without the setting, one line where it is not installed."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import server.ray_serving
from server.__main__ import command
from server.app import create_app
from server.domain.errors import ConfigurationError, RetryLater
from server.ray_serving import reach
from server.serving.machine import this_machine
from server.serving.memory_budget import expected_bytes
from server.settings import ServerSettings
from tests.server.launched import ROOT

pytestmark = pytest.mark.usefixtures("own_folder")

MISSING = 'ensemble = "ray" needs Ray, which is not here: pip install "sectorwatch[ray]"'


@pytest.fixture
def without_ray(own_folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.ray_serving, "find_spec", lambda _name: None)
    monkeypatch.setenv("SECTORWATCH_ENSEMBLE", "ray")


def test_without_the_setting_nothing_of_ray_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from server.app import create_app;"
        "from server.settings import ServerSettings;"
        f"create_app(ServerSettings(data_dir=Path({str(tmp_path)!r})), channels=[]);"
        "assert not {name for name in sys.modules if name.split('.')[0] == 'ray' or '.ray_serving.' in name}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.usefixtures("without_ray")
def test_a_server_that_needs_ray_and_has_none_is_not_started() -> None:
    result = CliRunner().invoke(command, ["serve", "--port", "0"])
    assert (result.exit_code, result.stderr.strip()) == (78, f"sectorwatch: {MISSING}")


def test_a_head_that_does_not_answer_is_one_line_and_another_start_may_find_it() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(RetryLater, match=f"no Ray cluster answers at {address} .* refused"):
            reach(address)


def test_what_names_no_host_is_left_to_ray() -> None:
    reach("auto")


@pytest.mark.usefixtures("without_ray")
def test_the_doctor_says_that_ray_is_missing() -> None:
    result = CliRunner().invoke(command, ["doctor"])
    assert f"fail  model      {MISSING}" in result.stdout


def test_an_application_that_needs_ray_and_has_none_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.ray_serving, "find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match="pip install"):
        create_app(ServerSettings(data_dir=tmp_path, ensemble="ray"), channels=[])


def test_a_server_whose_models_are_elsewhere_needs_less_memory() -> None:
    local, ray = (expected_bytes(ServerSettings(ensemble=where), [], this_machine()) for where in ("local", "ray"))
    assert ray < local
