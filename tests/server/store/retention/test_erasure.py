"""An erasure takes a stretch away and leaves an exact rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from policies.events import microseconds
from server.analysis.annotations import annotation_of
from server.analysis.verify import verify
from server.domain.errors import Unprocessable
from server.domain.keeping import Erasure, Keep
from server.store import open_store
from server.store.retention import erasure
from tests.server.scenes import START_US, Yard, across, there_and_back
from tests.server.store.retention.yards import SECOND, first_s, log, replayed, walks
from tests.server.store.test_store import Interrupted, Interruption
from tests.stand_ins import ManualClock


def test_an_erasure_leaves_an_exact_rest_and_a_note(yard: Yard) -> None:
    before = log(yard.store)
    done = erase(yard, 8.2, 13.9)
    assert (done.author, done.note, done.bursts) == ("Ada", "asked by letter", 3)
    assert done.finished_at_us is not None
    assert yard.store.retention.erasures() == [done]
    left = [event for event in before if not done.covers(event)]
    assert len(before) - len(left) == done.events > 0
    assert log(yard.store) == left
    gone = yard.store.retention.gone("yard", "gate")
    assert [event for event in replayed(yard) if not gone.is_event_gone(event)] == left
    seen = [(each.at_us - START_US) / SECOND for each in yard.store.observations("yard", "gate")]
    assert not [at for at in seen if 8 <= at < 14]


def test_an_erasure_that_is_interrupted_at_any_statement_is_in_the_audit_and_finished_by_the_next_sweep(
    yard: Yard,
) -> None:
    before, statement, begun, is_done = log(yard.store), 0, 0, False
    while not is_done:
        statement += 3
        try:
            with Interruption(yard.store, statement):
                if yard.store.retention.erasures():
                    yard.store.retention.sweep(lambda _site: Keep())
                else:
                    erase(yard, 8.2, 13.9)
            is_done = True
        except Interrupted:
            noted = [f"erasure {asked.number}, by Ada" for asked in yard.store.retention.erasures()]
            assert [line.detail for line in yard.store.audit.page()] == noted
            for asked in yard.store.retention.erasures():
                begun += 1
                gone = yard.store.retention.gone("yard", "gate")
                assert [e for e in replayed(yard) if not gone.is_event_gone(e)] == [
                    e for e in before if not asked.covers(e)
                ]
    assert begun > 5
    [done] = yard.store.retention.erasures()
    assert done.finished_at_us is not None
    assert log(yard.store) == [event for event in before if not done.covers(event)]
    seen = [(each.at_us - START_US) / SECOND for each in yard.store.observations("yard", "gate")]
    assert not [at for at in seen if 8 <= at < 14]


def test_bursts_of_an_erased_time_are_refused_also_when_they_are_sent_again(yard: Yard) -> None:
    erase(yard, 8.2, 13.9)
    for again in (yard.walk(5, across, 10), yard.walk(999, across, 11)):
        with pytest.raises(Unprocessable, match="erased on request"):
            yard.pipeline.process(again)


def test_intake_goes_on_between_the_slices_of_an_erasure_and_its_log_is_that_of_a_clean_run(
    yard: Yard, tmp_path: Path, new_sqlite: Callable[[], str]
) -> None:
    clean = Yard(tmp_path / "clean", open_store(new_sqlite(), yard.clock), yard.clock)
    for one in walks(clean):
        clean.pipeline.process(one)
    more = [lambda each, n=n: each.walk(200 + n, lambda t: there_and_back(t - 92), 92 + 2 * n) for n in range(14)]
    engine, versions = yard.store._engine, yard.store._versions
    asked = erasure.ask(
        engine,
        versions,
        yard.clock,
        yard.store.frames,
        "yard",
        "gate",
        _at(62),
        _at(91.9),
        author="Ada",
        note=None,
        keeps_annotated=False,
    )
    for _ in erasure.finish(engine, versions, yard.clock, yard.store.frames, asked):
        if more:
            next_burst = more.pop(0)
            yard.pipeline.process(next_burst(yard))
            clean.pipeline.process(next_burst(clean))
    assert len(more) < 10
    for next_burst in more:
        yard.pipeline.process(next_burst(yard))
        clean.pipeline.process(next_burst(clean))
    assert log(yard.store) == [event for event in log(clean.store) if not asked.covers(event)]
    assert yard.store.cameras()[0].state == clean.store.cameras()[0].state


def test_an_erasure_takes_annotated_events_and_their_annotations_unless_they_are_to_stay(yard: Yard) -> None:
    subject = next(e for e in log(yard.store) if START_US + 6 * SECOND < microseconds(e.confirmed_at) < _at(13))
    yard.store.annotations.add([annotation_of(yard.store, subject.id, "true", "Ada")])
    kept = erase(yard, 0, 59, keeps_annotated=True)
    assert [event for event in log(yard.store) if kept.covers(event)] == [subject]
    assert len(yard.store.annotations.all()) == 1
    [record] = yard.store.past.events_like(subject.id)
    assert [check for check in verify(yard.store, record) if not check.holds] == []
    erase(yard, 0, 59)
    assert [event for event in log(yard.store) if kept.covers(event)] == []
    assert yard.store.annotations.all() == []
    assert first_s(yard.store) >= 59


def test_an_erasure_of_the_newest_frames_leaves_a_camera_that_goes_on(yard: Yard) -> None:
    erase(yard, 80.1, 95)
    assert yard.pipeline.process(yard.walk(900, across, 95)).known is False
    assert replayed(yard) == log(yard.store)


def test_a_stretch_that_is_not_over_is_not_erased(yard: Yard) -> None:
    with pytest.raises(Unprocessable, match="in the past"):
        erase(yard, 0, 7200)


def test_nothing_of_what_was_erased_is_left_in_the_file(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    url = new_sqlite()
    yard = Yard(tmp_path / "sites", open_store(url, clock), clock)
    for one in walks(yard):
        yard.pipeline.process(one)
    hashes = [one.frames[0].sha256 for one in walks(yard)]
    files = [Path(url.removeprefix("sqlite:///") + end) for end in ("", "-wal")]

    def found(sha256: str) -> bool:
        return any(bytes.fromhex(sha256) in file.read_bytes() for file in files if file.exists())

    assert found(hashes[5])
    erase(yard, 8.2, 13.9)
    assert not found(hashes[5])
    assert found(hashes[20])


def erase(yard: Yard, since_s: float, until_s: float, *, keeps_annotated: bool = False) -> Erasure:
    return yard.store.retention.erase(
        "yard",
        "gate",
        _at(since_s),
        _at(until_s),
        author="Ada",
        note="asked by letter",
        keeps_annotated=keeps_annotated,
        by="command line",
    )


def _at(at_s: float) -> int:
    return START_US + round(at_s * SECOND)
