"""Ensembles that sign what they say, for the tests of swaps: without torch, in an engine and a server that are real."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from policies.observation import EnsembleInfo, ModelInfo, Prediction
from server.app import create_app, runtime_of
from server.app.runtime import Runtime
from server.delivery.channel import Channel
from server.domain.ensemble_protocol import Answering, Payload
from server.domain.errors import SectorwatchError, Unapproved
from server.domain.fleet import Origin
from server.engine.stages import Answer
from server.serving.loading import Loaded
from server.settings import ServerSettings
from server.store import open_store
from tests.server import new_sqlite
from tests.server.web_client import NOW_US, SITE, files, jpeg

PATIENCE_S = 30.0


class Signing:
    """Each model of it labels every frame with the ensemble's name. While `gate` is closed nobody gets past asking."""

    batch_images = 2
    needs_postprocessing = True
    on_accelerator = False

    def __init__(self, models: Sequence[str], edition: int = 0) -> None:
        name = f"{'+'.join(models)}#{edition}"
        self.ensemble_info = EnsembleInfo(
            name, tuple(ModelInfo(model, frozenset({name}), boxes=False) for model in models)
        )
        self.gate = threading.Event()
        self.gate.set()
        self.asking = threading.Event()

    def enter(self) -> None:
        return

    def only(self, model: str) -> Signing:
        raise NotImplementedError(model)

    def prepare(self, payload: Payload) -> bytes:
        return payload[0]

    def infer(self, rows: Sequence[bytes]) -> list[Answer]:
        self.asking.set()
        assert self.gate.wait(PATIENCE_S)
        said = (Prediction(self.ensemble_info.ensemble, 1.0),)
        return [{model_info.model: said for model_info in self.ensemble_info.models} for _ in rows]

    def postprocess(self, asked: Sequence[Answer], start: int, stop: int) -> Sequence[Answer]:
        return asked[start:stop]

    def answer(self, images: Sequence[bytes]) -> Sequence[Answer]:
        return self.infer(images)


class Shelf:
    """Where the next ensembles come from. `edition` is what is on disk, `fault` what loading raises, `drifted` the
    names of ensembles that no longer answer as approved; `checked` is set by every check, `loaded` holds all."""

    def __init__(self) -> None:
        self.edition = 0
        self.fault: SectorwatchError | None = None
        self.drifted: set[str] = set()
        self.checked = threading.Event()
        self.loaded: dict[str, Signing] = {}

    def load(self, models: Sequence[str], /) -> Loaded[Any]:
        if self.fault is not None:
            raise self.fault
        ensemble = Signing(models, self.edition)
        self.loaded[ensemble.ensemble_info.ensemble] = ensemble
        return Loaded(tuple(models), ensemble, self._check)

    def _check(self, asked: Answering) -> None:
        asked.answer([b"golden"])
        self.checked.set()
        if asked.ensemble_info.ensemble in self.drifted:
            raise Unapproved(f"{asked.ensemble_info.ensemble} says `cat` instead of `person`")


@contextmanager
def serving(
    folder: Path, shelf: Shelf, *, channels: Sequence[Channel] = (), now_us: int = NOW_US, **settings: Any
) -> Iterator[tuple[Flask, Runtime]]:
    """A started server in `folder` that has loaded its first ensemble."""
    (folder / "sites").mkdir(exist_ok=True)
    (folder / "sites" / "north-yard.toml").write_text(SITE, encoding="utf-8")
    given: dict[str, Any] = {"models": ("a", "b"), "inference_threads": 2, "golden_every_s": 0.0} | settings
    new_sqlite.provide(folder / "sectorwatch.sqlite")
    of_folder = ServerSettings(data_dir=folder, **given)
    app = create_app(of_folder, channels=channels, clock=lambda: now_us, loading=shelf.load)
    runtime = runtime_of(app)
    failed: list[Exception] = []
    runtime.start(on_failure=failed.append)
    joined(runtime, "sectorwatch-loading")
    try:
        assert not failed, failed
        yield app, runtime
    finally:
        for ensemble in shelf.loaded.values():
            ensemble.gate.set()
        runtime.stop()


def chosen(folder: Path, models: Sequence[str], instead_of: Sequence[str]) -> None:
    """Leave a database behind whose server was swapped to these models."""
    new_sqlite.provide(folder / "sectorwatch.sqlite")
    with closing(open_store(f"sqlite:///{folder}/sectorwatch.sqlite")) as store:
        store.fleet.establish(models, "some digest", Origin("the server", "1.0", tuple(instead_of)))


def joined(runtime: Runtime, name: str) -> None:
    """Wait for the end of one of a runtime's threads."""
    for thread in list(runtime._threads):
        if thread.name == name:
            thread.join(PATIENCE_S)


class Doing(threading.Thread):
    """Does something in a thread of its own; `outcome` is what it gave, or the error it raised."""

    def __init__(self, what: Callable[[], object]) -> None:
        super().__init__()
        self._what = what
        self.outcome: object = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self._what()
        except Exception as error:  # noqa: BLE001
            self.outcome = error


def batch(app: Flask, frames: int = 3, **headers: str) -> TestResponse:
    sent = {"file": files([jpeg(frame) for frame in range(frames)])}
    return app.test_client().post(
        "/batch", data=sent, headers={key.replace("_", "-"): value for key, value in headers.items()}
    )


def signatures(labels: dict[str, list[str]]) -> set[str]:
    """The ensembles that signed an answer."""
    return {label for each in labels.values() for label in each}


def noticed(runtime: Runtime) -> list[tuple[str, str]]:
    return [(notice.what, notice.ensemble) for notice in runtime.store.notices.all()]
