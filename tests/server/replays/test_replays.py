"""Replays beside serving: exact, one at a time, given up when nobody asks, and never longer than allowed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from policies.site.site_policy import SitePolicy, parse_site_policy
from server.domain.errors import RetryLater
from server.replays import Job, Replayed, Replays
from server.replays.paths import MOST_POINTS
from server.replays.service import MOST_WAITING
from server.replays.worker import _Run
from server.store import Store, open_store
from tests.server.scenes import START_US, YARD, Yard, across
from tests.stand_ins import ManualClock

LATER_US = START_US + 26_000_000
STRICT = YARD.replace('site = "yard"\n', 'site = "yard"\nmin_score = { "*" = 0.95 }\n', 1)
JOB = Job("yard", ("gate",), (YARD, STRICT), START_US, LATER_US)


@pytest.fixture
def url(new_sqlite: Callable[[], str], tmp_path: Path, clock: ManualClock) -> str:
    url = new_sqlite()
    with closing(open_store(url, clock)) as store:
        yard = Yard(tmp_path / "sites", store, clock)
        for each in yard.walked(across, 26):
            yard.pipeline.process(each)
    return url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with closing(open_store(url)) as store:
        yield store


@pytest.fixture
def replays(url: str) -> Iterator[Replays]:
    replays = Replays(url)
    yield replays
    replays.close()


def finished(replays: Replays, job: Job, owner: str = "ann") -> Replayed:
    """The job's result; each question waits for at most 30 s."""
    for _ in range(4):
        replayed = replays.ask(job, owner, wait_s=30)
        if replayed.is_over:
            return replayed
    raise AssertionError(f"{job} is still {replayed.state}")


def test_a_replay_gives_the_events_of_the_log_and_those_of_another_policy(replays: Replays, store: Store) -> None:
    replayed = finished(replays, JOB)
    assert (replayed.state, replayed.why, replayed.share) == ("done", "", 1.0)
    assert replayed.events(0) == [logged.event for logged in store.events()]
    assert replayed.events(0)
    assert replayed.events(1) == []
    assert replayed.spans[0].frames == 52


def test_the_second_question_for_a_job_is_answered_without_doing_it_again(replays: Replays) -> None:
    first = finished(replays, JOB)
    assert replays.ask(JOB, "bob", wait_s=0) is first


def test_a_job_of_an_owner_takes_the_place_of_the_one_before(replays: Replays) -> None:
    before = replace(JOB, texts=(STRICT,))
    replays.ask(before, "ann", wait_s=0)
    assert finished(replays, JOB).state == "done"
    assert replays.ask(before, "bob", wait_s=0).state == "waiting"


def test_a_replay_runs_at_the_lowest_priority_and_ends_with_the_service(replays: Replays) -> None:
    finished(replays, JOB)
    [child] = replays._children
    process = child.process
    assert process is not None
    assert process.pid is not None
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
    replays.close()
    assert not process.is_alive()
    with pytest.raises(RetryLater, match="stopping"):
        replays.ask(replace(JOB, limit_s=3), "ann")


def test_a_killed_replay_is_a_sentence_and_the_next_one_works(replays: Replays) -> None:
    finished(replays, JOB)
    process = replays._children[0].process
    assert process is not None
    os.kill(process.pid or 0, signal.SIGSTOP)
    other = replace(JOB, limit_s=3)
    replays.ask(other, "ann", wait_s=0.2)
    os.kill(process.pid or 0, signal.SIGKILL)
    failed = finished(replays, other)
    assert failed.state == "failed"
    assert "ended before it was done" in failed.why
    assert finished(replays, other).state == "done"


def test_a_policy_that_cannot_be_used_is_named(replays: Replays) -> None:
    failed = finished(replays, replace(JOB, texts=('site = "yard"\ncamera = 1\n',)))
    assert failed.state == "failed"
    assert "line 2" in failed.why


def test_a_crowd_of_owners_is_refused_before_it_costs_anything(replays: Replays) -> None:
    for number in range(MOST_WAITING + 1):  # one of them may be in work
        replays.ask(replace(JOB, limit_s=number), f"owner {number}", wait_s=0.001)
    with pytest.raises(RetryLater, match="wait already"):
        replays.ask(JOB, "one more", wait_s=0)


def test_a_job_whose_time_is_over_gives_what_is_done_and_says_so(store: Store) -> None:
    replayed = _Run(replace(JOB, limit_s=0), lambda: False, lambda _: None).replay(store, policies(JOB))
    assert (replayed.state, replayed.share) == ("cut", 0.0)
    assert "choose less" in replayed.why


def test_the_paths_of_tracks_are_thinned_and_bounded(store: Store) -> None:
    job = replace(JOB, paths=5)
    [path] = _Run(job, lambda: False, lambda _: None).replay(store, policies(job)).spans[0].paths
    assert 10 < len(path) <= MOST_POINTS
    assert path[0][0] < 0.2 < 0.8 < path[-1][0]
    assert {y for _, y in path} == {0.8}
    none = _Run(JOB, lambda: False, lambda _: None).replay(store, policies(JOB))
    assert none.spans[0].paths == ()


def test_a_job_that_is_not_wanted_any_more_ends_at_once(store: Store) -> None:
    replayed = _Run(JOB, lambda: True, lambda _: None).replay(store, policies(JOB))
    assert replayed.state == "cut"
    assert replayed.spans[0].frames == 0


def policies(job: Job) -> list[SitePolicy]:
    return [parse_site_policy(text) for text in job.texts]


def test_what_is_asked_for_next_is_done_in_another_process_and_answered_at_once(url: str, store: Store) -> None:
    replays = Replays(url, at_once=2)
    after = replace(JOB, since_us=START_US + 5_000_000)
    try:
        replays.ask(JOB, "ann", wait_s=0, ahead=[after])
        assert len(replays._children) == 2
        assert (
            finished(replays, after).spans[0]
            == _Run(after, lambda: False, lambda _: None).replay(store, policies(after)).spans[0]
        )
        assert finished(replays, JOB).state == "done"
    finally:
        replays.close()
