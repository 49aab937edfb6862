"""What keeps `sectorwatch serve` from serving is told in one line, before anything is started."""

from __future__ import annotations

import errno
import json
import re
import signal
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result

from server.__main__ import command
from server.domain.errors import ConfigurationError, RetryLater, SectorwatchError
from server.hosting.listening import listener
from server.settings import described
from tests.server.launched import PATIENCE_S, ROOT, Running
from tests.server.swaps import chosen
from tests.server.web_client import SITE, BrightnessEnsemble, body, envelope, jpeg, make_app

pytestmark = pytest.mark.usefixtures("own_folder")


def serve(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["serve", *arguments])


def assert_one_line(result: Result, code: int, text: str) -> None:
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.output
    assert text in lines[0]


def test_an_unknown_setting_is_one_line_and_exit_code_78(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text("\nprot = 80\n")
    assert_one_line(
        serve("--config", str(tmp_path / "server.toml")), 78, "line 2: unknown setting `prot`; did you mean"
    )


def test_a_site_policy_that_cannot_be_used_is_one_line_and_exit_code_78_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "yard.toml").write_text('site = "yard"\ntragets = ["person"]\n')
    assert_one_line(serve(), 78, "yard.toml: line 2")


def test_a_site_that_was_watched_goes_on_by_its_last_good_policy_when_its_file_is_bad_at_a_start(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    client = make_app(tmp_path, BrightnessEnsemble()).test_client()
    frames = [jpeg(0), jpeg(255)]
    assert client.post("/v1/bursts", data=body(envelope(frames), frames)).status_code == 201
    (tmp_path / "sites" / "north-yard.toml").write_text(f'{SITE}tragets = ["person"]\n')
    server = Running(["server", "serve", "--port", "0"])
    running.append(server)
    server.line(r"north-yard\.toml: line 3: .*mend the file, and the server reads it again")
    url = server.line(r"listens on (http://127\.0\.0\.1:\d+)")[1]
    server.line(r"sites +north-yard \(its last good policy\)")
    server.line("ensemble ready")
    now = envelope(frames, burst_id="0197-burst-0002", captured_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000Z")
    sent = body(now, frames)
    parts = [("burst", ("burst.json", sent["burst"][0])), *[("file", (name, f)) for f, name in sent["file"]]]
    answer = requests.post(f"{url}/v1/bursts", files=parts, timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    server.process.send_signal(signal.SIGTERM)
    assert server.stopped() == 0


def test_neither_a_bad_file_nor_leftovers_nor_a_copy_stop_a_server_that_has_another_site(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    folder = tmp_path / "sites"
    folder.mkdir()
    (folder / "dock.toml").write_text('site = "dock"\ntragets = ["person"]\n')
    (folder / "yard.toml").write_text('site = "yard"\n')
    (folder / "yard - Copy.toml").write_text('site = "yard"\ntargets = ["vehicle"]\n')
    (folder / "._yard.toml").write_bytes(b"\x00\x05\x16\x07")
    (folder / ".#yard.toml").symlink_to("ann@example.4711:1764396000")
    (folder / "old.toml").mkdir()
    server = Running(["server", "serve", "--port", "0"])
    running.append(server)
    server.line(r"sites +yard$")
    said = "".join(server.output)
    for warning in (
        "dock.toml: line 2: tragets: unknown key; did you mean `targets`?; mend the file",
        "yard - Copy.toml: site `yard` is also in yard.toml, which stays in force: keep one file per site",
        "._yard.toml is passed over: it is hidden (its name begins with a dot)",
        ".#yard.toml is passed over: it is hidden (its name begins with a dot)",
        "old.toml is passed over: it is a folder",
    ):
        assert warning in said
    server.line("ensemble ready")
    server.process.send_signal(signal.SIGTERM)
    assert server.stopped() == 0


def test_the_other_commands_mean_the_sites_and_models_of_the_last_start(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites, data = tmp_path / "mine", tmp_path / "data"
    sites.mkdir()
    (sites / "yard.toml").write_text('site = "yard"\n')
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    server = Running(["server", "serve", "--port", "0", "--data-dir", str(data), "--sites", str(sites)])
    running.append(server)
    server.line("ensemble ready")
    monkeypatch.delenv("SECTORWATCH_MODELS")
    checked = CliRunner().invoke(command, ["doctor", "--data-dir", str(data)]).output
    assert f"yard (in {sites})" in checked
    assert "frame-change: no weights needed" in checked
    assert "yolov3-tiny" not in checked
    server.process.send_signal(signal.SIGTERM)
    assert server.stopped() == 0
    again = Running(["server", "serve", "--port", "0", "--data-dir", str(data)])
    running.append(again)
    again.line(f"Warning: the last start read the site policies in {sites}, .* --sites {sites}")


def test_leftovers_alone_are_no_fault_and_the_start_says_that_there_is_no_site_yet(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / ".yard.toml").write_text("")
    server = Running(["server", "serve", "--port", "0"])
    running.append(server)
    server.line(r"\.yard\.toml is passed over")
    server.line(r"sites +none yet: put a TOML file per site into ")


def test_an_unknown_model_is_one_line_and_exit_code_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-poeple")
    assert_one_line(serve(), 78, "did you mean `hog-people`?")


def test_missing_weights_are_one_line_with_the_command_that_gets_them() -> None:
    mended_by = "run `sectorwatch models pull yolov3-tiny nanodet-g`"
    assert_one_line(serve(), 78, f"no weights yet for yolov3-tiny, nanodet-g: {mended_by}")


def test_a_choice_of_models_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ensemble.json").write_text("{")
    assert_one_line(serve(), 78, "the models last swapped in, cannot be read")


def test_the_weights_of_the_models_last_swapped_in_are_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    chosen(tmp_path, ["efficientnet-lite0"], instead_of=["frame-change"])
    assert_one_line(serve(), 78, "no weights yet for efficientnet-lite0")


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_one_line(serve("--data-dir", str(tmp_path / "file")), 78, f"cannot make the folder {tmp_path}/file/sites: ")


def test_a_database_that_cannot_be_opened_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    (tmp_path / "sectorwatch.sqlite").mkdir()
    assert_one_line(serve(), 1, "database sqlite:///")


def test_a_database_that_is_not_up_yet_is_no_fault_of_the_configuration_so_starting_again_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    with socket.create_server(("127.0.0.1", 0)) as soon_free:
        port = soon_free.getsockname()[1]
    monkeypatch.setenv("SECTORWATCH_DATABASE_URL", f"postgresql://nobody@127.0.0.1:{port}/yard")
    assert_one_line(serve(), 1, "the database does not answer")


@pytest.mark.parametrize("setting", ["port", "admin_port"])
def test_a_port_in_use_is_one_line_and_systemd_tries_again(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    monkeypatch.setenv("SECTORWATCH_PORT", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv(f"SECTORWATCH_{setting.upper()}", str(taken.getsockname()[1]))
        assert_one_line(serve(), 1, "Address already in use; stop the other server")
    unit = (ROOT / "deploy" / "systemd" / "sectorwatch.service").read_text(encoding="utf-8")
    assert "\nRestart=on-failure\n" in unit
    assert "\nRestartPreventExitStatus=78\n" in unit


@pytest.mark.parametrize(("address", "kind"), [("203.0.113.9", RetryLater), ("nowhere.invalid", ConfigurationError)])
def test_an_address_of_another_machine_is_told_with_what_to_set_and_one_that_is_not_there_yet_is_tried_again(
    address: str, kind: type[SectorwatchError]
) -> None:
    with pytest.raises(kind, match=re.escape("set `host` to an address of this machine, or to 0.0.0.0")):
        listener(address, 0, "port")


def test_an_admin_port_that_is_taken_after_the_checks_ends_the_server_so_that_systemd_tries_again(
    tmp_path: Path, running: list[Running]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Running(["tests.server.hosted", str(tmp_path), json.dumps({"admin_port": taken.getsockname()[1]})])
        running.append(server)
        server.line("server not started.*Address already in use")
        assert server.stopped() == 1


def test_a_port_that_only_root_may_open_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refused)
    with pytest.raises(ConfigurationError, match="ports below 1024 are root's: choose another `admin_port`"):
        listener("127.0.0.1", 80, "admin_port")


def test_help_explains_every_setting() -> None:
    shown = serve("--help").output
    for setting in described():
        assert setting.name in shown
        assert setting.help in shown
