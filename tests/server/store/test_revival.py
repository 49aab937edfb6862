"""After an upgrade every camera goes on, also where the version before wrote states that this one cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, update

from policies.events import Event
from policies.fold import decode_state
from server.domain.burst import Burst
from server.domain.errors import Unknown
from server.domain.folding.refold import steps
from server.domain.records import Checkpoint
from server.store import Store, open_store
from server.store.compact import pack_state, unpack_state
from server.store.schema import camera_states, checkpoints, policies
from tests.server.scenes import START_US, YARD, Yard, there_and_back
from tests.stand_ins import ManualClock


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    return Yard(tmp_path / "sites", store, clock)


@pytest.fixture
def bursts(yard: Yard) -> list[Burst]:
    return yard.walked(there_and_back, 30)


def aged(url: str) -> int:
    """Make all states those of an earlier version, whose visits did not say when they were first seen; how many."""
    engine, count = create_engine(url.replace("postgresql:", "postgresql+psycopg:")), 0
    with engine.begin() as connection:
        for table in (camera_states, checkpoints):
            for (stored,) in connection.execute(select(table.c.state).distinct()).all():
                state = unpack_state(stored if isinstance(stored, bytes) else stored.encode())
                count += b'"first_us"' in state
                older: object = json.dumps(dict(_without(json.loads(state))))
                older = pack_state(str(older).encode()) if isinstance(stored, bytes) else older
                connection.execute(update(table).where(table.c.state == stored).values(state=older))
    engine.dispose()
    return count


def outdate_policies(url: str, text: str | None = None) -> None:
    """Make the stored policies of a version whose site policies had no part `other`; with another text, if given."""
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for digest, body in connection.execute(select(policies.c.policy, policies.c.body)).all():
            older = {key: value for key, value in json.loads(body).items() if key not in {"other", "version"}}
            values = {"body": json.dumps(older)} | ({} if text is None else {"text": text})
            connection.execute(update(policies).where(policies.c.policy == digest).values(values))
    engine.dispose()


def _without(state: dict[str, object]) -> Iterator[tuple[str, object]]:
    for key, value in state.items():
        if key == "tracks":
            assert isinstance(value, list)
            for track in value:
                for visit in track.get("visits", []):
                    del visit["first_us"]
        yield key, value


def told(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def refolded(store: Store) -> list[Event]:
    history = store.history("yard", "gate")
    return [event for step in steps(history, Checkpoint(None, None), store.policy) for event in step.events]


def test_a_camera_whose_state_cannot_be_read_goes_on_after_an_upgrade_as_if_it_could(
    yard: Yard, bursts: list[Burst], database_url: str
) -> None:
    for one in bursts[:6]:
        yard.pipeline.process(one)
    before = told(yard.store)
    assert aged(database_url) > 2
    yard.store.upgrade()
    assert told(yard.store) == before
    for one in bursts[6:]:
        yard.pipeline.process(one)
    assert told(yard.store) == refolded(yard.store)
    assert len(told(yard.store)) > len(before)


def test_a_late_burst_finds_checkpoints_that_can_be_read_after_an_upgrade(
    yard: Yard, bursts: list[Burst], database_url: str
) -> None:
    for one in [*bursts[:4], *bursts[5:8]]:
        yard.pipeline.process(one)
    aged(database_url)
    yard.store.upgrade()
    assert yard.pipeline.process(bursts[4]).burst.late
    assert told(yard.store) == refolded(yard.store)


def test_a_policy_that_cannot_be_read_is_read_from_its_text_under_its_digest_and_version(
    yard: Yard, bursts: list[Burst], database_url: str
) -> None:
    for one in bursts[:6]:
        yard.pipeline.process(one)
    digest, before = yard.sites.policy("yard").digest, told(yard.store)
    aged(database_url)
    outdate_policies(database_url)
    store = open_store(database_url, yard.clock)
    store.upgrade()
    found = store.policy(digest)
    assert (found.digest, found.camera("gate").digest, found.version) == (digest, digest, 1)
    upgraded = Yard(yard.folder, store, yard.clock)
    for one in [*upgraded.walked(there_and_back, 30)][6:]:
        upgraded.pipeline.process(one)
    assert told(store)[: len(before)] == before
    assert told(store) == refolded(store)
    store.close()


def test_a_camera_whose_policy_nothing_can_read_begins_anew(yard: Yard, bursts: list[Burst], database_url: str) -> None:
    for one in bursts[:6]:
        yard.pipeline.process(one)
    aged(database_url)
    outdate_policies(database_url, text='sight = "yard"')
    store = open_store(database_url, yard.clock)
    store.upgrade()
    assert store.past.last_text("yard") == 'sight = "yard"'
    another = YARD.replace('site = "yard"', 'site = "yard"\npresence = {confirm_s = 0.5}')
    upgraded = Yard(yard.folder, store, yard.clock, another)
    before = len(told(store))
    for one in [*upgraded.walked(there_and_back, 30)][6:]:
        upgraded.pipeline.process(one)
    assert len(told(store)) > before
    with pytest.raises(Unknown, match="of version 1 of the rules, cannot be read"):
        store.policy(told(store)[0].provenance.policy)
    store.close()


def test_a_state_that_can_be_read_stays_as_it_is(yard: Yard, bursts: list[Burst], database_url: str) -> None:
    for one in bursts[:6]:
        yard.pipeline.process(one)
    (before,) = yard.store.cameras()
    strange = f'{{"last_at_us": {before.last_at_us}, "seen_us": 5}}'
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(update(camera_states).values(state=strange))
    engine.dispose()
    yard.store.upgrade()
    (activity,) = yard.store.heartbeats.activities("yard")
    assert activity.seen is not None
    state = activity.seen.state
    assert state == strange
    assert decode_state(state).seen_us == 5


DAMAGED = [
    pytest.param("'{\"last_at_us\": 17'", id="cut off"),
    pytest.param("''", id="empty"),
    pytest.param("'[]'", id="of another kind"),
    pytest.param("'{\"last_at_us\": 5}'", id="of another instant"),
    pytest.param("'\U0001f4a9\t'", id="letters"),
]
BYTES = [pytest.param("CAST(x'7bff00fe' AS TEXT)", id="no text"), pytest.param("x'00ff'", id="bytes")]


def damage(url: str, table: str, value: str, where: str = "1 = 1") -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        assert connection.exec_driver_sql(f"UPDATE {table} SET state = {value} WHERE {where}").rowcount > 0
    engine.dispose()


def assert_goes_on_as_if_nothing_was_damaged(yard: Yard, bursts: list[Burst], caplog: pytest.LogCaptureFixture) -> None:
    (head,) = yard.store.cameras()
    assert decode_state(head.state).last_at_us == head.last_at_us
    (activity,) = yard.store.heartbeats.activities("yard")
    assert activity.seen == head
    for one in [*bursts[7:], bursts[6]]:
        yard.pipeline.process(one)
    assert told(yard.store) == refolded(yard.store)
    assert sum("made anew" in record.message for record in caplog.records) == 1
    assert yard.store.unreadable() == {}


@pytest.mark.parametrize("value", DAMAGED)
def test_a_damaged_state_is_made_anew_by_the_next_burst_and_logged_once(
    value: str, yard: Yard, bursts: list[Burst], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    for one in bursts[:6]:
        yard.pipeline.process(one)
    (before,) = yard.store.cameras()
    damage(database_url, "camera_states", value)
    assert yard.store.unreadable() == {("yard", "gate"): (before.last_at_us,)}
    assert yard.store.cameras() == [before]
    assert_goes_on_as_if_nothing_was_damaged(yard, bursts, caplog)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("value", BYTES)
def test_a_state_that_is_no_text_is_made_anew(
    value: str, yard: Yard, bursts: list[Burst], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    for one in bursts[:6]:
        yard.pipeline.process(one)
    damage(database_url, "camera_states", value)
    damage(database_url, "checkpoints", value, f"at_us > {START_US + 5_000_000}")
    assert_goes_on_as_if_nothing_was_damaged(yard, bursts, caplog)


@pytest.mark.parametrize("value", DAMAGED)
def test_a_late_burst_passes_over_a_damaged_checkpoint(
    value: str, yard: Yard, bursts: list[Burst], database_url: str
) -> None:
    for one in [*bursts[:4], *bursts[5:8]]:
        yard.pipeline.process(one)
    damage(database_url, "checkpoints", value, f"at_us > {START_US + 4_000_000}")
    assert yard.pipeline.process(bursts[4]).burst.late
    assert told(yard.store) == refolded(yard.store)
    assert yard.store.unreadable() == {}


def test_a_camera_all_of_whose_states_are_damaged_is_folded_from_its_last_hour(
    yard: Yard, bursts: list[Burst], database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    for one in bursts[:6]:
        yard.pipeline.process(one)
    damage(database_url, "camera_states", "'{'")
    damage(database_url, "checkpoints", "'{'")
    assert_goes_on_as_if_nothing_was_damaged(yard, bursts, caplog)


def test_a_damaged_policy_is_read_from_its_text(yard: Yard, bursts: list[Burst], database_url: str) -> None:
    for one in bursts[:6]:
        yard.pipeline.process(one)
    digest = yard.sites.policy("yard").digest
    before = yard.store.policy(digest)
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(update(policies).values(body='{"site": "yard", '))
    engine.dispose()
    store = open_store(database_url, yard.clock)
    assert store.policy(digest) == before
    store.close()
