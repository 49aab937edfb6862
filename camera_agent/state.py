"""What an agent needs before it runs: its state folder, its spool and its cameras' tokens."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from camera_agent import atomic_files
from camera_agent.clock import Clock
from camera_agent.config.settings import Settings, read_token
from camera_agent.spool.spool import Spool


class StateUnusable(Exception):
    """The state folder cannot be used; the message says why."""


def make_spool(settings: Settings, clock: Clock) -> Spool:
    """The spool that the settings describe, not yet opened."""
    spool = settings.spool
    return Spool(
        settings.spool_folder,
        max_bytes=spool.max_bytes,
        refused_folder=settings.state_folder / "refused",
        keep_refused=spool.keep_refused,
        memory_s=spool.memory_s if spool.sync == "late" else 0.0,
        memory_bytes=spool.memory_bytes,
        send=spool.send,
        monotonic_s=clock.monotonic_s,
    )


def camera_tokens(settings: Settings) -> dict[str, Callable[[], str | None]]:
    """How to read each camera's bearer token: its own where it has one, else the server's."""
    tokens: dict[str, Callable[[], str | None]] = {}
    for camera in settings.cameras:
        has_own = camera.token is not None or camera.token_file is not None
        source = camera if has_own else settings.server
        tokens[camera.name] = partial(read_token, source.token, source.token_file)
    return tokens


@contextlib.contextmanager
def lock_state(folder: Path) -> Iterator[None]:
    """Make the state folder and lock it against a second agent. The kernel releases the lock when the process ends.

    Raises `StateUnusable`.
    """
    try:
        atomic_files.make_private(folder)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnusable(
            f"the state folder {folder} cannot be used: {error.strerror}: choose another `state_dir`"
        ) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateUnusable(f"another agent is running on the state folder {folder}") from error
        yield
    finally:
        os.close(handle)
