"""One ensemble on the cluster, as the rest of the server uses it."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from policies.observation import Box, EnsembleInfo
from server.domain.ensemble_protocol import Answers
from server.domain.errors import RetryLater, Unapproved
from server.domain.on_behalf import present_client
from server.ray_serving import wire
from server.ray_serving.messages import Lost
from server.ray_serving.tally import Tally

_GRACE_S = 2.0
"""A replica keeps the time limit of a request itself; its answer needs a moment to come back."""

_TRIES = 2
_LOST_RETRY_S = 5


class Replicas(Protocol):
    """The replicas of one application."""

    @property
    def name(self) -> str: ...

    def ask(self, packed: bytes, within_s: float) -> bytes:
        """The reply of one replica. Raises Lost; RetryLater when too many requests wait; TimeoutError."""
        ...

    def golden(self) -> Sequence[bytes]:
        """The replies of all. Raises Lost."""
        ...

    def retire(self, names: Sequence[str]) -> None:
        """Have Ray replace these replicas."""
        ...


class RemoteEnsemble:
    """An ensemble whose replicas answer. A request that a replica dies of is sent once more: answers are pure.

    As long as it exists, and longer, its application stays on the cluster.
    """

    def __init__(self, ensemble_info: EnsembleInfo, replicas: Replicas, tally: Tally, *, within_s: float) -> None:
        self.ensemble_info = ensemble_info
        self.replicas = replicas
        self._tally = tally
        self._within_s = within_s
        self._only: str | None = None

    def only(self, model: str | None, within_s: float | None = None) -> RemoteEnsemble:
        """One model (None: all), with at most `within_s` for an answer."""
        view = copy.copy(self)
        if model is not None:
            view._only = model
        if within_s is not None:
            view._within_s = min(within_s, self._within_s)
        return view

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> Sequence[Answers]:
        """As `server.engine.EnsembleHandle.answer`, with the same errors. Raises RetryLater when two replicas died."""
        return self._ask(images, crops or {}, enlarged, self._within_s, spare=False)

    def answer_spare(
        self,
        images: Sequence[bytes],
        crops: Mapping[str, Box] | None = None,
        enlarged: Sequence[Box] = (),
        *,
        within_s: float,
    ) -> Sequence[Answers]:
        """As `answer`, on idle workers only."""
        return self._ask(images, crops or {}, enlarged, within_s, spare=True)

    def check_golden(self) -> None:
        """Replay the golden set on every replica. Raises Unapproved when none answers as approved.

        Single replicas that do not are replaced. Raises RetryLater when they have no time for it.
        """
        try:
            found = [wire.reply(packed) for packed in self.replicas.golden()]
        except (Lost, TimeoutError) as error:
            raise RetryLater(f"the golden set cannot be replayed: {error}", retry_after_s=_LOST_RETRY_S) from error
        faults = {one.replica: one.fault for one in found if isinstance(one, wire.Inspected) and one.fault is not None}
        if faults and len(faults) == len(found):
            raise Unapproved(next(iter(faults.values())))
        if faults:
            self.replicas.retire(list(faults))

    def _ask(
        self,
        images: Sequence[bytes],
        crops: Mapping[str, Box],
        enlarged: Sequence[Box],
        within_s: float,
        *,
        spare: bool,
    ) -> Sequence[Answers]:
        client, until = present_client(), time.monotonic() + within_s
        counted = 0 if spare else len(images) * (1 + len(enlarged))
        lost: Lost | None = None
        with self._tally.sending(self.replicas.name, client, counted):
            for _ in range(_TRIES):
                left_s = max(0.001, until - time.monotonic())
                digest = self.ensemble_info.ensemble
                asked = wire.Asked(digest, images, dict(crops), tuple(enlarged), self._only, left_s, client, spare)
                try:
                    reply = wire.reply(self.replicas.ask(wire.encode(asked), left_s + _GRACE_S))
                except Lost as error:
                    lost = error
                except TimeoutError:
                    break
                else:
                    assert isinstance(reply, wire.Answered)
                    return reply.answers
        if lost is not None:
            raise RetryLater(
                f"the replica that judged these frames was lost: {lost}", retry_after_s=_LOST_RETRY_S, begun=True
            )
        retry_after_s = max(_LOST_RETRY_S, self._tally.load().retry_after_s)
        raise RetryLater("not judged in time: no replica answered", retry_after_s=retry_after_s, begun=True)
