"""Two real servers on one PostgreSQL: a swap is for both or for none, and no server serves another ensemble."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import requests

from server.domain.fleet import sites_differ
from server.store import open_store
from tests.server import databases
from tests.server.ensemble.others import folder_of, network
from tests.server.launched import PATIENCE_S, Running
from tests.server.test_replicas import wait_until
from tests.server.web_client import SITE

SETTINGS = """\
instance = "{name}"
port = 0
data_dir = "{folder}"
sites_dir = "{folder}/sites"
models_dir = "{folder}/models"
database_url = "{url}"
models = ["first"]
inference_threads = 1
"""


class Server(NamedTuple):
    name: str
    folder: Path
    running: Running
    url: str

    def ready(self) -> tuple[int, str]:
        answer = requests.get(f"{self.url}/readyz", timeout=PATIENCE_S)
        return answer.status_code, answer.json().get("detail") or answer.json()["ensemble"]

    def models(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "server", "models", *arguments, "--config", str(self.folder / "server.toml")]


@pytest.fixture
def database(postgresql: str) -> str:
    databases.renew(postgresql, is_migrated=True)
    return postgresql


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models `first` and `second`, and another `second`."""
    shelf = tmp_path_factory.mktemp("shelf")
    for folder, model, seed in (("models", "first", 1), ("models", "second", 2), ("others", "second", 3)):
        folder_of(shelf / folder, "torchscript", network(seed), model)
    return shelf


@pytest.fixture
def start(
    database: str,
    shelf: Path,
    tmp_path: Path,
    running: list[Running],
    own_folder: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Server]:
    """Starts a server with a folder and copies of the models of its own; with `is_wrong`, another `second`."""
    monkeypatch.delenv("SECTORWATCH_DATA_DIR")

    def started(name: str, *, waits_for: str = "ensemble ready", is_wrong: bool = False, site: str = SITE) -> Server:
        folder = tmp_path / name
        (folder / "sites").mkdir(parents=True)
        (folder / "sites" / "north-yard.toml").write_text(site, encoding="utf-8")
        shutil.copytree(shelf / "models", folder / "models")
        if is_wrong:
            shutil.copytree(shelf / "others", folder / "models", dirs_exist_ok=True)
        text = SETTINGS.format(name=name, folder=folder, url=database)
        (folder / "server.toml").write_text(text, encoding="utf-8")
        server = Running(["server", "serve", "--config", str(folder / "server.toml")])
        running.append(server)
        url = server.line(r"listens on (http://127\.0\.0\.1:\d+)")[1]
        server.line(waits_for)
        return Server(name, folder, server, url)

    return started


@pytest.fixture
def two(start: Callable[..., Server]) -> tuple[Server, Server]:
    one, other = start("one"), start("other")
    assert one.ready() == other.ready()
    return one, other


def test_a_swap_and_a_rollback_on_one_server_reach_both(two: tuple[Server, Server]) -> None:
    one, other = two
    _, before = one.ready()
    swapped = one.models("swap", "second")
    assert swapped.returncode == 0, swapped.stderr
    assert "other: serves it too" in swapped.stdout
    status, after = one.ready()
    assert (status, after) == other.ready()
    assert (status, after != before) == (200, True)
    shown = other.models("status")
    assert (shown.returncode, shown.stdout.count(f"serves  {after} second")) == (0, 2)
    back = other.models("rollback")
    assert "one: serves it too" in back.stdout, back.stderr
    assert one.ready() == other.ready() == (200, before)
    lines = one.models("history").stdout.splitlines()
    assert sorted(line.split(" ", 2)[1] for line in lines) == ["one"] * 3 + ["other"] * 3


def test_a_server_without_the_weights_keeps_the_other_from_swapping_and_is_named(two: tuple[Server, Server]) -> None:
    one, other = two
    before = one.ready()
    for weights in (other.folder / "models" / "second").glob("*.pt*"):
        weights.unlink()
    refused = one.models("swap", "second")
    assert refused.returncode != 0
    assert "not swapped, on no replica: other refuses: " in refused.stderr
    assert "second" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert one.ready() == other.ready() == before


def test_a_server_that_is_killed_during_a_swap_is_not_waited_for(two: tuple[Server, Server], database: str) -> None:
    one, other = two
    for process in psutil.Process(other.running.process.pid).children(recursive=True):
        process.send_signal(signal.SIGSTOP)  # it cannot answer any more, and seems to live
    swapping = subprocess.Popen(one.command("swap", "second"), stdout=subprocess.PIPE, text=True)
    with closing(open_store(database)) as store:
        wait_until(lambda: store.fleet.standing().asked is not None, "one asks for it")
        assert swapping.poll() is None
    other.running.end()
    output, _ = swapping.communicate(timeout=PATIENCE_S)
    assert swapping.returncode == 0
    assert "other: gives no sign of life" in output
    assert one.ready()[0] == 200
    assert one.models("status").stdout.count("serves") == 1


def test_a_server_that_starts_with_other_weights_is_not_ready_and_one_with_the_same_serves_what_was_swapped_in(
    start: Callable[..., Server],
) -> None:
    one = start("one")
    assert one.models("swap", "second").returncode == 0
    wrong = start("wrong", waits_for="not ready", is_wrong=True)
    status, why = wrong.ready()
    assert status == 503
    assert "cannot serve generation 2 of the ensemble: its files make the ensemble" in why
    assert start("right").ready() == one.ready()
    shown = one.models("status")
    assert shown.returncode == 1
    assert [line.split()[0] for line in shown.stdout.splitlines() if "not ready" in line] == ["wrong"]


def test_a_server_that_stops_hands_the_upkeep_over_to_the_other_and_the_command_says_who_has_it(
    two: tuple[Server, Server], database: str
) -> None:
    one, other = two
    assert "upkeep by one since" in other.models("status").stdout
    one.running.process.send_signal(signal.SIGTERM)
    assert one.running.stopped() == 0
    with closing(open_store(database)) as store:
        wait_until(lambda: store.fleet.standing().with_upkeep() is not None, "the other has it")
    assert "upkeep by other since" in other.models("status").stdout


def test_servers_whose_folders_hold_other_policies_are_named_until_the_folders_are_the_same(
    start: Callable[..., Server], database: str
) -> None:
    one, other = start("one"), start("other", site=f"{SITE}[presence]\nclear_s = 300\n")
    with closing(open_store(database)) as store:
        wait_until(lambda: sites_differ(store.fleet.standing()) is not None, "both have said by which they judge")
        shown = one.models("status").stdout
        by = re.compile(rf"one by the folder {one.folder}/sites .*; other by the folder {other.folder}/sites ")
        assert by.search(shown), shown
        assert 'give all servers sites = "database"' in shown
        assert [server.ready()[0] for server in (one, other)] == [200, 200]
        (other.folder / "sites" / "north-yard.toml").write_text(f"# the same\n{SITE}", encoding="utf-8")
        wait_until(lambda: sites_differ(store.fleet.standing()) is None, "the folders are the same")
    assert "differ" not in one.models("status").stdout
