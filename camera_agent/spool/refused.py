"""Bursts that the server will never take: the last few are kept, each beside a text that says why."""

from __future__ import annotations

from pathlib import Path

from camera_agent import atomic_files
from camera_agent.spool.entry import SUFFIX, Waiting


class Refusals:
    """A folder of them, of which `most` are kept."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most

    def open(self) -> None:
        """Make the folder; half-written files go. Raises `OSError`."""
        atomic_files.make_own(self._folder)
        atomic_files.remove_leftovers(self._folder)

    def keep(self, waiting: Waiting, problem: str) -> int:
        """Take a burst out of the spool's folder, or out of memory; return the bytes written. Raises `OSError`."""
        if not self._most:
            return 0
        kept = self._folder / waiting.path.name
        if waiting.burst is None:
            waiting.path.replace(kept)
        else:
            waiting.write(kept)
        kept.with_name(f"{kept.name}.txt").write_text(problem + "\n", encoding="utf-8")
        for old in sorted(self._folder.glob(f"*{SUFFIX}"))[: -self._most]:
            old.unlink(missing_ok=True)
            old.with_name(f"{old.name}.txt").unlink(missing_ok=True)
        return 0 if waiting.burst is None else waiting.size_bytes
