"""The database of a fleet while it is measured: what it takes of the machine, and what its sessions wait for."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Protocol

import psutil
from sqlalchemy import Connection, create_engine, make_url, text

from server.store.engine import _lock_key

_SAMPLED_EVERY_S = 0.02
_WAITING = text(
    "SELECT wait_event_type || ':' || wait_event, left(query, 30), (classid::bigint << 32) + objid::bigint "
    "FROM pg_stat_activity LEFT JOIN pg_locks ON pg_locks.pid = pg_stat_activity.pid AND NOT granted "
    "AND locktype = 'advisory' WHERE datname = current_database() AND pg_stat_activity.pid != pg_backend_pid() "
    "AND state != 'idle' AND wait_event IS NOT NULL AND wait_event_type != 'Client'"
)
_LOCKS = {_lock_key(name): name for name in ("channels", "keeping", "space", "notices", "frames")}
"""Those of `server.store.engine.writing` that are not a camera's."""


class Database(Protocol):
    """`cpu_s` of all its processes so far; `memory_mb` now; `size_bytes` of it; `log_bytes` written so far; `waits`:
    what was waited for -> seconds of all sessions together, as sampled.
    """

    waits: dict[str, float]

    def cpu_s(self) -> float: ...
    def memory_mb(self) -> float: ...
    def size_bytes(self) -> int: ...
    def log_bytes(self) -> int: ...
    def close(self) -> None: ...


class Sqlite:
    """A file: its work is the servers' own."""

    def __init__(self, url: str) -> None:
        self.waits: dict[str, float] = {}
        self._engine = create_engine(url)
        self._log = Path(f"{make_url(url).database}-wal")

    def cpu_s(self) -> float:
        return 0.0

    def memory_mb(self) -> float:
        return 0.0

    def size_bytes(self) -> int:
        with self._engine.connect() as connection:
            pages, of_bytes = (connection.exec_driver_sql(f"PRAGMA {what}").scalar_one() for what in _PAGES)
            return int(pages * of_bytes)

    def log_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self._engine.dispose()


_PAGES = ("page_count", "page_size")


class Postgresql:
    """A server of our own on this machine. What its sessions wait for is looked at fifty times a second."""

    def __init__(self, url: str) -> None:
        self.waits: dict[str, float] = {}
        self._engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with self._engine.connect() as connection:
            backend = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        self._master = psutil.Process(psutil.Process(backend).ppid())
        self._stopping = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self._sampler.start()

    def cpu_s(self) -> float:
        mine = self._master.cpu_times()
        ended = mine.children_user + mine.children_system
        own: float = mine.user + mine.system + ended
        return own + sum(sum(_times(each)) for each in self._master.children())

    def memory_mb(self) -> float:
        """Proportional, with what its processes share counted once."""
        return sum(_pss_mb(process) for process in (self._master, *self._master.children()))

    def size_bytes(self) -> int:
        return self._asked("SELECT pg_database_size(current_database())")

    def log_bytes(self) -> int:
        return self._asked("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")

    def close(self) -> None:
        self._stopping.set()
        self._sampler.join()
        self._engine.dispose()

    def _asked(self, query: str) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(text(query)).scalar_one())

    def _sample(self) -> None:
        with self._engine.connect() as connection:
            looked_s = time.monotonic()
            while not self._stopping.wait(_SAMPLED_EVERY_S):
                begun_s, looked_s = looked_s, time.monotonic()
                self._look(connection, looked_s - begun_s)

    def _look(self, connection: Connection, since_s: float) -> None:
        for wait, query, lock in connection.execute(_WAITING):
            asked = query.strip() if lock is None else _LOCKS.get(lock, "a camera or a burst")
            what = f"{wait} ({asked})" if wait.startswith("Lock") else wait
            self.waits[what] = self.waits.get(what, 0.0) + since_s


def _times(process: psutil.Process) -> tuple[float, float]:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # its time is among those of the ended ones, at the next look
        return 0.0, 0.0
    return times.user, times.system


def _pss_mb(process: psutil.Process) -> float:
    try:
        rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # it has just ended
        return 0.0
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024 / 1e6


def looked_at(url: str) -> Database:
    return Sqlite(url) if make_url(url).get_backend_name() == "sqlite" else Postgresql(url)
