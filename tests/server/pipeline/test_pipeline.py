"""One burst is judged once; the log that many make does not depend on the order or the number of their coming."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from policies.events import Event
from server.delivery.dispatcher import Dispatcher
from server.delivery.lines import text_line
from server.domain.burst import Burst
from server.domain.errors import Unprocessable
from server.domain.folding.refold import steps
from server.domain.records import LoggedEvent
from server.pipeline.advancing import Advancing
from server.store import Store, open_store
from tests.server.scenes import EYE, START_US, YARD, Yard, across, burst, person_at, there_and_back
from tests.stand_ins import ManualClock, RecordingChannel

FAR = "polygon = [[0.4, 0.25], [0.6, 0.25], [0.6, 0.35], [0.4, 0.35]]\nenlarge = true\n"


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> Yard:
    return Yard(tmp_path / "sites", store, clock)


def told(store: Store) -> list[Event]:
    return [logged.event for logged in store.events()]


def said(store: Store) -> list[LoggedEvent]:
    """Everything as it was last said, withdrawals included, in the order of saying."""
    return store.events(after_seq=0)


def in_order(yard: Yard, bursts: Sequence[Burst], new_sqlite: Callable[[], str]) -> list[Event]:
    """The log of one clean run on a database of its own."""
    store = open_store(new_sqlite(), yard.clock)
    clean = Yard(yard.folder, store, yard.clock, (yard.folder / "yard.toml").read_text())
    clean.ensemble = yard.ensemble
    clean.pipeline._ensemble = yard.ensemble
    for one in sorted(bursts, key=lambda b: b.frames[0].at_us):
        clean.pipeline.process(one)
    events = told(store)
    store.close()
    return events


def test_a_walk_across_the_yard_becomes_its_events(yard: Yard) -> None:
    for one in yard.walked(across, 26):
        yard.pipeline.process(one)
    places = [(e.kind, e.sector or e.line or e.to_sector) for e in told(yard.store)]
    assert sorted(set(places)) == sorted(places), "nothing is told twice"
    assert set(places) == {
        ("entered", "west"),
        ("presence_started", "west"),
        ("left", "west"),
        ("presence_ended", "west"),
        ("crossed", "middle"),
        ("entered", "east"),
        ("moved", "east"),
        ("presence_started", "east"),
        ("left", "east"),
        ("presence_ended", "east"),
    }
    assert not any(logged.late for logged in yard.store.events())


def test_the_answer_holds_labels_observations_events_and_what_made_them(yard: Yard) -> None:
    image = yard.picture(0.25)
    receipt = yard.pipeline.process(burst(1, [image, yard.picture()], 0))
    wire = msgspec.json.decode(msgspec.json.encode(receipt.as_wire()))
    assert receipt.known is False
    assert wire["burst_id"] == "burst-00001"
    assert wire["status"] == "folded"
    assert wire["labels"] == {"eye": ["person", "nothing"]}
    assert wire["votes"] == {"eye": [["person"], []]}
    assert [seen["frame"] for seen in wire["observations"]] == [0, 1]
    assert wire["observations"][0]["answers"] == {
        "eye": [{"label": "person", "score": 0.9, "box": [0.22, 0.6, 0.28, 0.8]}]
    }
    assert wire["events"] == []
    assert wire["ensemble"] == "ensemble-1"
    assert wire["policy"] == yard.sites.policy("yard").digest


def test_the_answer_names_the_events_that_this_burst_settled(yard: Yard) -> None:
    answers = [yard.pipeline.process(one).as_wire() for one in yard.walked(across, 26)]
    ids = [event["id"] for answer in answers for event in answer["events"]]
    assert ids == [event.id for event in told(yard.store)]
    assert all(event["late"] is False for answer in answers for event in answer["events"])


def test_a_burst_sent_again_gets_the_same_answer_and_changes_nothing(yard: Yard) -> None:
    bursts = yard.walked(across, 26)
    first = [yard.pipeline.process(one) for one in bursts]
    counts, calls = yard.store.counts(), len(yard.ensemble.asked)
    again = [yard.pipeline.process(one) for one in bursts]
    assert [receipt.known for receipt in again] == [True] * len(bursts)
    assert [receipt.as_wire() for receipt in again] == [receipt.as_wire() for receipt in first]
    assert yard.store.counts() == counts
    assert len(yard.ensemble.asked) == calls, "the models are not asked about what is known"


def test_two_senders_of_one_burst_at_once_make_one_set_of_observations(yard: Yard) -> None:
    one = yard.walk(1, across, 4)
    yard.ensemble.gate = threading.Barrier(2)
    with ThreadPoolExecutor(2) as senders:
        receipts = list(senders.map(yard.pipeline.process, [one, one]))
    assert sorted(receipt.known for receipt in receipts) == [False, True]
    assert receipts[0].as_wire() == receipts[1].as_wire()
    assert yard.store.counts()["bursts"] == 1
    assert yard.store.counts()["observations"] == 4


def test_many_senders_at_once_give_the_log_of_a_clean_run(yard: Yard, new_sqlite: Callable[[], str]) -> None:
    bursts = yard.walked(across, 26)
    with ThreadPoolExecutor(4) as senders:
        list(senders.map(yard.pipeline.process, [*bursts, *reversed(bursts)]))
    assert told(yard.store) == in_order(yard, bursts, new_sqlite)


def test_a_burst_id_that_comes_with_other_frames_is_refused_and_changes_nothing(yard: Yard) -> None:
    yard.pipeline.process(burst(1, [yard.picture(0.2)], 0))
    counts = yard.store.counts()
    with pytest.raises(Unprocessable, match="burst-00001 was already used"):
        yard.pipeline.process(burst(1, [yard.picture(0.3)], 0))
    assert yard.store.counts() == counts


def test_one_burst_id_from_two_cameras_at_once_is_kept_for_one_of_them(yard: Yard) -> None:
    yard.ensemble.gate = threading.Barrier(2)
    image = yard.picture(0.2)
    both = [burst(1, [image], 0, camera=camera) for camera in ("gate", "door")]

    def outcome(one: Burst) -> str:
        try:
            return str(yard.pipeline.process(one).known)
        except Unprocessable as error:
            return error.detail

    with ThreadPoolExecutor(2) as senders:
        outcomes = sorted(senders.map(outcome, both))
    assert outcomes == ["False", "burst_id burst-00001 was already used for another burst"]
    assert yard.store.counts()["observations"] == 1


def test_an_image_that_cannot_be_decoded_is_named_and_nothing_is_stored(yard: Yard) -> None:
    broken = yard.ensemble.break_(b"half a picture")
    with pytest.raises(Unprocessable) as caught:
        yard.pipeline.process(burst(1, [yard.picture(0.2), broken], 0))
    assert caught.value.frame == 1
    assert {rows for table, rows in yard.store.counts().items() if table != "counters"} == {0}


def test_a_model_that_did_not_answer_stays_unanswered_in_the_answer_and_the_past(yard: Yard) -> None:
    image = yard.ensemble.teach(b"a picture", {"eye": None})
    wire = yard.pipeline.process(burst(1, [image], 0)).as_wire()
    assert wire["labels"] == {"eye": [""]}
    assert [seen.answers for seen in yard.store.observations("yard", "gate")] == [{"eye": None}]


def test_a_camera_that_sends_the_same_few_frames_in_turn_is_told_in_the_log_once_and_so_is_its_return(
    yard: Yard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "server.pipeline.pipeline")
    loop = [f"one of eight {number}".encode() for number in range(8)]
    for number in range(4):
        yard.pipeline.process(burst(number, loop, number * 4))
    yard.pipeline.process(burst(9, [b"another"], 20))
    said = [(record.getMessage(), record.__dict__["burst"]) for record in caplog.records]
    assert said == [("frames tell nothing", "burst-00001"), ("frames tell something again", "burst-00009")]
    assert "the very bytes of earlier ones" in caplog.records[0].__dict__["cause"]


def test_the_ensemble_is_asked_about_the_sectors_of_the_camera(yard: Yard) -> None:
    yard.pipeline.process(burst(1, [yard.picture(0.2)], 0))
    assert yard.ensemble.crops == [{"west": (0, 0, 0.5, 1), "east": (0.5, 0, 1, 1)}]


def test_the_ensemble_is_asked_about_the_sectors_that_are_enlarged_and_a_repeat_asks_nothing(yard: Yard) -> None:
    policy = yard.folder / "yard.toml"
    policy.write_text(f"{policy.read_text()}[cameras.gate.sectors.far]\n{FAR}", encoding="utf-8")
    sent = burst(1, [yard.picture(0.2)], 0)
    assert yard.pipeline.enlarged_images(sent) == 1
    yard.pipeline.process(sent)
    yard.pipeline.process(sent)
    assert yard.ensemble.enlarged == [((0.375, 0.15, 0.625, 0.4),)]


def test_the_size_of_a_frame_is_kept_for_the_policy(yard: Yard) -> None:
    out = io.BytesIO()
    Image.new("L", (1920, 1080)).save(out, "PNG")
    yard.pipeline.process(burst(1, [yard.ensemble.teach(out.getvalue(), {"eye": (person_at(0.2),)})], 0))
    assert [seen.size for seen in yard.store.observations("yard", "gate")] == [(1920, 1080)]


def test_the_brightness_of_a_frame_is_kept_for_the_policy_where_it_is_known(yard: Yard) -> None:
    out = io.BytesIO()
    Image.new("L", (64, 64), 51).save(out, "PNG")
    yard.pipeline.process(burst(1, [yard.ensemble.teach(out.getvalue(), {}), yard.picture(0.2)], 0))
    assert [seen.brightness for seen in yard.store.observations("yard", "gate")] == [0.2, None]


def test_a_committed_turn_wakes_delivery_and_a_refused_burst_does_not(yard: Yard) -> None:
    yard.pipeline.process(burst(1, [yard.picture(0.2)], 0))
    assert yard.wakes == 1
    with pytest.raises(Unprocessable):
        yard.pipeline.process(burst(1, [yard.picture(0.3)], 0))
    assert yard.wakes == 1


def test_a_late_burst_puts_its_events_where_they_belong_and_marks_them_late(
    yard: Yard, new_sqlite: Callable[[], str]
) -> None:
    def passing_by(t: float) -> float | None:
        return 0.25 if 8 <= t < 12 else None

    bursts = yard.walked(passing_by, 32, per_burst=8)
    missing, rest = bursts[2], [*bursts[:2], *bursts[3:]]
    for one in rest:
        yard.pipeline.process(one)
    assert told(yard.store) == []
    assert yard.pipeline.process(missing).as_wire()["late"] is True
    assert told(yard.store) == in_order(yard, bursts, new_sqlite)
    assert [(logged.event.kind, logged.late) for logged in yard.store.events()] == [
        ("entered", True),
        ("presence_started", True),
        ("left", True),
        ("presence_ended", True),
    ]


def test_what_a_late_burst_disproves_is_withdrawn_and_said_so(yard: Yard) -> None:
    def gone_for_long(t: float) -> float | None:
        return 0.25 if t < 4 or t >= 20 else None

    for n in range(12):
        yard.pipeline.process(yard.walk(n, gone_for_long, n * 2.0))
    assert "presence_ended" in [event.kind for event in told(yard.store)]
    yard.pipeline.process(yard.walk(13, lambda t: 0.25, 4.2, frames=12))
    assert "presence_ended" not in [event.kind for event in told(yard.store)]
    withdrawn = [logged.event.kind for logged in said(yard.store) if logged.is_withdrawn]
    assert "presence_ended" in withdrawn
    assert withdrawn == [logged.event.kind for logged in yard.store.events(withdrawn=True) if logged.is_withdrawn]


def test_a_correction_names_the_event_that_it_replaces_and_comes_before_its_withdrawal(yard: Yard) -> None:
    bursts = yard.walked(across, 26)
    for one in [*bursts[:2], *bursts[3:]]:
        yard.pipeline.process(one)
    first = {event.id: event for event in told(yard.store)}
    yard.pipeline.process(bursts[2])
    replaced = {old: logged for logged in said(yard.store) for old in logged.supersedes}
    assert replaced
    for old, logged in replaced.items():
        new = logged.event
        assert (new.kind, new.label, new.sector, new.line) == (first[old].kind, new.label, first[old].sector, new.line)
        assert old == new.id or next(e for e in said(yard.store) if e.event.id == old).seq > logged.seq
    gone = {logged.event.id for logged in said(yard.store) if logged.is_withdrawn}
    assert {old for old, logged in replaced.items() if old != logged.event.id} <= gone


def test_a_correction_says_so_on_every_channel_and_names_what_it_supersedes(yard: Yard) -> None:
    bursts = yard.walked(across, 26)
    channel = RecordingChannel()
    dispatcher = Dispatcher(yard.store, [channel])
    for one in [*bursts[:2], *bursts[3:], bursts[2]]:
        yard.pipeline.process(one)
        dispatcher.drain_once()
    corrections = [one for one in channel.sent if one.what == "corrected"]
    assert corrections
    for one in corrections:
        assert one.logged.as_wire()["supersedes"] == list(one.logged.supersedes) != []
        assert f" said=corrected supersedes={one.logged.supersedes[0]} " in text_line(one.logged, one.what)
    assert all(one.logged.supersedes == () for one in channel.sent if one.what == "event")


def test_an_event_that_nothing_told_before_supersedes_nothing(yard: Yard) -> None:
    for n in (0, 2):
        yard.pipeline.process(yard.walk(n, lambda t: None, n * 2.0, frames=8))
    yard.pipeline.process(yard.walk(1, lambda t: 0.25, 4.2, frames=12, every_s=0.3))
    found = [logged for logged in said(yard.store) if logged.late]
    assert [logged.supersedes for logged in found] == [()] * len(found) != []


def test_what_a_late_burst_leaves_as_it_was_is_not_said_again(yard: Yard) -> None:
    bursts = yard.walked(across, 26)
    empty_end = yard.walk(99, lambda t: None, 40)
    for one in [*bursts, empty_end]:
        yard.pipeline.process(one)
    before = said(yard.store)
    yard.pipeline.process(yard.walk(98, lambda t: None, 30))
    assert said(yard.store) == before


def test_a_burst_ahead_of_the_clock_is_held_and_blocks_nothing(yard: Yard, new_sqlite: Callable[[], str]) -> None:
    bursts = yard.walked(across, 26)
    yard.clock.now_us = START_US + 26_000_000 - 310_000_000  # the server's clock is behind by five minutes and more
    receipt = yard.pipeline.process(bursts[-1])
    assert receipt.as_wire()["status"] == "held"
    assert receipt.as_wire()["labels"] == {"eye": ["nothing"] * 4}
    assert yard.store.cameras() == []
    for one in bursts[:-1]:
        assert yard.pipeline.process(one).as_wire()["late"] is False
    yard.clock.advance(60)
    assert Advancing(yard.store, yard.clock).release_held() == 1
    assert Advancing(yard.store, yard.clock).release_held() == 0
    assert yard.store.kept(bursts[-1].burst_id).status == "folded"
    assert told(yard.store) == in_order(yard, bursts, new_sqlite)


def test_the_next_turn_of_its_camera_admits_a_held_burst_that_is_due(yard: Yard) -> None:
    bursts = yard.walked(across, 26)
    yard.clock.now_us = bursts[-2].frames[-1].at_us - 300_000_000
    assert yard.pipeline.process(bursts[-1]).burst.status == "held"
    yard.clock.advance(10)
    yard.pipeline.process(bursts[0])
    assert yard.store.kept(bursts[-1].burst_id).status == "folded"


def test_each_burst_is_judged_by_the_policy_it_was_accepted_under_also_in_a_refold(yard: Yard) -> None:
    bursts = yard.walked(there_and_back, 30)
    half = len(bursts) // 2
    for one in [*bursts[:3], *bursts[4:half]]:
        yard.pipeline.process(one)
    first = yard.sites.policy("yard").digest
    yard.write(YARD.replace('site = "yard"', 'site = "yard"\npresence = {confirm_s = 3.0}'))
    for one in bursts[half:]:
        yard.pipeline.process(one)
    second = yard.sites.policy("yard").digest
    yard.pipeline.process(bursts[3])
    by_burst = {one.observation.burst_id: one.policy for one in yard.store.history("yard", "gate")}
    assert [by_burst[b.burst_id] for b in bursts[:half]] == [first, first, first, second, *[first] * (half - 4)]
    assert {event.provenance.policy for event in told(yard.store)} == {first, second}
    assert told(yard.store) == refolded(yard.store)


def refolded(store: Store) -> list[Event]:
    """The events of one clean fold over everything stored, in order, from the first frame: no rewinding."""
    start = store.checkpoint("yard", "gate", 0)
    assert start.at_us is None
    return [event for step in steps(store.history("yard", "gate"), start, store.policy) for event in step.events]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[float, float, list[float | None]]], list[int]]:
    """Bursts (start, spacing, where somebody stands in each frame), and the order of their coming."""
    places = st.sampled_from([None, 0.1, 0.3, 0.45, 0.55, 0.7, 0.9])
    bursts = draw(
        st.lists(
            st.tuples(
                st.integers(0, 40).map(lambda half_s: half_s / 2),
                st.sampled_from([0.25, 0.5, 1.0, 3.0]),
                st.lists(places, min_size=1, max_size=5),
            ),
            min_size=2,
            max_size=8,
        )
    )
    order = draw(st.permutations(range(len(bursts))))
    again = draw(st.lists(st.sampled_from(order), max_size=4))
    return bursts, [*order, *again]


@given(histories())
@example(([(4.0, 1.0, [None, None, None, 0.3]), (3.5, 0.5, [0.3, 0.1]), (7.0, 0.25, [0.1])], [0, 1, 2]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_permutation_and_duplication_of_any_history_gives_the_same_log(
    tmp_path: Path,
    new_sqlite: Callable[[], str],
    clock: ManualClock,
    history: tuple[list[tuple[float, float, list[float | None]]], list[int]],
) -> None:
    drawn, order = history
    store = open_store(new_sqlite(), clock)
    yard = Yard(tmp_path / "sites", store, clock)
    bursts = [
        burst(n, [yard.picture() if x is None else yard.picture(x) for x in places], at_s, every_s)
        for n, (at_s, every_s, places) in enumerate(drawn)
    ]
    try:
        for n in order:
            yard.pipeline.process(bursts[n])
        assert told(store) == refolded(store)
        known = {logged.event.id for logged in said(store)}
        assert all(known.issuperset(logged.supersedes) for logged in said(store))
        assert len({e.id for e in told(store)}) == len(told(store))
    finally:
        store.close()


def test_the_decision_record_tells_the_votes_of_every_frame(yard: Yard) -> None:
    yard.pipeline.process(burst(1, [yard.picture(0.2), yard.picture()], 0))
    seen, nothing = yard.store.kept("burst-00001").judgements
    assert [(c.target, c.sectors, c.votes, c.present) for c in seen.candidates] == [
        ("person", ("west",), {EYE.model: "for"}, True)
    ]
    assert nothing.candidates == ()
