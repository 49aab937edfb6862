"""A server whose disk takes nothing says so to whoever asks whether it is ready, until it takes bursts again."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.app import runtime_of
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The system refuses this process every byte of a file beyond `size`, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def send(client: FlaskClient, number: int) -> TestResponse:
    frames = [jpeg(grey) for grey in (9, 250)]
    burst = envelope(frames, burst_id=f"0197-burst-{number:04}", captured_at=f"2027-01-15T07:00:{number:02}.000Z")
    return client.post("/v1/bursts", data=body(burst, frames))


@pytest.mark.parametrize("probe", ["/readyz", "/v2/health/ready"])
def test_a_server_whose_disk_is_full_is_not_ready_and_says_why(tmp_path: Path, probe: str) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    client, store = app.test_client(), runtime_of(app).store
    assert send(client, 1).status_code == 201
    assert client.get(probe).status_code == 200
    wal = tmp_path / "sectorwatch.sqlite-wal"
    with no_file_beyond(wal.stat().st_size if wal.exists() else 0):
        refused = send(client, 2)
        assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
        answer = client.get(probe)
        assert answer.status_code == 503
        if probe == "/readyz":
            assert "the database cannot be written (disk I/O error): no burst is accepted" in answer.text
        store.retention.try_disk()
        assert client.get(probe).status_code == 503, "the disk does not take anything yet"
        assert client.get("/livez").status_code == 200
    store.retention.try_disk()
    assert client.get(probe).status_code == 200
    assert send(client, 2).status_code == 201
    store.close()


def test_a_full_disk_is_found_without_a_burst(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    client, store = app.test_client(), runtime_of(app).store
    wal = tmp_path / "sectorwatch.sqlite-wal"
    with no_file_beyond(wal.stat().st_size if wal.exists() else 0):
        store.retention.try_disk()
        assert client.get("/readyz").status_code == 503
    store.close()
