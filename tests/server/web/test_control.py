"""A running server takes commands from its own user on its own machine, and from nobody else."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from server.__main__ import command
from server.app.runtime import Runtime
from server.domain.errors import ConfigurationError
from server.web.control import FILE, Address, address_in
from tests.server.swaps import Shelf, serving


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def runtime(tmp_path: Path, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SECTORWATCH_MODELS", "a,b")
    with serving(tmp_path, shelf) as (_app, runtime):
        yield runtime


def models(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["models", *arguments])


def test_the_key_is_for_the_servers_user_alone_and_goes_with_the_server(tmp_path: Path, shelf: Shelf) -> None:
    with serving(tmp_path, shelf):
        first = address_in(tmp_path)
        assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
        assert first.url.startswith("http://127.0.0.1:")
    assert not (tmp_path / FILE).exists()
    with serving(tmp_path, shelf):
        assert address_in(tmp_path).key != first.key
    with pytest.raises(ConfigurationError, match="no server is running on"):
        address_in(tmp_path)


def test_a_server_that_cannot_write_the_file_serves_all_the_same(
    tmp_path: Path, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).mkdir()  # a file cannot take its place
    with serving(tmp_path, shelf) as (app, _runtime):
        assert app.test_client().get("/readyz").status_code == 200
        assert "no commands are taken" in caplog.text
        with pytest.raises(ConfigurationError, match="cannot be read"):
            address_in(tmp_path)


def test_a_server_that_ends_leaves_the_file_of_the_one_that_came_after_it(tmp_path: Path, shelf: Shelf) -> None:
    earlier = ExitStack()
    earlier.enter_context(serving(tmp_path, shelf))
    with serving(tmp_path, shelf):
        latest = address_in(tmp_path)
        earlier.close()
        assert address_in(tmp_path) == latest
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer é"}])
@pytest.mark.parametrize(("method", "path"), [("GET", "/ensemble"), ("POST", "/swap"), ("POST", "/rollback")])
def test_without_the_key_nothing_is_told_or_done(
    runtime: Runtime, tmp_path: Path, method: str, path: str, headers: dict[str, str]
) -> None:
    encoded = {name: value.encode() for name, value in headers.items()}
    answer = requests.request(method, address_in(tmp_path).url + path, headers=encoded, data=b"{}", timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "application/problem+json")
    in_service, before = runtime.service.in_service()
    assert in_service is not None
    assert (in_service.ensemble, before) == ("a+b#0", None)


def ask(address: Address, method: str, path: str, body: bytes | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {address.key}"}
    return requests.request(method, address.url + path, headers=headers, data=body, timeout=10)


def test_with_the_key_it_tells_what_serves_and_what_was_before(runtime: Runtime, tmp_path: Path) -> None:
    address = address_in(tmp_path)
    assert ask(address, "POST", "/swap", b'{"models": ["c"]}').json()["ensemble"] == "c#0"
    state = ask(address, "GET", "/ensemble").json()
    assert (state["in_service"]["models"], state["before"]["models"]) == (["c"], ["a", "b"])


@pytest.mark.parametrize("body", [b"", b"{}", b'{"models": "c"}', b'{"models": ["c"], "force": true}'])
def test_what_is_no_swap_is_refused(runtime: Runtime, tmp_path: Path, body: bytes) -> None:
    answer = ask(address_in(tmp_path), "POST", "/swap", body)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:sectorwatch:problem:malformed")


def test_the_command_swaps_and_says_what_to_write_into_the_settings(runtime: Runtime) -> None:
    done = models("swap", "c", "d")
    assert done.exit_code == 0, done.output
    assert "c+d#0 serves: c, d" in done.stdout
    assert 'models = ["c", "d"]' in done.stdout
    assert models("rollback").stdout.startswith("a+b#0 serves: a, b")


def test_without_names_it_swaps_to_the_models_of_the_settings_as_they_are_on_disk_now(
    runtime: Runtime, shelf: Shelf
) -> None:
    shelf.edition = 1
    done = models("swap")
    assert "a+b#1 serves: a, b" in done.stdout
    assert "models = [" not in done.stdout


def test_a_refusal_is_one_line_with_its_reason_and_an_exit_code(runtime: Runtime, shelf: Shelf) -> None:
    shelf.fault = ConfigurationError("no model is named `e`, did you mean `d`?")
    done = models("swap", "e")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "sectorwatch: not swapped: no model is named `e`, did you mean `d`?"


def test_the_command_prints_what_the_shadow_saw(runtime: Runtime) -> None:
    done = models("swap", "c", "--shadow", "0.05")
    assert "0 frames of 0 requests went to both ensembles" in done.stdout
    assert models("swap", "d", "--shadow-frames", "3").exit_code == 2


def test_the_history_says_what_served_from_when(runtime: Runtime) -> None:
    models("swap", "c")
    models("rollback")
    lines = models("history").stdout.splitlines()
    assert [line.split()[2:5] for line in lines] == [
        ["serves", "a+b#0", "a,b:"],
        ["serves", "c#0", "c:"],
        ["serves", "a+b#0", "a,b:"],
    ]
    assert {line.split()[1] for line in lines} == {runtime.settings.replica}
    assert lines[1].endswith("swapped in instead of a+b#0")
    assert models("history", "--limit", "1").stdout.splitlines() == lines[-1:]


def test_where_no_server_runs_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path))
    done = models("swap")
    assert done.exit_code == 78
    assert "no server is running on" in done.stderr
    (tmp_path / FILE).write_text('{"url": "http://127.0.0.1:9", "key": "old"}')  # left behind by one that was killed
    assert "does not answer (ConnectionError): start `sectorwatch serve`" in models("swap").stderr
    (tmp_path / FILE).write_text("{")
    assert "is not what a server writes" in models("swap").stderr
