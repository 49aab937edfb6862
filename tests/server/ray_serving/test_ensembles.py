"""An ensemble behaves alike in the server's process and on a Ray cluster: the same tests run against both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from server.app import create_app, runtime_of
from server.app.runtime import Runtime
from server.domain.errors import Conflict, TooLarge, Unprocessable
from server.serving.service import InService
from server.serving.swap import Swap
from server.settings import ServerSettings
from tests.server import new_sqlite
from tests.server.ray_serving.clusters import cluster, loaded
from tests.server.ray_serving.shelves import BROKEN, FATAL, TOO_LARGE, FolderShelf, said
from tests.server.swaps import PATIENCE_S, Doing
from tests.server.web_client import SITE, files, jpeg

QUEUED = 8


class Served(NamedTuple):
    app: Flask
    runtime: Runtime
    shelf: FolderShelf

    @property
    def digest(self) -> str:
        in_service, _before = self.runtime.service.in_service()
        assert in_service is not None
        return in_service.ensemble

    def handle(self) -> Any:
        return self.runtime.service.current().handle

    def batch(self, *images: bytes, **headers: str) -> TestResponse:
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.app.test_client().post("/batch", data={"file": files(list(images))}, headers=named)


@pytest.fixture(scope="module", params=["local", "ray"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of two models, here or on a cluster of two processors."""
    folder = tmp_path_factory.mktemp("shared")
    if request.param == "local":
        yield from _serving(folder)
        return
    with cluster(2) as nodes:
        yield from _serving(folder, ensemble="ray", ray_address=nodes.address, ray_cpus=0.1)


@pytest.fixture
def served(server: Served) -> Iterator[Served]:
    """The server, with an ensemble that answers as approved."""
    yield server
    server.shelf.write(fault="", drifted="", closed="")


def _serving(folder: Path, **settings: Any) -> Iterator[Served]:
    shelf = FolderShelf(folder)
    (folder / "sites").mkdir()
    (folder / "sites" / "north-yard.toml").write_text(SITE, encoding="utf-8")
    new_sqlite.provide(folder / "sectorwatch.sqlite")
    given: dict[str, Any] = {"inference_threads": 1, "golden_every_s": 0.0, "max_queued_images": QUEUED} | settings
    app = create_app(ServerSettings(data_dir=folder, models=("a", "b"), **given), channels=[], loading=shelf.load)
    runtime = runtime_of(app)
    try:
        loaded(runtime)
        yield Served(app, runtime, shelf)
    finally:
        runtime.stop()


def test_each_frame_is_labelled_by_each_model_in_order_under_the_digest(served: Served) -> None:
    frames = [jpeg(number) for number in range(5)]
    answer = served.batch(*frames)
    assert answer.get_json() == {
        model: [said(model, frame) for frame in frames] for model in served.runtime.service.current().loaded.models
    }
    assert answer.headers["X-Ensemble"] == served.digest


def test_crops_and_enlarged_parts_reach_the_models(served: Served) -> None:
    crops, enlarged = {"yard": (0.1, 0.2, 0.3, 0.4)}, [(0.0, 0.0, 0.5, 0.5)]
    [answer] = served.handle().answer([b"1"], crops, enlarged)
    [prediction] = answer["a"]
    assert (prediction.label, prediction.box) == (said("a", b"1", ["yard"], enlarged), (0, 0, 1, 1))


def test_one_model_answers_alone_under_the_ensembles_name(served: Served) -> None:
    alone = served.handle().only("b")
    assert alone.ensemble_info.ensemble == served.digest
    assert [list(answer) for answer in alone.answer([b"1", b"2"])] == [["b"], ["b"]]


def test_spare_work_is_answered_too(served: Served) -> None:
    [answer] = served.handle().answer_spare([b"1"], within_s=PATIENCE_S)
    assert answer["a"][0].label == said("a", b"1")


@pytest.mark.parametrize(("image", "error"), [(BROKEN, Unprocessable), (TOO_LARGE, TooLarge)])
def test_a_refusal_names_its_kind_and_its_frame(served: Served, image: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as refused:
        served.handle().answer([b"1", b"2", image, b"3"])
    assert refused.value.frame == 2  # type: ignore[attr-defined]


def test_an_error_of_a_model_is_told_as_it_is(served: Served) -> None:
    with pytest.raises(RuntimeError, match=r"^the network fell over$"):
        served.handle().answer([FATAL])


def test_more_frames_than_may_wait_are_refused_for_good(served: Served) -> None:
    answer = served.batch(*(jpeg(number) for number in range(QUEUED + 1)))
    assert answer.status_code == 413


def test_while_too_many_frames_wait_others_are_sent_away_with_a_time_to_come_back(served: Served) -> None:
    served.shelf.write(closed="yes")
    first = Doing(lambda: served.batch(jpeg(1)))
    served.shelf.wait_until_asked()
    second = Doing(lambda: served.batch(*(jpeg(number) for number in range(QUEUED))))
    while served.runtime.service.engine.load().queued_images < QUEUED:  # type: ignore[union-attr]
        assert second.is_alive()
    refused = served.batch(jpeg(3))
    served.shelf.write(closed="")
    served.shelf.open_gate()
    first.join(PATIENCE_S)
    second.join(PATIENCE_S)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert [answer.status_code for answer in (first.outcome, second.outcome)] == [200, 200]  # type: ignore[attr-defined]


def test_a_swap_serves_other_models_a_rollback_those_of_before(served: Served) -> None:
    before = served.digest
    assert served.batch(jpeg(1), If_Match=f'"{before}"').status_code == 200
    swapped = served.runtime.service.swap(Swap(("a", "b", "c")))
    assert swapped == InService(served.shelf.digest("a", "b", "c"), ("a", "b", "c"), before)
    answer = served.batch(jpeg(1))
    assert (list(answer.get_json()), answer.headers["X-Ensemble"]) == (["a", "b", "c"], swapped.ensemble)
    assert served.batch(jpeg(1), If_Match=f'"{before}"').status_code == 412
    assert served.runtime.service.rollback().ensemble == before
    assert served.batch(jpeg(1)).headers["X-Ensemble"] == before


def test_a_request_in_work_at_a_swap_is_finished_by_the_old_ensemble_under_its_name(served: Served) -> None:
    before = served.digest
    served.shelf.write(closed="yes")
    waiting = Doing(lambda: served.batch(jpeg(1)))
    served.shelf.wait_until_asked()
    served.shelf.write(closed="")
    after = served.runtime.service.swap(Swap(("a", "b", "c"))).ensemble
    served.shelf.open_gate()
    waiting.join(PATIENCE_S)
    assert isinstance(waiting.outcome, TestResponse)
    assert waiting.outcome.headers["X-Ensemble"] == before != after
    served.runtime.service.rollback()


def test_what_cannot_be_loaded_is_refused_with_its_reason(served: Served) -> None:
    before = served.digest
    served.shelf.write(fault="this ensemble is not the one of ensemble.lock")
    with pytest.raises(Conflict, match=re.escape("not swapped: this ensemble is not the one of ensemble.lock")):
        served.runtime.service.swap(Swap(("e",)))
    assert served.batch(jpeg(1)).headers["X-Ensemble"] == before


def test_what_does_not_answer_as_approved_is_not_swapped_in_and_noticed(served: Served) -> None:
    before, candidate = served.digest, served.shelf.digest("f")
    served.shelf.write(drifted=candidate)
    with pytest.raises(Conflict, match="they say `cat` instead of `person`"):
        served.runtime.service.swap(Swap(("f",)))
    assert served.batch(jpeg(1)).headers["X-Ensemble"] == before
    last = served.runtime.store.notices.all()[-1]
    assert (last.what, last.ensemble) == ("refused", candidate)


def test_an_ensemble_that_drifts_while_it_serves_makes_the_server_unready_until_it_answers_as_before(
    served: Served,
) -> None:
    served.shelf.write(drifted=served.digest)
    assert served.runtime.service.recheck()
    unready = served.app.test_client().get("/readyz")
    assert (unready.status_code, unready.get_json()["detail"]) == (503, "they say `cat` instead of `person`")
    served.shelf.write(drifted="")
    assert served.runtime.service.recheck()
    assert served.app.test_client().get("/readyz").status_code == 200


def test_a_shadow_compares_with_the_ensemble_in_service(served: Served) -> None:
    swapping = Doing(lambda: served.runtime.service.swap(Swap(("a", "b", "c"), shadow_s=PATIENCE_S, shadow_frames=2)))
    while swapping.is_alive():
        assert served.batch(jpeg(1), jpeg(2)).status_code == 200
    assert isinstance(swapping.outcome, InService)
    assert swapping.outcome.compared is not None
    assert swapping.outcome.compared.frames >= 2
    assert swapping.outcome.compared.changed == ()
