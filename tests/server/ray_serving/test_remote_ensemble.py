"""A request that a replica dies of is sent once more; after that its sender tries again later."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from policies.observation import EnsembleInfo, ModelInfo
from server.domain.errors import RetryLater, Unapproved
from server.ray_serving import wire
from server.ray_serving.messages import Lost
from server.ray_serving.remote_ensemble import RemoteEnsemble
from server.ray_serving.tally import Tally

INFO = EnsembleInfo("d" * 64, (ModelInfo("a", frozenset({"person"}), boxes=True),))

Act = Callable[[wire.Asked], bytes]


class ScriptedReplicas:
    """Replicas of which each in turn does what its `acts` say. `asked` are the requests, `retired` the names."""

    name = "ens-d"

    def __init__(self, *acts: Act, faults: Sequence[str | None] = ()) -> None:
        self._acts = list(acts)
        self._faults = faults
        self.asked: list[wire.Asked] = []
        self.retired: list[str] = []

    def ask(self, packed: bytes, within_s: float) -> bytes:
        self.asked.append(wire.asked(packed))
        assert within_s > self.asked[-1].within_s
        return self._acts.pop(0)(self.asked[-1])

    def golden(self) -> Sequence[bytes]:
        if not self._faults:
            raise Lost("it has no replica")
        return [wire.encode(wire.Inspected(str(number), INFO, fault)) for number, fault in enumerate(self._faults)]

    def retire(self, names: Sequence[str]) -> None:
        self.retired += names


def answers(asked: wire.Asked) -> bytes:
    return wire.encode(wire.Answered([{"a": ()} for _ in asked.images]))


def dies(_asked: wire.Asked) -> bytes:
    raise Lost("ActorDiedError: the node is dead")


def hangs(_asked: wire.Asked) -> bytes:
    raise TimeoutError


def ensemble(replicas: ScriptedReplicas) -> RemoteEnsemble:
    return RemoteEnsemble(INFO, replicas, Tally(max_queued_images=8, within_s=10), within_s=10)


def test_a_burst_goes_to_one_replica_whole_with_what_is_left_of_its_time() -> None:
    replicas = ScriptedReplicas(answers)
    assert ensemble(replicas).only("a", 4.0).answer([b"1", b"2"]) == [{"a": ()}, {"a": ()}]
    [asked] = replicas.asked
    assert (list(asked.images), asked.only, asked.ensemble) == ([b"1", b"2"], "a", INFO.ensemble)
    assert 3.0 < asked.within_s <= 4.0


def test_a_burst_whose_replica_dies_is_answered_by_another() -> None:
    replicas = ScriptedReplicas(dies, answers)
    assert ensemble(replicas).answer([b"1"]) == [{"a": ()}]
    assert replicas.asked[1].within_s < replicas.asked[0].within_s


def test_a_burst_whose_second_replica_dies_too_is_to_be_sent_again_later() -> None:
    replicas = ScriptedReplicas(dies, dies)
    with pytest.raises(RetryLater, match="was lost: ActorDiedError: the node is dead") as error:
        ensemble(replicas).answer([b"1"])
    assert error.value.retry_after_s > 0
    assert len(replicas.asked) == 2


def test_a_burst_that_no_replica_answers_in_time_is_to_be_sent_again_later() -> None:
    with pytest.raises(RetryLater, match="not judged in time"):
        ensemble(ScriptedReplicas(hangs)).answer([b"1"])


def test_the_golden_set_fails_where_it_fails_on_every_replica() -> None:
    with pytest.raises(Unapproved, match=r"^cat$"):
        ensemble(ScriptedReplicas(faults=["cat", "cat"])).check_golden()


def test_a_single_replica_that_answers_otherwise_is_replaced() -> None:
    replicas = ScriptedReplicas(faults=[None, "cat", None])
    ensemble(replicas).check_golden()
    assert replicas.retired == ["1"]


def test_without_replicas_the_golden_set_is_replayed_later() -> None:
    with pytest.raises(RetryLater, match="it has no replica"):
        ensemble(ScriptedReplicas()).check_golden()
