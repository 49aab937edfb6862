"""server/README.md describes the server that is there: its endpoints, its requests and its log lines."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import re
import shlex
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from werkzeug.serving import make_server

from server import __version__
from server.app import runtime_of
from server.console import TWINS
from server.monitoring.logs import JsonFormatter, TextFormatter
from server.web.openapi import document
from tests.server.launched import PATIENCE_S, ROOT
from tests.server.web_client import BrightnessEnsemble, jpeg, make_app

TEXT = (ROOT / "server" / "README.md").read_text(encoding="utf-8")
CURL = re.findall(r"^\$ curl (.+)$", TEXT, re.MULTILINE)
LISTED = {
    (method, re.sub(r"<(\w+)>", r"{\1}", path)): token
    for method, path, token in re.findall(r"^\| `(GET|POST) (\S+)` \|.*\| (.+) \|$", TEXT, re.M)
}
DESCRIBED = {
    (method.upper(), path): operation
    for path, operations in document(__version__, TWINS)["paths"].items()
    for method, operation in operations.items()
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def test_the_table_lists_every_endpoint_of_the_openapi_document_and_no_other() -> None:
    assert LISTED.keys() == DESCRIBED.keys()


def test_the_table_says_which_endpoints_need_a_token() -> None:
    needed = {endpoint for endpoint, operation in DESCRIBED.items() if operation["security"]}
    assert {endpoint for endpoint, token in LISTED.items() if token != "none"} == needed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a live server, beside the files that the examples send."""
    [burst, _log_line] = blocks("json")
    for name, grey in (("a.jpg", 9), ("b.jpg", 250)):
        (tmp_path / name).write_bytes(jpeg(grey))
        burst = burst.replace(f"<sha256 of {name}>", hashlib.sha256(jpeg(grey)).hexdigest())
    (tmp_path / "burst.json").write_text(burst, encoding="utf-8")
    app = make_app(tmp_path, BrightnessEnsemble())
    live = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=live.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{live.server_port}"
    live.shutdown()
    thread.join(PATIENCE_S)
    live.server_close()
    runtime_of(app).store.close()


@pytest.mark.parametrize("line", CURL)
def test_a_curl_example_succeeds_against_a_live_server(line: str, server: str, tmp_path: Path) -> None:
    assert curl(line, server, tmp_path).status_code < 300


def test_the_curl_examples_send_a_burst_and_read_events() -> None:
    assert {urlsplit(shlex.split(line)[-1]).path for line in CURL} >= {"/v1/bursts", "/v1/events", "/batch"}


def curl(line: str, server: str, folder: Path) -> requests.Response:
    """The answer to what curl would send; fails for an option that is not known here."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("-F", action="append", default=[])
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("url")
    given = parser.parse_args(shlex.split(line))
    address = urlsplit(given.url)
    assert address.netloc == "127.0.0.1:8765"
    parts: list[tuple[str, Any]] = []
    for form in given.F:
        name, file, media_type = re.fullmatch(r"(\w+)=@([^;]+)(?:;type=(.+))?", form).groups()
        parts.append((name, (file, (folder / file).read_bytes(), media_type)))
    headers = dict(header.split(": ", 1) for header in given.H)
    url = given.url.replace("http://127.0.0.1:8765", server)
    return requests.request("POST" if parts else "GET", url, files=parts, headers=headers, timeout=PATIENCE_S)


def test_the_log_lines_are_those_that_the_server_writes() -> None:
    text = next(block for block in blocks("text") if "burst accepted" in block).strip()
    wanted = json.loads(next(block for block in blocks("json") if "burst accepted" in block))
    head = {"name": wanted["logger"], "levelname": "INFO", "msg": wanted["event"], "created": 1_795_913_340.1234}
    fields = {key: value for key, value in wanted.items() if key not in {"at", "level", "logger", "event"}}
    record = logging.makeLogRecord(head | fields)
    assert TextFormatter().format(record) == text
    assert list(json.loads(JsonFormatter().format(record)).items()) == list(wanted.items())
