"""Folding stored cameras anew, each camera in a process of its own where there are several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import click

from policies.events import Event
from policies.fold import decode_state
from policies.site.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.analysis.refold_many import Folds, Told, begin_of, folds
from server.domain.errors import Unknown
from server.domain.records import CameraHead, Checkpoint
from server.domain.refold import steps
from server.settings import processors
from server.store import Store, open_store

T = TypeVar("T")


class Task(NamedTuple):
    """One camera's history in the database at `url`, to be folded under each of `policies`."""

    url: str
    site: str
    camera: str
    policies: tuple[SitePolicy, ...] = ()
    since_us: int | None = None
    until_us: int | None = None


def folded(task: Task) -> Folds:
    """What each policy of a task tells, exactly; reads no more of the history before `since_us` than that takes."""
    with closing(open_store(task.url)) as store:
        history = partial(store.history, task.site, task.camera)
        begin_us = None
        if task.since_us is not None:
            before = partial(history, until_us=task.since_us)
            begin_us = begin_of(before, task.camera, task.policies, task.since_us)
        return folds(history(begin_us, task.until_us), task.camera, task.policies, task.since_us)


def retold(task: Task, *, from_start: bool = False) -> list[Event]:
    """What the rules that were in force tell, burst by burst.

    Begins at the last checkpoint before `since_us` at which nothing was there, or, `from_start`, with the first frame,
    which trusts no checkpoint.
    """
    with closing(open_store(task.url)) as store:
        start = Checkpoint(None, None)
        if task.since_us is not None and not from_start:
            start = _quiet_checkpoint(store, task, task.since_us)
        after_us = None if start.at_us is None else start.at_us + 1
        told = Told(task.since_us)
        for step in steps(store.history(task.site, task.camera, after_us, task.until_us), start, store.policy):
            if step.events:
                told.add(step.recorded.observation.at_us, step.events)
        return told.events()


def _quiet_checkpoint(store: Store, task: Task, before_us: int) -> Checkpoint:
    """The newest before an instant (us) with nothing there: no event that was told up to it can be told again."""
    found = store.checkpoint(task.site, task.camera, before_us)
    while found.at_us is not None and found.state is not None and not decode_state(found.state).is_empty:
        found = store.checkpoint(task.site, task.camera, found.at_us)
    return found


def side_by_side(work: Callable[[Task], T], tasks: Sequence[Task], processes: int | None = None) -> Iterator[T]:
    """`work` of each task, in order; several at a time, at most one per processor (or `processes`)."""
    at_once = min(len(tasks), processes or processors())
    if at_once < 2:
        yield from map(work, tasks)
        return
    # Spawned, not forked: a fork would share this process's database connections.
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, tasks)


def stored_cameras(store: Store, site: str | None, camera: str | None) -> list[CameraHead]:
    """The cameras that were meant. Raises Unknown when there is none."""
    there = store.cameras()
    found = [c for c in there if site in (None, c.site) and camera in (None, c.camera)]
    if not found:
        known = ", ".join(f"{c.site}/{c.camera}" for c in there) or "no camera"
        raise Unknown(f"nothing is stored of {site or 'any site'}/{camera or '*'}; here is: {known}")
    return found


def check_place(store: Store, site: str | None, camera: str | None = None) -> None:
    """Raises Unknown for a site or camera that was named and never sent: silence would look like a quiet one."""
    if site is not None or camera is not None:
        stored_cameras(store, site, camera)


def read_policy(file: Path) -> tuple[SitePolicy, str]:
    """The site policy in a file, and its text; what is wrong with it, as a usage error with its line."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        return parse_site_policy(text), text
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except (InvalidPolicy, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file}: {error}") from None
