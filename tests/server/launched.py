"""A server in a process of its own, for the tests of how it starts, refuses and stops."""

from __future__ import annotations

import queue
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import psutil

from tests.server import new_sqlite

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180.0
"""A machine that is busy with other things starts a server in a minute."""


class Running:
    """A server in a process of its own. `line` waits for a line of its output."""

    def __init__(self, arguments: list[str]) -> None:
        new_sqlite.template()  # for the process, which would make one of its own
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output: list[str] = []
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        assert self.process.stdout is not None
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def line(self, pattern: str) -> re.Match[str]:
        """The next line that matches; fails when the output ends, or pauses for PATIENCE_S, before it comes."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                line = None
            assert line is not None, f"no line like {pattern!r}; there were:\n" + "".join(self.output)
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
            self.output.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def end(self) -> None:
        """Kill it and its children."""
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            for child in family:
                child.kill()
            self.process.wait(PATIENCE_S)
