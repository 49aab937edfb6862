"""Bursts that the server will never accept. The last few are kept, each beside a text file with the reason."""

from __future__ import annotations

from pathlib import Path

from camera_agent.spool.entry import SUFFIX, SpoolEntry


def keep(entry: SpoolEntry, problem: str, folder: Path, max_kept: int) -> int:
    """Move a burst into `folder`, from the spool's folder or from memory, and keep the last `max_kept` there.

    Returns the bytes written. Raises `OSError`.
    """
    if not max_kept:
        return 0
    kept = folder / entry.path.name
    if entry.burst is None:
        entry.path.replace(kept)
    else:
        entry.write(kept)
    kept.with_name(f"{kept.name}.txt").write_text(problem + "\n", encoding="utf-8")
    for old in sorted(folder.glob(f"*{SUFFIX}"))[:-max_kept]:
        old.unlink(missing_ok=True)
        old.with_name(f"{old.name}.txt").unlink(missing_ok=True)
    return 0 if entry.burst is None else entry.size_bytes
