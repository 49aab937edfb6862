"""Fold stored cameras again in a pool of processes, one camera or one share of its policies in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from policies.events import Event
from policies.fold import decode_state
from policies.site.site_policy import RULES_VERSION, InvalidPolicy, SitePolicy, parse_site_policy
from server.analysis.refold_many import EventsSince, FoldResult, exact_start, fold_history
from server.domain.files.text_files import UnreadableText, read_text
from server.domain.folding.refold import Step, steps
from server.domain.records import Checkpoint
from server.replays.pool import counted, in_order
from server.serving.machine import this_machine
from server.store import Store, open_store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

PROCESS_BYTES = 128 * 1024 * 1024
"""What one process that folds takes, at most: 71 to 89 MB were measured, whatever the length of the past."""
MOST_PROCESSES = 32
"""Each has a connection of its own, and PostgreSQL takes a hundred unless it is told otherwise."""


class FoldTask(NamedTuple):
    """One camera's history in the database at `url`, to be folded under each of `policies`."""

    url: str
    site: str
    camera: str
    policies: tuple[SitePolicy, ...] = ()
    since_us: int | None = None
    until_us: int | None = None


def fold_policies(task: FoldTask) -> FoldResult:
    """The exact events of each policy of a task; reads no more history before `since_us` than that takes."""
    with closing(open_store(task.url)) as store:
        history = partial(store.history, task.site, task.camera)
        start_us = None
        if task.since_us is not None:
            before = partial(history, until_us=task.since_us)
            start_us = exact_start(before, task.camera, task.policies, task.since_us)
        return fold_history(counted(history(start_us, task.until_us)), task.camera, task.policies, task.since_us)


def fold_as_accepted(task: FoldTask) -> list[Event]:
    """The events of the policies that were in force, burst by burst.

    Begins at the last checkpoint before `since_us` with an empty state.
    """
    with closing(open_store(task.url)) as store:
        start = Checkpoint(None, None) if task.since_us is None else _empty_checkpoint(store, task, task.since_us)
        collected = EventsSince(task.since_us)
        for step in _accepted(store, task, start):
            if step.events:
                collected.add(step.recorded.observation.at_us, step.events)
        return collected.events()


class Refolded(NamedTuple):
    """What `refold_as_accepted` gives. `other_rules`: spans (us) in which what happened follows from bursts that were
    judged under another version of the rules.
    """

    events: list[Event]
    other_rules: list[tuple[int, int]]


def refold_as_accepted(task: FoldTask) -> Refolded:
    """The events of the policies that were in force, folded from the first frame, which trusts no checkpoint."""
    with closing(open_store(task.url)) as store:
        collected = EventsSince(task.since_us)
        version_of = cache(lambda policy: store.policy(policy).version)
        spans: list[tuple[int, int]] = []
        is_other = False
        for step in _accepted(store, task, Checkpoint(None, None)):
            at_us = step.recorded.observation.at_us
            collected.add(at_us, step.events)
            is_under_others = version_of(step.recorded.policy) != RULES_VERSION
            if is_under_others and not is_other:
                spans.append((at_us, at_us))
            if is_under_others or is_other:
                spans[-1] = (spans[-1][0], at_us)
                is_other = not step.state.is_empty
        return Refolded(collected.events(), spans)


def _accepted(store: Store, task: FoldTask, start: Checkpoint) -> Iterator[Step]:
    after_us = None if start.at_us is None else start.at_us + 1
    return steps(counted(store.history(task.site, task.camera, after_us, task.until_us)), start, store.policy)


def _empty_checkpoint(store: Store, task: FoldTask, before_us: int) -> Checkpoint:
    """The newest checkpoint before an instant (us) with an empty state: no event before it can be settled again."""
    newest = store.checkpoint(task.site, task.camera, before_us)
    while newest.at_us is not None and newest.state is not None and not decode_state(newest.state).is_empty:
        newest = store.checkpoint(task.site, task.camera, newest.at_us)
    return newest


def fold_many(tasks: Sequence[FoldTask], processes: int | None = None) -> list[FoldResult]:
    """`fold_policies` of each task, in order. With fewer tasks than processes, the policies of a task are split."""
    processes = processes or default_processes()
    parts = max(1, processes // max(1, len(tasks)))
    split = [_split(task, parts) for task in tasks]
    results = run_tasks(fold_policies, [part for shares in split for part in shares], processes)
    return [_joined([next(results) for _ in shares]) for shares in split]


def _split(task: FoldTask, parts: int) -> list[FoldTask]:
    size = -(-len(task.policies) // parts)
    return [task._replace(policies=task.policies[i : i + size]) for i in range(0, len(task.policies), size)]


def _joined(results: Sequence[FoldResult]) -> FoldResult:
    """The results of one task's parts as one: all saw the same frames."""
    return results[0]._replace(events=tuple(events for result in results for events in result.events))


def run_tasks(work: Callable[[FoldTask], T], tasks: Sequence[FoldTask], processes: int | None = None) -> Iterator[T]:
    """`work` of each task, in order, in at most `processes` processes at once (default: `default_processes`)."""
    return in_order(work, tasks, processes or default_processes(), partial(click.echo, err=True))


def default_processes() -> int:
    """As many processes as there are processors, and as half of the free memory holds; at most MOST_PROCESSES."""
    machine = this_machine()
    room = MOST_PROCESSES if machine.available_bytes is None else machine.available_bytes // 2 // PROCESS_BYTES
    return max(1, min(machine.processors, room, MOST_PROCESSES))


def processes_option(command: F) -> F:
    """Adds --processes."""
    return click.option(
        "--processes",
        type=click.IntRange(min=1),
        help="Processes at once (default: one per processor, as far as memory is free).",
    )(command)


def read_policy(file: Path) -> tuple[SitePolicy, str]:
    """The site policy in a file, and its text. Raises UsageError with the file and line of a mistake."""
    try:
        text = read_text(file)
        return parse_site_policy(text), text
    except (InvalidPolicy, UnreadableText) as error:
        raise click.UsageError(f"{file}: {error}") from None
