"""A stretch hour by hour gives what a fold of all of it gives, whatever the order, and folds nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from policies.site.site_policy import parse_site_policy
from server.commands.folding import FoldTask, fold_policies
from server.replays import Hour, HourByHour, Job, Replayed, Tried, hours_of
from server.replays.hours import HOUR_US
from server.replays.worker import _Run
from server.store import Store, open_store
from tests.server.scenes import START_US, YARD, Yard, across
from tests.stand_ins import ManualClock

STRICT = YARD.replace('site = "yard"\n', 'site = "yard"\nmin_score = { "*" = 0.95 }\n', 1)
LATER_US = START_US + 2 * HOUR_US + 40_000_000
WALKS_S = (0.0, 1800.0, 3590.0, 7200.0)
"""When somebody walks across for 26 s; the third walk goes over the full hour, where a fold of that hour begins."""


class InThisProcess:
    """Does jobs at once, in this process, by the code of the child. `states` says how further ones end."""

    def __init__(self, store: Store) -> None:
        self.jobs: list[Job] = []
        self.unfinished: list[Replayed] = []
        self._store = store

    def ask(self, job: Job, owner: str, wait_s: float = 0.0, ahead: Sequence[Job] = ()) -> Replayed:
        self.jobs.append(job)
        if self.unfinished:
            return replace(self.unfinished.pop(0), job=job)
        policies = [parse_site_policy(text) for text in job.texts]
        return _Run(job, lambda: False, lambda _: None).replay(self._store, policies)


@pytest.fixture
def url(new_sqlite: Callable[[], str], tmp_path: Path, clock: ManualClock) -> str:
    clock.now_us = LATER_US
    url = new_sqlite()
    with closing(open_store(url, clock)) as store:
        yard = Yard(tmp_path / "sites", store, clock)
        for number, begin_s in enumerate(WALKS_S):
            path = partial(lambda begin_s, t: across(t - begin_s), begin_s)
            for part in range(7):
                yard.pipeline.process(yard.walk(number * 10 + part, path, begin_s + part * 4, frames=8))
    return url


@pytest.fixture
def past(url: str) -> Iterator[InThisProcess]:
    with closing(open_store(url)) as store:
        yield InThisProcess(store)


def tried(*texts: str) -> list[Tried]:
    return [Tried(parse_site_policy(text).digest, text) for text in texts]


HOURS = hours_of(START_US, LATER_US)


def test_the_hours_together_have_the_events_and_the_observed_time_of_one_fold(past: InThisProcess, url: str) -> None:
    got = HourByHour(past).ask("yard", "gate", tried(YARD, STRICT), HOURS, lambda _: "", "ann")
    policies = tuple(parse_site_policy(text) for text in (YARD, STRICT))
    whole = fold_policies(FoldTask(url, "yard", "gate", policies, START_US, LATER_US))
    assert (got.left, got.why) == (0, "")
    assert got.events(0) == list(whole.events[0])
    assert len(got.events(0)) > 20
    assert got.events(1) == list(whole.events[1]) == []
    assert got.observed_us(30_000_000) == whole.observed_us


def test_the_hours_around_instants_come_first_and_then_the_newest() -> None:
    at = START_US + HOUR_US + 5
    assert hours_of(START_US + 1, LATER_US, [at]) == [
        Hour(START_US + HOUR_US, START_US + 2 * HOUR_US),
        Hour(START_US + 2 * HOUR_US, LATER_US),
        Hour(START_US + 1, START_US + HOUR_US),
    ]


def test_a_policy_is_folded_once_an_hour_and_again_only_in_an_hour_that_has_changed(past: InThisProcess) -> None:
    by_hour = HourByHour(past)
    by_hour.ask("yard", "gate", tried(YARD), HOURS, lambda _: "1", "ann")
    by_hour.ask("yard", "gate", tried(YARD, STRICT), HOURS, lambda _: "1", "ann")
    assert [job.texts for job in past.jobs] == [(YARD,)] * 3 + [(STRICT,)] * 3
    by_hour.ask("yard", "gate", tried(YARD), HOURS, lambda hour: "2" if hour == HOURS[1] else "1", "ann")
    assert [(job.since_us, job.edition) for job in past.jobs[6:]] == [(HOURS[1].since_us, "2")]


def test_what_is_not_done_yet_is_left_and_what_cannot_be_done_says_why(past: InThisProcess) -> None:
    by_hour = HourByHour(past)
    by_hour.ask("yard", "gate", tried(YARD), HOURS[:1], lambda _: "", "ann")
    past.unfinished = [Replayed(past.jobs[0], "working")]
    got = by_hour.ask("yard", "gate", tried(YARD), HOURS, lambda _: "", "ann")
    assert ([hour.hour for hour in got.folded[0]], got.left, got.why) == ([HOURS[0]], 2, "")
    past.unfinished = [Replayed(past.jobs[0], "failed", why="the disk is gone")]
    assert by_hour.ask("yard", "gate", tried(YARD), HOURS, lambda _: "", "ann").why == "the disk is gone"
    assert by_hour.ask("yard", "gate", tried(YARD), HOURS, lambda _: "", "ann").left == 0


def test_the_oldest_hours_are_forgotten_first(past: InThisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.replays.hours.MOST_HOURS", 2)
    by_hour = HourByHour(past)
    for hour in (*HOURS, HOURS[2], HOURS[0]):
        by_hour.ask("yard", "gate", tried(YARD), [hour], lambda _: "", "ann")
    assert [job.since_us for job in past.jobs] == [hour.since_us for hour in (*HOURS, HOURS[0])]


def test_a_stretch_with_too_many_events_ends_with_a_sentence_and_is_not_folded_again(
    past: InThisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.replays.hours.MOST_EVENTS", 5)
    by_hour = HourByHour(past)
    for _ in range(3):
        got = by_hour.ask("yard", "gate", tried(YARD), HOURS, lambda _: "", "ann")
    assert got.why == "this stretch has more events than are compared at once: choose a shorter one"
    assert (len(got.folded[0]), got.left, len(past.jobs)) == (1, 2, 1)
    assert by_hour.ask("yard", "gate", tried(YARD), HOURS[1:2], lambda _: "", "ann").left == 0
