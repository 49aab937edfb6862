"""A server in processes of its own, while it is measured: where it listens, and what it takes of the machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

_SAMPLED_EVERY_S = 1.0
_TOLD = 2000


def end_on_sigterm() -> None:
    """Have a benchmark that is told to end leave its `with` blocks, and so end its servers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))


def memory_mb(pid: int, what: str) -> float:
    """Memory of a process by a name of its `smaps_rollup`, now. Raises OSError where it has ended."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(f"{what}:")) * 1024 / 1e6


class Hosted:
    """`python -m MODULE ARGUMENTS...`, which says `ready PORT [ADMIN_PORT]` once it answers; its log goes to `log`.

    Raises SystemExit, with the end of the log, when it ends instead.
    """

    def __init__(self, module: str, *arguments: str, log: Path) -> None:
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ready "):
                self.port, self.admin_port = (*map(int, line.split()[1:]), 0)[:2]
                break
        else:
            raise SystemExit(f"{module} {' '.join(arguments)} ended:\n{log.read_text(errors='replace')[-_TOLD:]}")
        self.peak_mb = 0.0
        """The most proportional memory (PSS) of all its processes together, sampled every second."""
        self._paused = False
        self._stopping = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()

    def __enter__(self) -> Hosted:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.go_on()
        self._stopping.set()
        self._sampler.join()
        family = self._family()
        self._process.terminate()
        _gone, left = psutil.wait_procs(family, 30)
        for process in left:
            process.kill()

    def cpu_s(self) -> float:
        """Processor seconds of all its processes so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._family())

    def memory_mb(self) -> float:
        """The proportional memory of its processes, now."""
        return self._summed_mb("Pss")

    def own_mb(self) -> float:
        """That part of it that no file backs: others on the machine do not move it."""
        return self._summed_mb("Pss_Anon")

    def _summed_mb(self, what: str) -> float:
        total = 0.0
        for process in self._family():
            with suppress(OSError):  # it has just ended
                total += memory_mb(process.pid, what)
        return total

    def handles(self) -> int:
        """The open files and sockets of its processes, now."""
        return sum(process.num_fds() for process in self._family())

    def threads(self) -> int:
        """The threads of its processes, now."""
        return sum(process.num_threads() for process in self._family())

    def pause(self) -> None:
        """Stop all its processes: one that polls while it is idle would take from whoever is measured next."""
        self._paused = True
        for process in self._family():
            process.suspend()

    def go_on(self) -> None:
        """Let paused processes run again."""
        for process in self._family():
            process.resume()
        self._paused = False

    def forget_peak(self) -> None:
        """Begin anew to look for the most memory."""
        self.peak_mb = 0.0

    def _family(self) -> list[psutil.Process]:
        master = psutil.Process(self._process.pid)
        return [master, *master.children(recursive=True)]

    def _sample(self) -> None:
        while not self._stopping.wait(_SAMPLED_EVERY_S):
            if not self._paused:
                self.peak_mb = max(self.peak_mb, self.memory_mb())
