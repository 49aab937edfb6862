"""`sectorwatch serve`: what it is started with; once it serves, it finishes what it took in."""

from __future__ import annotations

import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import requests
from gunicorn.glogging import Logger
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from server.app import runtime_of
from server.hosting.gunicorn_app import draining_first, gunicorn_options
from server.serving.machine import torch_environment
from server.settings import ServerSettings, described
from tests.server.launched import PATIENCE_S, ROOT, Running
from tests.server.web_client import SITE, BrightnessEnsemble, body, envelope, jpeg, make_app

pytestmark = pytest.mark.usefixtures("own_folder")


def test_the_overview_imports_no_subcommand_and_the_launcher_no_torch() -> None:
    code = (
        "import sys, server.__main__; assert not any(m.startswith('server.commands.') for m in sys.modules);"
        "import server.commands.serve; assert 'torch' not in sys.modules and 'PIL' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=PATIENCE_S)


def test_gunicorn_s_threads_exceed_what_is_admitted_and_nothing_is_preloaded() -> None:
    settings = ServerSettings()
    options = gunicorn_options(settings)
    assert (options["workers"], options["worker_class"], options["preload_app"]) == (
        1,
        "server.hosting.gunicorn_worker.Worker",
        False,
    )
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
    assert given["worker_class"] == "server.hosting.gunicorn_worker.Worker"


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
    assert sum("control port open" in line for line in server.output) == 1


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


def test_gunicorn_s_own_worker_serves_behind_a_proxy(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-people-small")
    monkeypatch.setenv("SECTORWATCH_PORT", str(port))
    make_app(tmp_path)  # the database and the site
    server = Running(["gunicorn", "-c", "deploy/gunicorn.conf.py", "-k", "gthread"])
    running.append(server)
    server.line("ensemble ready")
    url = f"http://127.0.0.1:{port}"
    parts = [("file", ("frame.jpg", jpeg(90, (320, 240))))]
    assert requests.post(f"{url}/batch", files=parts, timeout=PATIENCE_S).json() == {"hog-people-small": ["nothing"]}
    forwarded = {"X-Forwarded-For": "192.0.2.7"}
    assert requests.get(f"{url}/v1/events", headers=forwarded, timeout=PATIENCE_S).status_code == 401
    server.process.send_signal(signal.SIGTERM)
    assert server.stopped() == 0


def test_a_server_that_may_need_more_memory_than_its_limit_warns_and_starts(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-people-small")
    monkeypatch.setenv("SECTORWATCH_MEMORY_LIMIT_BYTES", "1000")
    server = Running(["server", "serve", "--port", "0"])
    running.append(server)
    server.line("Warning: this server may need .* or give it more memory")
    server.line("ensemble ready")


def test_the_real_models_are_swapped_while_requests_come_and_none_of_those_fails(
    tmp_path: Path, running: list[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "hog-people-small")
    server = Running(["server", "serve", "--port", "0"])
    running.append(server)
    url = server.line(r"listens on (http://127\.0\.0\.1:\d+)")[1]
    server.line("ensemble ready")
    swap = subprocess.Popen([sys.executable, "-m", "server", "models", "swap", "hog-people-small", "frame-change"])
    answers: list[tuple[int, str, tuple[str, ...]]] = []
    while swap.poll() is None:
        answer = requests.post(f"{url}/batch", files=[("file", ("f.jpg", jpeg(9, (320, 240))))], timeout=PATIENCE_S)
        answers.append((answer.status_code, answer.headers["X-Ensemble"], tuple(answer.json())))
    assert swap.returncode == 0
    models = requests.get(f"{url}/v1/models", timeout=PATIENCE_S).json()
    assert [model["name"] for model in models["models"]] == ["hog-people-small", "frame-change"]
    assert {status for status, _ensemble, _models in answers} == {200}
    assert {each == models["ensemble"] for _status, each, names in answers if "frame-change" in names} <= {True}
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
    assert "Traceback" not in "".join(server.output)
