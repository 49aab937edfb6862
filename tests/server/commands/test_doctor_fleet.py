"""`sectorwatch doctor` about several servers on one database."""

from __future__ import annotations

from contextlib import closing

import pytest
from click.testing import CliRunner

from server.__main__ import command
from server.store import open_store
from tests.server import databases


@pytest.fixture
def database(own_folder: None, postgresql: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A PostgreSQL, and the settings of a server for which it has room for two connections more than needed."""
    databases.renew(postgresql, is_migrated=True)
    settings = {"DATABASE_URL": postgresql, "THREADS": str(room(postgresql) - 33), "ADMISSION_LIMIT": "2"}
    for name, value in (settings | {"INSTANCE": "one"}).items():
        monkeypatch.setenv(f"SECTORWATCH_{name}", value)
    return postgresql


def room(url: str) -> int:
    with closing(open_store(url)) as store:
        return store.fleet.room() or 0


def found(*subjects: str) -> list[str]:
    output = CliRunner().invoke(command, ["doctor"]).stdout
    return [line for line in output.splitlines() if line[6:].split(" ")[0] in subjects or line.startswith(" ")]


def test_postgresql_that_takes_too_few_connections_for_the_live_servers_is_named_with_what_to_set(
    database: str,
) -> None:
    takes = room(database)
    with closing(open_store(database)) as store:
        store.fleet.join("one", "a run")
        fits = f"ok    connections PostgreSQL takes {takes}; 1 server and commands may open {takes - 2}"
        assert fits in found("connections")
        store.fleet.join("two", "a run")
    warning, step = (line for line in found("connections") if "max_connections" in line or "connections " in line)
    wanted = 2 * (takes - 7) + 5
    assert warning == f"warn  connections PostgreSQL takes {takes}; 2 servers and commands may open {wanted}"
    assert step.strip() == f"-> max_connections = {wanted + wanted // 10} in postgresql.conf, or fewer `threads`"


def test_the_server_that_does_the_upkeep_is_named_and_that_none_does(database: str) -> None:
    with closing(open_store(database)) as store:
        store.fleet.join("one", "a run")
        store.fleet.join("two", "a run")
        assert "ok    replicas   one does the upkeep for all" in found("replicas")
        store.fleet.leave("one", "a run")
        assert "warn  replicas   no server does the upkeep: nothing is deleted or folded in" in found("replicas")
