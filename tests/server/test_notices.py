"""What happened to the server itself is kept, in order and for good."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from server.records import Notice
from server.store import Store
from tests.stand_ins import ManualClock


def test_notices_are_kept_in_order_with_their_instants(store: Store, clock: ManualClock) -> None:
    first = store.notices.add("serves", "e" * 64, ["yolov3-tiny", "frame-change"], "loaded at start")
    clock.advance(3600)
    store.notices.add("unapproved", "e" * 64, ["yolov3-tiny"], "says `cat`, not `person`")
    assert first == Notice(1, clock.now_us - 3_600_000_000, "serves", first.ensemble, first.models, "loaded at start")
    assert [(one.number, one.what, one.models) for one in store.notices.all()] == [
        (1, "serves", ("yolov3-tiny", "frame-change")),
        (2, "unapproved", ("yolov3-tiny",)),
    ]
    assert [one.number for one in store.notices.all(limit=1)] == [2]


def test_many_who_notice_something_at_once_get_numbers_of_their_own(store: Store) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: store.notices.add("approved", str(n), ["a"], ""), range(12)))
    assert [one.number for one in store.notices.all()] == list(range(1, 13))
