"""A connection to PostgreSQL that breaks during COMMIT: nobody says what is not known.

The store is connected through a relay, which breaks the connection when a COMMIT comes by.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from sqlalchemy import Connection, create_engine, event, make_url, text

from server.domain.errors import DatabaseUnavailable
from server.store import Store, open_store
from tests.server import databases

BYTES = 65536


class Relay:
    """Passes on what a client and PostgreSQL say. With `breaks_at` it ends the connection at a COMMIT: before that
    reaches the server (`request`), or when its answer is there (`answer`).
    """

    def __init__(self, url: str) -> None:
        self.breaks_at = ""
        self._upstream = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        parts = self._upstream.set(host=host, port=port, query={"sslmode": "disable", "gssencmode": "disable"})
        self.url = parts.render_as_string(hide_password=False)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server, is_lost = self._connected(), threading.Event()
                threading.Thread(target=self._ask, args=(client, server, is_lost), daemon=True).start()
                threading.Thread(target=_answer, args=(client, server, is_lost), daemon=True).start()

    def _connected(self) -> socket.socket:
        url = self._upstream
        port = url.port or 5432
        if folder := url.query.get("host"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{folder}/.s.PGSQL.{port}")
            return server
        return socket.create_connection((url.host or "127.0.0.1", port))

    def _ask(self, client: socket.socket, server: socket.socket, is_lost: threading.Event) -> None:
        with suppress(OSError):
            while said := client.recv(BYTES):
                if b"COMMIT" in said and self.breaks_at == "request":
                    break
                if b"COMMIT" in said and self.breaks_at == "answer":
                    is_lost.set()
                server.sendall(said)
        _end(client, server)


def _answer(client: socket.socket, server: socket.socket, is_lost: threading.Event) -> None:
    with suppress(OSError):
        while (said := server.recv(BYTES)) and not is_lost.is_set():
            client.sendall(said)
    _end(client, server)


def _end(*connections: socket.socket) -> None:
    for each in connections:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay(postgresql: str) -> Iterator[Relay]:
    databases.renew(postgresql, is_migrated=True)
    with closing(Relay(postgresql)) as relay:
        yield relay


@pytest.fixture
def relayed(relay: Relay) -> Iterator[Store]:
    with closing(open_store(relay.url)) as store:
        store.fleet.join("before", "a run")
        yield store


@pytest.mark.parametrize(("breaks_at", "is_made"), [("request", False), ("answer", True)])
def test_a_commit_that_is_not_answered_is_neither_called_made_nor_not_made(
    relay: Relay, relayed: Store, postgresql: str, breaks_at: str, is_made: bool
) -> None:
    relay.breaks_at = breaks_at
    with pytest.raises(DatabaseUnavailable, match=r"has not confirmed this change.*look before you make it again"):
        relayed.fleet.join("new", "a run")
    with closing(open_store(postgresql)) as store:
        assert ("new" in [each.name for each in store.fleet.standing().replicas]) == is_made


def test_a_transaction_that_postgresql_ends_before_its_commit_has_changed_nothing(
    relayed: Store, postgresql: str
) -> None:
    another = create_engine(make_url(postgresql).set(drivername="postgresql+psycopg"))

    def end(connection: Connection) -> None:
        number = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with another.connect() as beside:
            assert beside.execute(text("SELECT pg_terminate_backend(:number, 30000)"), {"number": number}).scalar_one()

    event.listen(relayed._engine, "commit", end)
    with pytest.raises(DatabaseUnavailable, match="nothing was changed"):
        relayed.fleet.join("new", "a run")
    event.remove(relayed._engine, "commit", end)
    another.dispose()
    with closing(open_store(postgresql)) as store:
        assert [each.name for each in store.fleet.standing().replicas] == ["before"]
