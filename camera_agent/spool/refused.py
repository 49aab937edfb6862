"""Bursts that the server will never accept. The last few are kept, each beside a text file with the reason."""

from __future__ import annotations

from pathlib import Path

from camera_agent import atomic_files
from camera_agent.spool.entry import SUFFIX, EntryState, SpoolEntry


class RefusedFolder:
    """A folder that keeps the last `max_kept` refused bursts."""

    def __init__(self, folder: Path, max_kept: int) -> None:
        self._folder = folder
        self._max_kept = max_kept

    def open(self) -> None:
        """Make the folder; delete half-written files. Raises `OSError`."""
        atomic_files.make_private(self._folder)
        atomic_files.remove_leftovers(self._folder)

    def keep(self, entry: SpoolEntry, problem: str) -> int:
        """Move a burst here from the spool's folder or from memory. Returns the bytes written. Raises `OSError`."""
        if not self._max_kept:
            return 0
        kept = self._folder / entry.path.name
        is_on_disk = entry.state is EntryState.DISK
        if is_on_disk:
            entry.path.replace(kept)
        else:
            entry.write(kept)
        kept.with_name(f"{kept.name}.txt").write_text(problem + "\n", encoding="utf-8")
        for old in sorted(self._folder.glob(f"*{SUFFIX}"))[: -self._max_kept]:
            old.unlink(missing_ok=True)
            old.with_name(f"{old.name}.txt").unlink(missing_ok=True)
        return 0 if is_on_disk else entry.size_bytes
