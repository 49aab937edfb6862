"""A server says by which site policies it judges, and warns when other servers on the database judge by others."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from server.app.same_sites import SameSites
from server.domain.fleet import DATABASE, ROLLED_OUT_S, SitesSource
from server.serving.membership import Membership
from server.store import Store
from tests.server.ray_serving.test_tally import Seconds

FOLDER, STORED = SitesSource("/etc/sites", "1" * 64), SitesSource(DATABASE, "")
Judging = dict[str, SitesSource]


@pytest.fixture
def judging() -> Judging:
    """What two servers judge by; a test may change it."""
    return {"one": FOLDER, "two": FOLDER}


@pytest.fixture
def look(store: Store, judging: Judging) -> Callable[[float], SameSites]:
    """Both servers look after so many seconds; what the first one found."""
    seconds = Seconds()
    members = [Membership(store.fleet, name, ("a",)) for name in judging]
    all_sites = [
        SameSites(lambda name=each.name: judging[name], each.judges_by, each.standing, seconds)  # type: ignore[misc]
        for each in members
    ]
    for each in members:
        each.join()

    def look(after_s: float) -> SameSites:
        seconds.now += after_s
        for member, sites in zip(members, all_sites, strict=True):
            sites.look()
            member.beat()
        all_sites[0].look()
        return all_sites[0]

    return look


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [each for each in caplog.records if each.name == "server.app.same_sites"]
    return [f"{each.getMessage()}: {each.__dict__.get('what')}" for each in records]


def test_what_differs_for_three_minutes_is_logged_once_however_often_a_file_changes_and_so_is_its_end(
    look: Callable[[float], SameSites], judging: Judging, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert not look(0).differ
    for number in range(5):
        judging["two"] = SitesSource("/etc/sites", str(5 + number) * 64)
        found = look(ROLLED_OUT_S / 4)
        assert found.differ == (number == 4)
    assert look(1000).differ
    of_one, of_two = said(caplog)
    begins = "servers judge by different site policies: one by the folder /etc/sites (digest 11111111); two by"
    assert of_one.startswith(begins)
    assert of_two.startswith(begins)
    judging["two"] = FOLDER
    assert not look(1).differ
    assert said(caplog)[-1].startswith("all servers judge by the same site policies again")


def test_files_that_reach_one_server_after_the_other_are_no_alarm(
    look: Callable[[float], SameSites], judging: Judging, caplog: pytest.LogCaptureFixture
) -> None:
    for name, digest in (("one", "2"), ("two", "2"), ("two", "3"), ("one", "3")):
        judging[name] = SitesSource("/etc/sites", digest * 64)
        assert not look(ROLLED_OUT_S - 1).differ
    assert said(caplog) == []


def test_a_server_whose_row_was_taken_for_that_of_a_dead_one_says_it_again(
    look: Callable[[float], SameSites], judging: Judging, store: Store
) -> None:
    look(0)
    [first, second] = store.fleet.standing().replicas
    store.fleet.leave(second.name, second.run)
    judging["one"] = STORED
    look(0)
    assert [each.judges_by for each in store.fleet.standing().replicas] == [STORED, FOLDER]
    assert first.judges_by == FOLDER
