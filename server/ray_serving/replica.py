"""A replica: one ensemble in one engine, as in a server's own process, asked over the wire. It knows nothing of Ray.

Ray Serve makes it on a node, calls its methods, and replaces it when `check_health` raises.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from server.domain.ensemble_protocol import Answering
from server.domain.errors import ConfigurationError, Unapproved
from server.domain.on_behalf import on_behalf_of
from server.ray_serving import wire
from server.ray_serving.scaling import QUEUED
from server.serving.answering import Handle
from server.serving.loading import Load, Loaded, engine_of, load
from server.serving.machine import torch_environment
from server.settings import ServerSettings

ONGOING = 64
"""Requests that a replica works on at once. The engine merges and splits them; Ray queues the rest."""

_MOST_TIMES = 4096

Terms = Mapping[str, Any]
"""The settings that a replica needs, in JSON's types, without those that hold secrets (`database_url`)."""


class Replica:
    """Answers by the ensemble of `models`, whose digest must be `ensemble`. Constructing loads it and starts an engine.

    `terms_digest` names the terms. `insists`: only a replica whose ensemble answers as approved comes into being.
    `loading` makes the ensemble, where it does not come from the catalogue and the user's folder.

    Raises ConfigurationError for a node whose cards, weights or libraries give another ensemble, and Unapproved.
    """

    def __init__(
        self,
        terms: Terms,
        models: tuple[str, ...],
        ensemble: str,
        terms_digest: str = "",
        *,
        insists: bool = True,
        loading: Load | None = None,
    ) -> None:
        self._name = _place()
        self._terms_digest = terms_digest
        self._took = deque[tuple[str, float]](maxlen=_MOST_TIMES)
        settings = _settings(terms)
        self._loaded = _load(settings, models, loading, self._took)
        loaded_digest = self._loaded.ensemble.ensemble_info.ensemble
        if loaded_digest != ensemble:
            raise ConfigurationError(
                f"this node loads ensemble {loaded_digest} for {', '.join(models)}, and {ensemble} is wanted: its "
                "cards, weights and libraries must be those of the other nodes"
            )
        self._engine = engine_of(self._loaded.ensemble, settings)
        self._is_stuck = threading.Event()
        self._fault: str | None = None
        self._used_at = time.monotonic()
        if insists:
            self._loaded.check(self._loaded.ensemble)
        self._pool = ThreadPoolExecutor(ONGOING + 1, thread_name_prefix="sectorwatch-asked")
        self._engine.start(self._is_stuck.set)

    async def answer(self, packed: bytes) -> bytes:
        """An `Answered` or `Failed` for an `Asked`."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, packed)

    async def golden(self) -> bytes:
        """Replay the golden set in the queue of requests: an `Inspected`, or `Failed` when the engine has no room."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._golden)

    async def report(self) -> bytes:
        """A `Report`."""
        self._used_at = time.monotonic()
        took = [self._took.popleft() for _ in range(len(self._took))]
        return wire.encode(wire.Report(self._name, self._engine.load(), self._terms_digest, took))

    async def unused_s(self) -> float:
        """Seconds since a server has asked for a report."""
        return time.monotonic() - self._used_at

    async def retire(self, replica: str) -> None:
        """For a replica of this name: have Ray replace it, since it answers otherwise than the others."""
        if replica == self._name:
            self._fault = "its answers differ from those of the other replicas"

    def check_health(self) -> None:
        """Raises RuntimeError where only another replica helps. Ray calls it at intervals."""
        if self._is_stuck.is_set():
            raise RuntimeError("the engine is silent: a worker died, or a batch never ends")
        if self._fault is not None:
            raise RuntimeError(self._fault)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What Ray's autoscaling counts."""
        return {QUEUED: float(self._engine.load().queued_images)}

    def stop(self) -> None:
        """Finish the requests, and end the threads."""
        self._engine.stop()
        self._pool.shutdown()

    def __del__(self) -> None:
        """Ray calls it before it ends a replica."""
        if hasattr(self, "_pool"):
            self.stop()

    def _answer(self, packed: bytes) -> bytes:
        try:
            asked = wire.asked(packed)
            handle: Handle = self._engine.first
            if asked.ensemble != handle.ensemble_info.ensemble:
                raise ConfigurationError(f"asked {asked.ensemble}, and this is {handle.ensemble_info.ensemble}")
            with on_behalf_of(asked.client):
                answers = _answers(handle, asked)
            return wire.encode(wire.Answered([dict(answer) for answer in answers]))
        except Exception as error:  # noqa: BLE001  the server raises it again
            return wire.encode(wire.failed(error))

    def _golden(self) -> bytes:
        try:
            return wire.encode(_inspected(self._name, self._loaded, self._engine.first))
        except Exception as error:  # noqa: BLE001
            return wire.encode(wire.failed(error))


def inspect(terms: Terms, models: tuple[str, ...], loading: Load | None = None) -> bytes:
    """Load the ensemble on this node, once, and check lock and golden set: an `Inspected`, or `Failed`."""
    try:
        loaded = _load(_settings(terms), models, loading, deque(maxlen=1))
        return wire.encode(_inspected(_place(), loaded, loaded.ensemble))
    except Exception as error:  # noqa: BLE001
        return wire.encode(wire.failed(error))


def _answers(handle: Handle, asked: wire.Asked) -> Any:
    if asked.spare:
        return handle.answer_spare(asked.images, asked.crops, asked.enlarged, within_s=asked.within_s)
    return handle.only(asked.only, asked.within_s).answer(asked.images, asked.crops, asked.enlarged)


def _inspected(name: str, loaded: Loaded[Any], answering: Answering) -> wire.Inspected:
    try:
        loaded.check(answering)
    except Unapproved as error:
        return wire.Inspected(name, answering.ensemble_info, error.detail)
    return wire.Inspected(name, answering.ensemble_info, None)


def _place() -> str:
    """Node and process, for people to find."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _settings(terms: Terms) -> ServerSettings:
    os.environ.update(torch_environment())  # OpenMP reads it when torch is loaded
    return msgspec.convert(dict(terms), ServerSettings)


def _load(
    settings: ServerSettings, models: tuple[str, ...], loading: Load | None, took: deque[tuple[str, float]]
) -> Loaded[Any]:
    if loading is not None:
        return loading(models)
    return load(settings, models, took=lambda model, seconds: took.append((model, seconds)))
