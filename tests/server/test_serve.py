"""`sectorwatch serve` says in one line what keeps it from serving; once it serves, it finishes what it took in."""

from __future__ import annotations

import errno
import io
import json
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec
import psutil
import pytest
import requests
from click.testing import CliRunner, Result
from gunicorn.glogging import Logger
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from server.__main__ import command
from server.app import runtime_of
from server.catalogue import card_named
from server.choice import choose, chosen_models
from server.errors import Broken
from server.footprint import expected, remember, remembered
from server.hosting import draining_first, gunicorn_options, torch_environment
from server.machine import Machine
from server.settings import ServerSettings, described
from tests.server.web import SITE, BrightnessEnsemble, body, envelope, jpeg, make_app

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


class Running:
    """A server in a process of its own. `line` waits for a line of its output."""

    def __init__(self, arguments: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        assert self.process.stdout is not None
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def line(self, pattern: str) -> re.Match[str]:
        """The first line from here on that matches; fails when the output ends or falls silent before."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                line = None
            assert line is not None, f"no line like {pattern!r}; there were:\n" + "".join(self.said)
            if match := re.search(pattern, line):
                return match

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def stopped(self) -> int:
        """The exit code, once the process has ended."""
        return self.process.wait(PATIENCE_S)

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self.said.append(line)
            self._lines.put(line)
        self._lines.put(None)


@pytest.fixture
def running() -> Iterator[list[Running]]:
    """Servers that are ended, with their children, whatever becomes of the test."""
    started: list[Running] = []
    yield started
    for server in started:
        if server.process.poll() is None:
            family = psutil.Process(server.process.pid).children(recursive=True)
            server.process.kill()
            for child in family:
                child.kill()
            server.process.wait(PATIENCE_S)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in described():
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SECTORWATCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


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


def test_a_site_policy_that_cannot_be_used_is_one_line_and_exit_code_78(tmp_path: Path) -> None:
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
    server.line(r"north-yard\.toml: line 3: .*mend it: it is read again")
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


def test_a_new_file_that_is_bad_is_no_watched_site_s_and_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    client = make_app(tmp_path, BrightnessEnsemble()).test_client()
    frames = [jpeg(0)]
    assert client.post("/v1/bursts", data=body(envelope(frames), frames)).status_code == 201
    (tmp_path / "sites" / "dock.toml").write_text('site = "dock"\ntragets = ["person"]\n')
    assert_one_line(serve(), 78, "dock.toml: line 2")


def test_an_unknown_model_is_one_line_and_exit_code_78(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-poeple")
    assert_one_line(serve(), 78, "did you mean `hog-people`?")


def test_missing_weights_are_one_line_with_the_command_that_gets_them() -> None:
    assert_one_line(serve(), 78, "no weights yet for yolov3-tiny: run `sectorwatch models pull`")


def test_too_little_memory_is_one_line_that_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    monkeypatch.setenv("SECTORWATCH_MEMORY_LIMIT_BYTES", str(1 << 30))
    assert_one_line(serve(), 78, "this server may need up to")
    assert_one_line(serve(), 78, "or give it more memory")


def test_a_choice_of_models_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ensemble.json").write_text("{")
    assert_one_line(serve(), 78, "the models last swapped in, cannot be read")


def test_a_choice_of_models_that_the_disk_does_not_take_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServerSettings(data_dir=tmp_path, models=("hog-people",))
    choose(["hog-people-small"], settings)

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Broken, match="No space left on device"):
        choose(["frame-change"], settings)
    assert chosen_models(settings) == ("hog-people-small",)


def test_the_weights_of_the_models_last_swapped_in_are_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    choose(["efficientnet-lite0"], ServerSettings(data_dir=tmp_path, models=("frame-change",)))
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


def test_a_port_in_use_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert_one_line(serve("--port", str(taken.getsockname()[1])), 78, "Address already in use")


def test_help_explains_every_setting() -> None:
    shown = serve("--help").output
    for setting in described():
        assert setting.name in shown
        assert setting.help in shown


def test_the_overview_imports_no_subcommand_and_the_launcher_no_torch() -> None:
    code = (
        "import sys, server.__main__; assert not any(m.startswith('server.commands.') for m in sys.modules);"
        "import server.commands.serve; assert 'torch' not in sys.modules and 'PIL' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=PATIENCE_S)


def test_gunicorn_s_threads_exceed_what_is_admitted_and_nothing_is_preloaded() -> None:
    settings = ServerSettings()
    options = gunicorn_options(settings)
    assert (options["workers"], options["worker_class"], options["preload_app"]) == (1, "server.worker.Worker", False)
    assert options["threads"] > settings.admission_limit
    assert options["max_requests"] == 0


def test_gunicorn_words_a_line_for_each_request_only_where_requests_are_logged() -> None:
    classes = {wanted: gunicorn_options(ServerSettings(access_log=wanted))["logger_class"] for wanted in (False, True)}
    assert {wanted: of.access is Logger.access for wanted, of in classes.items()} == {False: False, True: True}


def test_openmp_is_set_before_torch_loads_and_the_operator_s_choice_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert torch_environment() == {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "1000"}


def test_the_settings_in_deploy_are_those_of_serve() -> None:
    given: dict[str, object] = {}
    source = (ROOT / "deploy" / "gunicorn.conf.py").read_text(encoding="utf-8")
    exec(compile(source, "gunicorn.conf.py", "exec"), given)
    assert given["wsgi_app"] == "server.app:create_app()"
    assert given["worker_class"] == "server.worker.Worker"


def test_the_example_settings_are_valid_and_name_every_setting() -> None:
    from server.settings import load_settings

    example = ROOT / "deploy" / "server.example.toml"
    load_settings(example)
    for setting in described():
        assert re.search(rf"^(# )?{setting.name} = ", example.read_text(encoding="utf-8"), re.MULTILINE)


def test_a_stopping_server_finishes_the_burst_it_took_in(tmp_path: Path, running: list[Running]) -> None:
    server = Running(["tests.server.hosted", str(tmp_path)])
    running.append(server)
    port = server.line(r"^port (\d+)")[1]
    frames = [jpeg(0), jpeg(255)]
    answers: list[requests.Response] = []

    def send() -> None:
        sent = body(envelope(frames), frames)
        parts = [("burst", ("burst.json", sent["burst"][0])), *[("file", (name, f)) for f, name in sent["file"]]]
        answers.append(requests.post(f"http://127.0.0.1:{port}/v1/bursts", files=parts, timeout=PATIENCE_S))

    sender = threading.Thread(target=send)
    sender.start()
    server.line("^asked")
    server.process.send_signal(signal.SIGTERM)
    server.say("\n")
    sender.join(PATIENCE_S)
    assert server.stopped() == 0
    assert [answer.status_code for answer in answers] == [201]
    assert answers[0].json()["labels"]["people"] == ["nothing", "person"]


def test_a_terminal_that_closes_or_a_habitual_hangup_changes_nothing(tmp_path: Path, running: list[Running]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        admin_port = free.getsockname()[1]
    server = Running(["tests.server.hosted", str(tmp_path), json.dumps({"admin_port": admin_port})])
    running.append(server)
    port = server.line(r"^port (\d+)")[1]
    url = f"http://127.0.0.1:{port}"
    server.line("control port open")
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(3, backoff_factor=0.1)))
    assert session.get(f"{url}/readyz", timeout=PATIENCE_S).status_code == 200
    family = psutil.Process(server.process.pid).children(recursive=True)
    for process in [*family, server.process]:
        process.send_signal(signal.SIGHUP)
    assert session.get(f"{url}/readyz", timeout=PATIENCE_S).status_code == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.stopped() == 0
    assert sum("control port open" in line for line in server.said) == 1


def test_the_path_is_the_one_of_the_request_line_whatever_a_header_says(tmp_path: Path, running: list[Running]) -> None:
    running.append(Running(["tests.server.hosted", str(tmp_path)]))
    port = running[0].line(r"^port (\d+)")[1]
    url = f"http://127.0.0.1:{port}"
    assert requests.get(f"{url}/x/livez", headers={"SCRIPT_NAME": "/x"}, timeout=PATIENCE_S).status_code == 404


def test_on_sigterm_the_server_is_unready_before_gunicorn_stops_it(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    client = app.test_client()
    seen: list[tuple[int, int]] = []
    handle = draining_first(
        runtime_of(app).drain, lambda number, _: seen.append((number, client.get("/readyz").status_code))
    )
    assert client.get("/readyz").status_code == 200
    handle(signal.SIGTERM, None)
    assert seen == [(signal.SIGTERM, 503)]
    assert client.get("/livez").status_code == 200


def test_a_silent_engine_is_told_to_those_who_wait_and_gunicorn_starts_another_process(
    tmp_path: Path, running: list[Running]
) -> None:
    server = Running(["tests.server.engine.stuck", str(tmp_path)])
    running.append(server)
    port = server.line(r"^port (\d+)")[1]
    url = f"http://127.0.0.1:{port}"
    server.line("ensemble ready")
    waiting = requests.post(f"{url}/batch", files=[("file", ("f.jpg", jpeg(0)))], timeout=PATIENCE_S)
    assert waiting.status_code == 503
    assert int(waiting.headers["Retry-After"]) > 0
    server.line("engine silent")
    server.line("ensemble ready")
    again = requests.post(f"{url}/batch", files=[("file", ("f.jpg", jpeg(0)))], timeout=PATIENCE_S)
    assert again.json() == {"reader": ["WORD"]}
    server.process.send_signal(signal.SIGTERM)
    assert server.stopped() == 0


def test_the_real_server_serves_flexserve_s_client_and_stops_without_a_trace(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-people-small,frame-change")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "north-yard.toml").write_text(SITE)
    server = Running(["server", "serve", "--port", "0", "--host", "0.0.0.0"])
    running.append(server)
    server.line("No token exists yet: listening on 127.0.0.1 instead of 0.0.0.0")
    url = server.line(r"listens on (http://127\.0\.0\.1:\d+) \(this machine only")[1]
    server.line("sites .*north-yard")
    server.line("ensemble ready.* models=hog-people-small,frame-change")
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(3, backoff_factor=0.1)))
    assert session.get(f"{url}/readyz", timeout=PATIENCE_S).status_code == 200
    frames = [jpeg(0, (320, 240)), jpeg(255, (200, 400)), jpeg(90)]
    parts = [("file", ("frame.jpg", io.BytesIO(frame))) for frame in frames]
    labels = requests.post(f"{url}/batch", files=parts, timeout=PATIENCE_S).json()
    assert {model: len(classes) for model, classes in labels.items()} == {"hog-people-small": 3, "frame-change": 3}
    models = requests.get(f"{url}/v1/models", timeout=PATIENCE_S).json()["models"]
    assert all(model["licence"] for model in models)
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert len(family) == 1
    session.close()
    server.process.send_signal(signal.SIGTERM)
    assert server.stopped() == 0
    assert not any(child.is_running() for child in family)


def test_a_server_that_turns_out_to_need_more_memory_than_there_is_ends_with_what_to_lower(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-people-small")
    settings = ServerSettings(data_dir=tmp_path, models=("hog-people-small",), max_pixels=1 << 20, inference_threads=1)
    little = msgspec.structs.replace(remembered([card_named("hog-people-small")], tmp_path), resident_bytes=1 << 20)
    remember(little, tmp_path)  # so nothing is noticed before it is measured
    limit = expected(settings, settings.models, Machine(1, None, None)).bytes
    for name, value in {"MEMORY_LIMIT_BYTES": limit, "MAX_PIXELS": 1 << 20, "INFERENCE_THREADS": 1}.items():
        monkeypatch.setenv(f"SECTORWATCH_{name}", str(value))
    server = Running(["server", "serve", "--port", "0"])
    running.append(server)
    server.line("ensemble not loaded.*this server may need up to .* or give it more memory")
    assert server.stopped() == 78


def test_the_real_models_are_swapped_while_requests_come_and_none_of_those_fails(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-people-small")
    server = Running(["server", "serve", "--port", "0"])
    running.append(server)
    url = server.line(r"listens on (http://127\.0\.0\.1:\d+)")[1]
    server.line("ensemble ready")
    swap = subprocess.Popen([sys.executable, "-m", "server", "models", "swap", "hog-people-small", "frame-change"])
    told: list[tuple[int, str, tuple[str, ...]]] = []
    while swap.poll() is None:
        answer = requests.post(f"{url}/batch", files=[("file", ("f.jpg", jpeg(9, (320, 240))))], timeout=PATIENCE_S)
        told.append((answer.status_code, answer.headers["X-Ensemble"], tuple(answer.json())))
    assert swap.returncode == 0
    models = requests.get(f"{url}/v1/models", timeout=PATIENCE_S).json()
    assert [model["name"] for model in models["models"]] == ["hog-people-small", "frame-change"]
    assert {status for status, _ensemble, _models in told} == {200}
    assert {each == models["ensemble"] for _status, each, names in told if "frame-change" in names} <= {True}
    server.process.send_signal(signal.SIGTERM)
    assert server.stopped() == 0


def test_an_ensemble_that_cannot_be_loaded_ends_the_server_instead_of_restarting_it_for_ever(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "yolov3-tiny")
    # weights that are there and wrong: only loading finds out
    digest = "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c"
    (tmp_path / "cache" / "weights").mkdir(parents=True)
    (tmp_path / "cache" / "weights" / f"{digest}.weights").write_bytes(b"not these")
    server = Running(["server", "serve", "--port", "0"])
    running.append(server)
    server.line("ensemble not loaded.*yolov3-tiny are not the right ones")
    assert server.stopped() == 78
    assert "Traceback" not in "".join(server.said)
