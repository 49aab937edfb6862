"""`sectorwatch doctor` about several servers on one database."""

from __future__ import annotations

from contextlib import closing

import pytest
from click.testing import CliRunner

from server.__main__ import command
from server.domain.fleet import DATABASE, ROLLED_OUT_S, SitesSource
from server.domain.times.clock import now_us
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


def test_servers_that_judge_by_different_site_policies_are_named_at_once_and_a_fault_after_three_minutes(
    database: str,
) -> None:
    by = "servers judge by different site policies: one by the database; two by the folder /srv (digest 22222222)"
    sources = {"one": SitesSource(DATABASE, ""), "two": SitesSource("/srv", "2" * 64)}
    for ago_s, level in ((0.0, "warn"), (ROLLED_OUT_S, "fail")):
        with closing(open_store(database, lambda: now_us() - round(ago_s * 1e6))) as store:  # noqa: B023
            for name, source in sources.items():
                store.fleet.join(name, "a run")
                store.fleet.judges_by(name, "a run", source)
        with closing(open_store(database)) as store:
            for name in sources:
                store.fleet.answers(name, "a run", 1, None)  # it lives
        assert f"{level}  replicas   {by}" in found("replicas")
        assert any('give all servers sites = "database", or folders' in line for line in found("replicas"))
