"""A replica checks what it loads, keeps errors in its answers, and is unhealthy where only another one helps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.domain.errors import ConfigurationError, Unapproved, Unprocessable
from server.ray_serving import wire
from server.ray_serving.replica import Replica, inspect
from tests.server.ray_serving.shelves import BROKEN, FolderShelf, said

TERMS: dict[str, Any] = {"inference_threads": 1, "max_queued_images": 8, "answer_within_s": 10.0}


@pytest.fixture
def shelf(tmp_path: Path) -> FolderShelf:
    return FolderShelf(tmp_path)


@pytest.fixture
def replica(shelf: FolderShelf) -> Iterator[Replica]:
    made = Replica(TERMS, ("a",), shelf.digest("a"), loading=shelf.load)
    yield made
    made.stop()


def asked(replica: Replica, ensemble: str, *images: bytes) -> wire.Answered | wire.Inspected:
    request = wire.Asked(ensemble, images, {}, (), None, 5.0, "north")
    return wire.reply(asyncio.run(replica.answer(wire.encode(request))))


def test_it_answers_a_whole_burst_in_one_call(replica: Replica, shelf: FolderShelf) -> None:
    came = asked(replica, shelf.digest("a"), b"1", b"2", b"3")
    assert isinstance(came, wire.Answered)
    assert [answer["a"][0].label for answer in came.answers] == [said("a", image) for image in (b"1", b"2", b"3")]  # type: ignore[index]


def test_a_picture_that_is_none_fails_its_own_request_alone(replica: Replica, shelf: FolderShelf) -> None:
    with pytest.raises(Unprocessable) as refused:
        asked(replica, shelf.digest("a"), b"1", BROKEN)
    assert refused.value.frame == 1
    replica.check_health()


def test_it_does_not_answer_for_another_ensemble(replica: Replica) -> None:
    with pytest.raises(ConfigurationError, match="asked another"):
        asked(replica, "another", b"1")


def test_a_node_that_loads_another_ensemble_gets_no_replica(shelf: FolderShelf) -> None:
    shelf.write(edition="2")
    with pytest.raises(ConfigurationError, match="its cards, weights and libraries must be those of the other nodes"):
        Replica(TERMS, ("a",), shelf.digest("a"), loading=shelf.load)


def test_a_node_that_does_not_answer_as_approved_gets_no_replica(shelf: FolderShelf) -> None:
    shelf.write(drifted=shelf.digest("a"))
    with pytest.raises(Unapproved, match="they say `cat`"):
        Replica(TERMS, ("a",), shelf.digest("a"), loading=shelf.load)


def test_where_no_node_answers_as_approved_replicas_say_so(shelf: FolderShelf) -> None:
    shelf.write(drifted=shelf.digest("a"))
    assert wire.reply(inspect(TERMS, ("a",), shelf.load)).fault == "they say `cat` instead of `person`"  # type: ignore[union-attr]
    replica = Replica(TERMS, ("a",), shelf.digest("a"), insists=False, loading=shelf.load)
    assert wire.reply(asyncio.run(replica.golden())).fault == "they say `cat` instead of `person`"  # type: ignore[union-attr]
    replica.stop()


def test_a_retired_replica_is_unhealthy_and_the_others_stay(replica: Replica) -> None:
    asyncio.run(replica.retire("another:1"))
    replica.check_health()
    asyncio.run(replica.retire(wire.report(asyncio.run(replica.report())).replica))
    with pytest.raises(RuntimeError, match="its answers differ"):
        replica.check_health()


def test_a_silent_engine_makes_the_replica_unhealthy(replica: Replica) -> None:
    replica._is_stuck.set()
    with pytest.raises(RuntimeError, match="the engine is silent"):
        replica.check_health()


def test_what_autoscaling_counts_are_images_that_wait(replica: Replica) -> None:
    assert asyncio.run(replica.record_autoscaling_stats()) == {"queued_images": 0.0}


def test_what_a_node_cannot_load_is_told_as_it_is(shelf: FolderShelf) -> None:
    shelf.write(fault="no model is named `a`")
    with pytest.raises(ConfigurationError, match="no model is named `a`"):
        wire.reply(inspect(TERMS, ("a",), shelf.load))
