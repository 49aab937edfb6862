"""Folding stored cameras under several policies, each camera in a process of its own where there are several."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import click

from policies.site_policy import InvalidPolicy, SitePolicy, parse_site_policy
from server.past.folds import Folds, begin_of, folds
from server.store import open_store


class Task(NamedTuple):
    """One camera's history in the database at `url`, to be folded under each of `policies`."""

    url: str
    site: str
    camera: str
    policies: tuple[SitePolicy, ...]
    since_us: int | None = None
    until_us: int | None = None


def folded(task: Task) -> Folds:
    """What each policy of a task tells, exactly; reads no more of the history before `since_us` than that takes."""
    store = open_store(task.url)
    try:
        history = partial(store.history, task.site, task.camera)
        begin_us = None
        if task.since_us is not None:
            before = partial(history, until_us=task.since_us)
            begin_us = begin_of(before, task.camera, task.policies, task.since_us)
        return folds(history(begin_us, task.until_us), task.camera, task.policies, task.since_us)
    finally:
        store.close()


def fold_all(tasks: Sequence[Task], processes: int | None = None) -> Iterator[Folds]:
    """`folded` of each task, in order; several at a time, at most one per processor (or `processes`)."""
    at_once = min(len(tasks), processes or len(os.sched_getaffinity(0)))
    if at_once < 2:
        yield from map(folded, tasks)
        return
    # Spawned, not forked: a fork would share this process's database connections.
    with ProcessPoolExecutor(at_once, mp_context=get_context("spawn")) as pool:
        yield from pool.map(folded, tasks)


def read_policy(file: Path) -> SitePolicy:
    """The site policy in a file; what is wrong with it, as a usage error with its line."""
    try:
        return parse_site_policy(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from None
    except (InvalidPolicy, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file}: {error}") from None
