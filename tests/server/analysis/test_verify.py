"""An event can be recomputed from its votes, and whoever changes a row behind it is noticed."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from click.testing import Result
from msgspec.structs import replace
from sqlalchemy import text

from policies.site.site_policy import RULES_VERSION, digest_of_stored
from server.analysis.verify import Check, verify
from server.domain.records import EventRecord, LoggedEvent
from server.store.bursts.packing import Packed, split_id, unpack
from tests.server.old_events import unpack_bodies
from tests.server.scenes import Yard, there_and_back


def event(yard: Yard, kind: str = "moved") -> LoggedEvent:
    return next(e for e in yard.store.events() if e.event.kind == kind)


def record(yard: Yard, event_id: str) -> EventRecord:
    [kept] = yard.store.past.events_like(event_id)
    return kept


def failing(yard: Yard, logged: LoggedEvent, *, from_start: bool = True) -> list[str]:
    checks = verify(yard.store, record(yard, logged.event.id), from_start=from_start)
    return [check.what.split(" burst-")[0] for check in checks if not check.holds]


def alter(yard: Yard, statement: str, **values: object) -> None:
    """Change stored rows behind the store's back, as someone with the database's file could."""
    with yard.store._engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        done = connection.execute(text(statement), values)
        assert done.rowcount == 1, "one row was tampered with"
        connection.commit()
    yard.store._versions.__init__()  # type: ignore[misc]  # forget what was read before


def alter_record(yard: Yard, burst_id: str, change: Callable[[Packed], Packed]) -> None:
    """Change a burst's record behind the store's back."""
    query = text("SELECT record FROM burst_records WHERE id_key = :key")
    with yard.store._engine.connect() as connection:
        record = connection.execute(query, {"key": split_id(burst_id)[0]}).scalar_one()
    changed = msgspec.msgpack.encode(change(unpack(record)))
    assert changed != record
    statement = "UPDATE burst_records SET record = :record WHERE id_key = :key"
    alter(yard, statement, record=changed, key=split_id(burst_id)[0])


def with_answers(change: Callable[[list[Any]], None]) -> Callable[[Packed], Packed]:
    """A change of the answers of a record's frames."""

    def changed(packed: Packed) -> Packed:
        answers = msgspec.json.decode(msgspec.json.encode(packed.answers(["eye"])))
        change(answers)
        rest = zlib.compressobj(wbits=-15)
        return replace(packed, columns=None, rest=rest.compress(msgspec.json.encode(answers)) + rest.flush())

    return changed


def lower_a_score(answers: list[Any]) -> None:
    next(frame for frame in answers if frame["eye"])["eye"][0]["score"] = 0.1


@pytest.mark.parametrize("from_start", [False, True])
def test_every_event_of_an_honest_log_is_verified(yard: Yard, from_start: bool) -> None:
    logged_events = yard.store.events()
    assert len(logged_events) > 5
    for logged in logged_events:
        assert failing(yard, logged, from_start=from_start) == []


def test_an_event_that_a_late_burst_disproved_is_verified_as_withdrawn(yard: Yard) -> None:
    bursts = [yard.walk(100 + n, there_and_back, 40 + n * 2) for n in range(14)]
    for each in [*bursts[:3], *bursts[6:], *bursts[3:6]]:
        yard.pipeline.process(each)
    withdrawn = [e for e in yard.store.events(withdrawn=True) if e.is_withdrawn]
    for logged in withdrawn:
        assert failing(yard, logged) == []
    for logged in yard.store.events():
        assert failing(yard, logged) == []


def test_an_altered_event_is_noticed(yard: Yard) -> None:
    logged = event(yard)
    unpack_bodies(yard.store)
    body = msgspec.json.encode(replace(logged.event, direction="up"), order="deterministic")
    alter(yard, "UPDATE events SET body = :body WHERE id = :id", body=body, id=bytes.fromhex(logged.event.id))
    assert failing(yard, event(yard)) == ["recomputed from its votes"]


@pytest.mark.parametrize("column", ["camera", "burst", "before", "origin"])
def test_an_altered_reference_of_the_log_is_noticed(yard: Yard, column: str) -> None:
    logged = event(yard, "entered")
    alter_all(
        yard,
        [
            "INSERT INTO cameras (number, site, camera, longest_us) VALUES (9, 'yard', 'other', 0)",
            "INSERT INTO origins (number, body, kind) "
            "SELECT 99, replace(body, 'person', 'ghost'), kind FROM origins LIMIT 1",
        ],
    )
    number = "burst - 1" if column in ("burst", "before") else "9" if column == "camera" else "99"
    alter(yard, f"UPDATE events SET {column} = {number} WHERE id = :id", id=bytes.fromhex(logged.event.id))
    assert "log row" in failing(yard, logged)


@pytest.mark.parametrize("column", ["kind", "label", "sector"])
def test_an_altered_column_beside_the_body_of_before_is_noticed(yard: Yard, column: str) -> None:
    logged = event(yard, "entered")
    unpack_bodies(yard.store)
    alter(yard, f"UPDATE events SET {column} = 'other' WHERE id = :id", id=bytes.fromhex(logged.event.id))
    assert failing(yard, logged) == ["log row"]


@pytest.mark.parametrize(
    "change", ["started_at_us = started_at_us + 1", "confirmed_at_us = confirmed_at_us + 1", "burst_id = zeroblob(16)"]
)
def test_an_altered_instant_or_burst_of_the_log_is_noticed(yard: Yard, change: str) -> None:
    logged = event(yard, "entered")
    alter(yard, f"UPDATE events SET {change} WHERE id = :id", id=bytes.fromhex(logged.event.id))
    assert "log row" in failing(yard, logged)


def test_an_altered_origin_of_events_is_noticed(yard: Yard) -> None:
    logged = event(yard)
    alter_all(yard, ["UPDATE origins SET body = replace(body, 'ensemble-1', 'ensemble-2')"])
    assert "log row" in failing(yard, logged)


def test_a_withdrawal_by_hand_is_noticed(yard: Yard) -> None:
    logged = event(yard)
    alter(yard, "UPDATE events SET withdrawn_at_us = 1 WHERE id = :id", id=bytes.fromhex(logged.event.id))
    assert failing(yard, logged) == ["recomputed from its votes"]


def test_an_altered_vote_is_noticed(yard: Yard) -> None:
    logged = event(yard)
    alter_record(yard, logged.event.provenance.burst_ids[-1], with_answers(lower_a_score))
    assert "decision record of" in failing(yard, logged)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda packed: replace(packed, hashes=b"\1" * len(packed.hashes)), "burst"),
        (lambda packed: replace(packed, steps=(1000, 499, [])), "burst"),
        (lambda packed: replace(packed, columns=None, rest=b"{"), "burst"),
        (with_answers(lambda answers: answers[0].clear()), "ensemble of"),
        (lambda packed: replace(packed, hashes=packed.hashes[32:]), "burst"),
        (lambda packed: replace(packed, digest=b"12345678"), "burst"),
    ],
)
def test_an_altered_record_is_noticed(yard: Yard, change: Callable[[Packed], Packed], fault: str) -> None:
    logged = event(yard)
    alter_record(yard, logged.event.provenance.burst_ids[0], change)
    assert any(what.startswith(fault) for what in failing(yard, logged))


def test_an_altered_hash_of_the_evidence_is_noticed(yard: Yard) -> None:
    logged = event(yard)
    for burst_id in set(logged.event.provenance.burst_ids):
        alter_record(yard, burst_id, lambda packed: replace(packed, hashes=bytes(len(packed.hashes))))
    assert {"burst", "log"} <= {what.split(" ")[0] for what in failing(yard, logged)}


def test_a_panel_that_is_not_stored_is_noticed(ask: Callable[..., Result], yard: Yard) -> None:
    logged = event(yard)
    alter(yard, "DELETE FROM panels")
    assert {"ensemble of", "recomputed from its votes"} <= set(failing(yard, logged))
    result = ask("verify", logged.event.id)
    assert result.exit_code == 1
    assert "no description of ensemble ensemble-1 is stored" in result.stdout


@pytest.mark.parametrize("change", ["first_at_us = first_at_us - 1", "lasts_us = lasts_us + 1"])
def test_an_altered_stretch_of_a_burst_is_noticed(yard: Yard, change: str) -> None:
    logged = event(yard)
    key = split_id(logged.event.provenance.burst_ids[-1])[0]
    alter(yard, f"UPDATE burst_records SET {change} WHERE id_key = :key", key=key)
    assert "burst" in failing(yard, logged)


def test_a_missing_burst_is_noticed(yard: Yard) -> None:
    logged = event(yard)
    alter(yard, "DELETE FROM burst_records WHERE id_key = :key", key=split_id(logged.event.provenance.burst_ids[-1])[0])
    assert failing(yard, logged) != []


@pytest.mark.parametrize(
    "change",
    [
        "text = replace(text, '0.5', '0.6')",
        "text = 'site ='",
        "body = replace(body, '0.5', '0.6')",
        'body = replace(body, \'"digest":"\', \'"digest":"0\')',
        "policy = 'other'",
    ],
)
def test_an_altered_policy_is_noticed(yard: Yard, change: str) -> None:
    logged = event(yard)
    alter(yard, f"UPDATE policies SET {change}")
    assert any(what.startswith("policy") for what in failing(yard, logged))


def aged(yard: Yard) -> LoggedEvent:
    """An event as the first version of the rules would have left it: under a policy with a digest of that version."""
    logged = event(yard)
    unpack_bodies(yard.store)
    new, kept = logged.event.provenance.policy, yard.store.past.policy(logged.event.provenance.policy)
    assert kept is not None
    body = kept.body.replace(f'"version":{RULES_VERSION}', '"version":1')
    old = digest_of_stored(body)
    tables = ("policies", "contexts", "camera_states")
    alter_all(yard, [f"UPDATE policies SET body = :body WHERE policy = '{new}'"], body=body)
    alter_all(yard, ["UPDATE contexts SET digest = 'of other columns'"])
    columns = {"policies": ("policy", "body")}
    alter_all(
        yard,
        [f"UPDATE {t} SET {c} = replace({c}, '{new}', '{old}')" for t in tables for c in columns.get(t, ("policy",))],
    )
    alter_all(yard, [f"UPDATE events SET body = CAST(replace(body, '{new}', '{old}') AS BLOB)"])
    return event(yard)


def alter_all(yard: Yard, statements: list[str], **values: object) -> None:
    with yard.store._engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        for statement in statements:
            connection.execute(text(statement), values)
        connection.commit()
    yard.store._versions.__init__()  # type: ignore[misc]


def older(yard: Yard, logged: LoggedEvent) -> list[str]:
    checks = verify(yard.store, record(yard, logged.event.id), from_start=True)
    return [check.what.split(" ")[0] for check in checks if check.is_older]


def test_an_event_made_under_older_rules_is_told_from_one_that_was_tampered_with(
    ask: Callable[..., Result], yard: Yard
) -> None:
    logged = aged(yard)
    assert set(older(yard, logged)) == {"policy", "recomputed"}, "its id holds its policy's digest"
    result = ask("verify", logged.event.id)
    assert (result.exit_code, "made under version 1 of the rules" in result.stdout) == (3, True), result.output
    assert "FAIL" not in result.stdout


def test_replay_tells_what_only_other_rules_made_otherwise_from_what_differs(
    ask: Callable[..., Result], yard: Yard
) -> None:
    logged = aged(yard)
    result = ask("replay", "--check")
    assert result.exit_code == 3
    count = len(result.stdout.splitlines())
    assert f"{count} of them were made under another version of the rules" in result.stderr
    yard.pipeline.process(yard.walk(200, lambda _: 0.2, 200, frames=8))
    new = next(e.event.id for e in yard.store.events() if e.event.provenance.policy != logged.event.provenance.policy)
    unpack_bodies(yard.store)
    alter(
        yard,
        "UPDATE events SET body = CAST(replace(body, 'west', 'east') AS BLOB) WHERE id = :id",
        id=bytes.fromhex(new),
    )
    assert ask("replay", "--check").exit_code == 1


def test_replay_excuses_what_follows_from_other_rules_until_nobody_is_in_view(
    ask: Callable[..., Result], yard: Yard
) -> None:
    yard.pipeline.process(yard.walk(90, lambda t: round(0.1 + (t - 90) * 0.03, 4), 90, frames=8))
    older_policy = aged(yard).event.provenance.policy
    yard.pipeline.process(yard.walk(94, lambda t: round(0.1 + (t - 90) * 0.03, 4) if t < 96 else None, 94, frames=40))
    yard.pipeline.process(yard.walk(200, lambda _: 0.2, 200, frames=8))
    unpack_bodies(yard.store)
    move_east = "UPDATE events SET body = CAST(replace(CAST(body AS TEXT), 'west', 'east') AS BLOB) WHERE id = :id"
    followed, later = (
        e.event
        for e in yard.store.events()
        if e.event.provenance.policy != older_policy
        and e.event.sector == "west"
        and e.event.kind in ("left", "entered")
    )
    alter(yard, move_east, id=bytes.fromhex(followed.id))
    assert ask("replay", "--check").exit_code == 3
    alter(yard, move_east, id=bytes.fromhex(later.id))
    assert ask("replay", "--check").exit_code == 1


def test_older_rules_excuse_no_altered_evidence(ask: Callable[..., Result], yard: Yard) -> None:
    logged = aged(yard)
    burst_id = logged.event.provenance.burst_ids[0]
    alter_record(yard, burst_id, lambda packed: replace(packed, hashes=bytes(len(packed.hashes))))
    assert ask("verify", logged.event.id).exit_code == 1


def test_a_policy_cannot_be_made_to_look_older(yard: Yard) -> None:
    logged = event(yard)
    kept = yard.store.past.policy(logged.event.provenance.policy)
    assert kept is not None
    older_body = kept.body.replace(f'"version":{RULES_VERSION}', '"version":1')
    alter(yard, "UPDATE policies SET body = :body", body=older_body)
    assert any(what.startswith("policy") for what in failing(yard, logged))
    assert "policy" not in older(yard, logged)


def test_a_decision_that_older_rules_made_otherwise_is_told_apart(yard: Yard) -> None:
    logged = aged(yard)
    burst_id = logged.event.provenance.burst_ids[-1]
    alter_record(yard, burst_id, lambda packed: replace(packed, judged=b"12345678"))
    assert "decision" in older(yard, logged)


@pytest.mark.parametrize(
    "change", ["body = replace(body, 'ensemble-1', 'ensemble-2')", "body = replace(body, '\"eye\"', '\"ear\"')"]
)
def test_an_altered_panel_is_noticed(yard: Yard, change: str) -> None:
    logged = event(yard)
    alter(yard, f"UPDATE panels SET {change}")
    assert any(what.startswith("ensemble of") for what in failing(yard, logged))


def test_an_altered_decision_record_is_noticed(yard: Yard) -> None:
    logged = event(yard)
    burst_id = logged.event.provenance.burst_ids[-1]
    alter_record(yard, burst_id, lambda packed: replace(packed, judged=b"12345678"))
    assert failing(yard, logged) == ["decision record of"]


def test_an_altered_checkpoint_is_noticed_and_a_fold_from_the_start_does_not_need_it(yard: Yard) -> None:
    logged = event(yard, "left")
    before_us = record(yard, logged.event.id).started_at_us
    used = yard.store.checkpoint("yard", "gate", before_us - 2_000_000)
    assert used.at_us is not None
    empty = f'{{"last_at_us":{used.at_us}}}'
    alter(yard, "UPDATE checkpoints SET state = :state WHERE at_us = :at", state=empty, at=used.at_us)
    broken = [
        logged
        for logged in yard.store.events()
        if failing(yard, logged, from_start=False) == ["recomputed from its votes"]
    ]
    assert broken
    assert [failing(yard, logged) for logged in broken] == [[]] * len(broken)


def test_verify_prints_each_check_and_takes_the_beginning_of_an_id(ask: Callable[..., Result], yard: Yard) -> None:
    logged = event(yard)
    result = ask("verify", logged.event.id[:10])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].endswith(f"  {logged.event.id[:8]}")
    assert all(line.startswith("  ok   ") for line in lines[1:-1])
    assert lines[-1] == f"all {len(lines) - 2} checks hold"


def test_verify_exits_with_1_when_a_check_fails(ask: Callable[..., Result], yard: Yard) -> None:
    logged = event(yard)
    unpack_bodies(yard.store)
    alter(yard, "UPDATE events SET label = 'ghost' WHERE id = :id", id=bytes.fromhex(logged.event.id))
    result = ask("verify", logged.event.id)
    assert (result.exit_code, "FAIL log row: label is ghost, not person" in result.stdout) == (1, True)
    wire = msgspec.json.decode(ask("verify", logged.event.id, "--json").stdout)
    assert not wire["holds"]
    assert [c["what"] for c in wire["checks"] if not c["holds"]] == ["log row"]


def test_an_event_that_is_not_there_or_not_the_only_one_is_told(ask: Callable[..., Result]) -> None:
    assert "no event zzz" in ask("verify", "zzz").stderr
    assert "several events begin with" in ask("verify", "").stderr


def test_a_check_says_what_it_found(yard: Yard) -> None:
    checks = list(verify(yard.store, record(yard, event(yard).event.id)))
    assert all(isinstance(check, Check) and check.finding for check in checks)
    assert checks[-1].finding.endswith("give it, bit for bit")
