"""The store's obligations, on every database engine: all of a turn or nothing, in order, nothing twice."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from server.domain.errors import Unknown
from server.store import Store, open_store
from server.store.schema import metadata
from tests.server.scenes import START_US, Yard, across, burst
from tests.stand_ins import ManualClock


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    return Yard(tmp_path / "sites", store, clock)


@pytest.fixture
def walked(yard: Yard) -> Yard:
    """A yard whose store holds a whole walk."""
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
    return yard


def snapshot(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Everything a store holds."""
    with store._engine.begin() as connection:
        return {
            table.name: sorted(tuple(row) for row in connection.execute(table.select()))
            for table in metadata.sorted_tables
        }


class Interrupted(Exception):
    """Stands for whatever ends a process in the middle of a turn."""


class Interruption:
    """Raises at the n-th statement sent to the store's database, counted from 1."""

    def __init__(self, store: Store, at: int) -> None:
        self._left = at
        self._engine = store._engine

    def __enter__(self) -> Interruption:
        event.listen(self._engine, "before_cursor_execute", self._count)
        event.listen(self._engine, "commit", self._count)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._count)
        event.remove(self._engine, "commit", self._count)

    def _count(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            raise Interrupted


def test_a_turn_that_is_interrupted_at_any_statement_leaves_nothing_and_can_be_done_again(yard: Yard) -> None:
    first, late, last = (yard.walk(n, across, at_s) for n, at_s in ((1, 2), (2, 6), (3, 10)))
    yard.pipeline.process(first)
    yard.pipeline.process(last)
    before = snapshot(yard.store)
    for statement in range(1, 200):
        try:
            with Interruption(yard.store, statement):
                yard.pipeline.process(late)
        except Interrupted:
            if yard.store.known(late.burst_id) is None:
                assert snapshot(yard.store) == before
                continue
            break  # interrupted after the commit, on the way to the answer
        break
    assert statement > 15, "the turn was interrupted at each of its statements"
    assert yard.pipeline.process(late).known is True
    assert yard.store.counts()["observations"] == 12


def test_turns_of_one_camera_wait_for_each_other(yard: Yard) -> None:
    entered, order = threading.Event(), []

    def first() -> None:
        with yard.store.turn("yard", "gate"):
            entered.set()
            threads[1].start()
            threads[1].join(timeout=0.3)
            order.append("first")

    def second() -> None:
        entered.wait(timeout=10)
        with yard.store.turn("yard", "gate"):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    threads[0].join(timeout=30)
    threads[1].join(timeout=30)
    assert order == ["first", "second"]


def test_what_a_turn_raises_undoes_it(yard: Yard) -> None:
    yard.pipeline.process(yard.walk(1, across, 2))
    before = snapshot(yard.store)
    entry = yard.pipeline._judge(yard.walk(2, across, 4)).entry

    def interrupted() -> None:
        with yard.store.turn("yard", "gate") as turn:
            turn.keep(entry)
            assert turn.known(entry.burst.burst_id) is not None
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert snapshot(yard.store) == before


def test_observations_come_back_bit_for_bit_and_in_order(yard: Yard) -> None:
    bursts = yard.walked(across, 8)
    entries = [yard.pipeline._judge(one).entry for one in bursts]
    for one in reversed(bursts):
        yard.pipeline.process(one)
    given = [seen for entry in entries for seen in entry.observations]
    assert list(yard.store.observations("yard", "gate")) == given
    since, until = given[3].at_us, given[9].at_us
    assert list(yard.store.observations("yard", "gate", since, until)) == given[3:9]
    assert list(yard.store.observations("yard", "door")) == []


def test_equal_instants_are_ordered_by_burst_id_byte_by_byte(yard: Yard) -> None:
    for name in ("b-burst-1", "B-burst-1", "a_burst-1", "a-burst-1"):
        yard.pipeline.process(burst(0, [yard.picture()], 0, burst_id=name))
    order = [seen.burst_id for seen in yard.store.observations("yard", "gate")]
    assert order == sorted(order)


def test_events_are_found_by_time_place_and_kind(walked: Yard) -> None:
    every = walked.store.events()
    assert [e.event.confirmed_at for e in every] == sorted(e.event.confirmed_at for e in every)
    middle = START_US + 12_000_000
    early, late = walked.store.events(until_us=middle), walked.store.events(since_us=middle)
    assert early
    assert late
    assert early + late == every
    assert {e.event.kind for e in walked.store.events(kind="left")} == {"left"}
    assert walked.store.events(site="yard", camera="gate") == every
    assert walked.store.events(camera="door") == []
    assert walked.store.events(limit=2) == every[:2]


def test_a_follower_gets_everything_once_in_the_order_it_was_said(yard: Yard) -> None:
    seen: list[int] = []
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
        seen += [logged.seq for logged in yard.store.events(after_seq=seen[-1] if seen else 0)]
    assert seen == list(range(1, yard.store.last_seq() + 1))


def test_checkpoints_stay_few(yard: Yard) -> None:
    for n in range(60):
        yard.pipeline.process(yard.walk(n, across, n * 2.0))
    assert yard.store.counts()["bursts"] == 60
    assert yard.store.counts()["checkpoints"] <= 2 * 8


def test_cameras_tell_how_far_they_have_advanced(yard: Yard) -> None:
    yard.pipeline.process(yard.walk(1, across, 2))
    (head,) = yard.store.cameras()
    assert (head.site, head.camera, head.last_at_us) == ("yard", "gate", START_US + 3_500_000)
    assert head.changed_at_us == yard.clock.now_us


def test_every_policy_version_that_judged_a_burst_is_kept_as_it_was(yard: Yard) -> None:
    yard.pipeline.process(yard.walk(1, across, 2))
    policy = yard.sites.policy("yard")
    assert open_again(yard.store).policy(policy.digest) == policy


def open_again(store: Store) -> Store:
    return open_store(store._engine.url.render_as_string(hide_password=False))


def test_an_unknown_burst_is_unknown(store: Store) -> None:
    assert store.known("burst-00001") is None
    with pytest.raises(Unknown):
        store.kept("burst-00001")
    with pytest.raises(Unknown):
        store.is_judged_alike("burst-00001", [])


def test_tokens_are_found_listed_and_revoked_for_good(store: Store, clock: ManualClock) -> None:
    assert store.has_tokens() is False
    made = store.add_token("0a1b", "gate", "yard", "gate", "hash")
    clock.advance(1)
    store.add_token("2c3d", "all", "yard", None, "hash")
    assert store.token("0a1b") == made
    assert store.token("none") is None
    assert [token.id for token in store.list_tokens()] == ["0a1b", "2c3d"]
    clock.advance(1)
    store.revoke_token("0a1b")
    revoked = store.token("0a1b")
    clock.advance(1)
    store.revoke_token("0a1b")
    assert revoked is not None
    assert (revoked.is_valid, revoked.revoked_at_us) == (False, clock.now_us - 1_000_000)
    assert store.token("0a1b") == revoked
    with pytest.raises(Unknown):
        store.revoke_token("none")
    assert store.has_tokens() is True
