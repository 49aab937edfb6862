"""The server process of `soak`: started again whenever it ends, killed, stopped, kept from writing, and measured."""

from __future__ import annotations

import json
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import IO

import psutil

from tests.benchmarks.serving.processes import memory_mb
from tests.benchmarks.soak.verdict import Followed, Sample

_RESTARTED_AFTER_S = 0.5
_ENDS_WITHIN_S = 90.0
_FULL_BYTES = 4096
DATABASE = "sectorwatch.sqlite"
_NUMBER = re.compile(r"(?<!with code )\b\d+")


class Watched:
    """`sectorwatch serve` in `folder`, as a supervisor such as systemd keeps it. Call `keep_up` often.

    Its output comes through pipes: the events of the log channel into `told`, the log
    into `server.log`.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []
        self._ended_s = 0.0
        self._is_wanted = True
        self._is_full = False
        self._owed_kill: bool | None = None
        self.lives = 0
        self.ends: Counter[str] = Counter()
        """Exit codes, and how often."""
        self.told = Followed()
        self.log: Counter[str] = Counter()
        """Lines of warnings, errors and tracebacks, by their text without fields."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def keep_up(self) -> None:
        """Start it, if it is not running."""
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self.ends[str(code)] += 1
            self._process, self._ended_s = None, time.monotonic()
        if self._is_wanted and time.monotonic() >= self._ended_s + _RESTARTED_AFTER_S:
            self._start()
            if self._owed_kill is not None:
                self.kill(with_worker=self._owed_kill)

    def kill(self, *, with_worker: bool) -> None:
        """SIGKILL, to the server alone or to its worker as well; at its next start, if it does not run."""
        family = self.family()
        self._owed_kill = None if family else with_worker
        for process in family if with_worker else family[:1]:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def stop(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Stop it for good; its exit code."""
        self._is_wanted = False
        self.keep_up()
        if self._process is None:
            return 0
        family = self.family()
        self.stop()
        try:
            code = self._process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(10.0)
        return code

    def fill_disk(self, is_full: bool) -> None:
        """Have the system refuse this server every byte of a file beyond one page, as a full disk does; or not."""
        self._is_full = is_full
        for process in self.family():
            self._limit(process.pid)

    def family(self) -> list[psutil.Process]:
        """The server and its worker, as far as they live."""
        if self._process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            master = psutil.Process(self._process.pid)
            return [master, *master.children(recursive=True)]
        return []

    def sample(self, at_s: float, bounded_sites: tuple[str, ...]) -> Sample | None:
        """What it takes now; None while it starts or ends."""
        family = self.family()
        if len(family) < 2:
            return None
        try:
            own_mb = sum(memory_mb(one.pid, "Pss_Anon") for one in family)
            rss = sum(one.memory_info().rss for one in family)
            handles, threads = sum(one.num_fds() for one in family), sum(one.num_threads() for one in family)
        except (psutil.Error, OSError):
            return None
        files = [path.stat().st_size for path in self._folder.iterdir() if path.is_file() and path.suffix != ".log"]
        log = self._folder / f"{DATABASE}-wal"
        return Sample(
            at_s=at_s,
            life=self.lives,
            own_mb=own_mb,
            rss_mb=rss / 1e6,
            handles=handles,
            threads=threads,
            bounded_bytes=site_bytes(self._folder / DATABASE, bounded_sites),
            file_bytes=sum(files),
            log_bytes=log.stat().st_size if log.exists() else 0,
        )

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.soak.server", str(self._folder), str(self._port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lives += 1
        self._limit(self._process.pid)
        readers = [
            threading.Thread(target=work, args=(stream,), daemon=True)
            for work, stream in ((self._hear, self._process.stdout), (self._read, self._process.stderr))
        ]
        for reader in readers:
            reader.start()
        self._readers = [*(one for one in self._readers if one.is_alive()), *readers]

    def _limit(self, pid: int) -> None:
        size = _FULL_BYTES if self._is_full else resource.RLIM_INFINITY
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def _hear(self, stream: IO[bytes]) -> None:
        """Take in the log channel; a kill may cut a line."""
        with stream:
            for line in stream:
                with suppress(ValueError):
                    event = json.loads(line)
                    if "confirmed_at" in event:
                        self.told.hear(event)

    def _read(self, stream: IO[bytes]) -> None:
        with stream, (self._folder / "server.log").open("ab") as log:
            for line in stream:
                log.write(line)
                log.flush()
                self._count(line)

    def _count(self, line: bytes) -> None:
        if line.startswith(b"Traceback"):
            self.log["traceback"] += 1
        with suppress(ValueError):
            record = json.loads(line)
            self.log["traceback"] += "exception" in record
            if record["level"] in ("warning", "error", "critical"):
                self.log[f"{record['level']}: {_NUMBER.sub('N', record['event'])}"] += 1


def site_bytes(file: Path, sites: tuple[str, ...]) -> int:
    """What bursts and events of these sites take, records and bodies alone."""
    marks = ",".join("?" * len(sites))
    records = f"""SELECT coalesce(sum(length(record)), 0) FROM burst_records JOIN cameras
        ON cameras.number = burst_records.camera         WHERE site IN ({marks})"""
    bodies = f"""SELECT coalesce(sum(length(body)), 0) FROM events JOIN cameras
        ON cameras.number = events.camera WHERE site IN ({marks})"""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as connection:
        return sum(int(connection.execute(query, sites).fetchone()[0]) for query in (records, bodies))
