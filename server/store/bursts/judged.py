"""Decision records: made again of the stored answers, and the seals by which a change is noticed."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection

from policies.fusion.judge import judge
from policies.fusion.judgement import Judgement
from server.domain.records import Recorded
from server.store.bursts.old_form import read_old_decisions
from server.store.bursts.packing import seal_of
from server.store.bursts.records import Record, named_damage, read_record, unpacked
from server.store.rows import Versions, encoded

_judgements = msgspec.json.Decoder(list[Judgement])


def judgements_of(
    connection: Connection, versions: Versions, row: Record, frames: Iterable[Recorded]
) -> list[Judgement]:
    """The decision record of a burst, the judgement of each of its frames, by the policy in force at its acceptance.

    A record holds only the seal of it, where the stored answers give it again.
    """
    with named_damage(row.number):
        stored = unpacked(row).decision_record()
    if stored is not None:
        return stored
    return _judgements.decode(encoded(judged_again(connection, versions, frames)))  # votes in the order of a stored one


def read_seal(connection: Connection, burst_id: str) -> bytes | None:
    """The seal of the decision record that was made when the burst was accepted; None for an unknown burst."""
    row = read_record(connection, burst_id)
    if row is not None:
        return unpacked(row).judged
    stored = read_old_decisions(connection, burst_id)
    return None if stored is None else seal_of(stored)


def judged_again(connection: Connection, versions: Versions, frames: Iterable[Recorded]) -> list[Judgement]:
    """The judgements of frames, by the policies under which they were accepted and this version's rules."""
    return [
        judge(versions.policy(connection, each.policy).camera(each.observation.camera), each.observation)
        for each in frames
    ]
