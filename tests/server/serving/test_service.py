"""Models are swapped under a running server: no request fails, none is answered by two ensembles, nothing is silent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from server.app import create_app, runtime_of
from server.app.runtime import Runtime
from server.domain.errors import ConfigurationError, Conflict
from server.serving.loading import Loaded
from server.serving.service import InService
from server.serving.swap import Swap
from server.settings import ServerSettings
from tests.server import new_sqlite
from tests.server.swaps import PATIENCE_S, Doing, Shelf, Signing, batch, joined, noticed, serving, signatures
from tests.server.web_client import body, envelope, jpeg


@pytest.fixture
def loading(tmp_path: Path) -> Iterator[tuple[Runtime, threading.Event]]:
    """A server that is just asking its first ensemble whether it answers as approved, until the event is set."""
    asked, go = threading.Event(), threading.Event()

    def check(_ensemble: object) -> None:
        asked.set()
        go.wait(PATIENCE_S)

    def load(models: Sequence[str], /) -> Loaded[Any]:
        return Loaded(tuple(models), Signing(models), check)

    settings = ServerSettings(data_dir=tmp_path, models=("a",), inference_threads=1, golden_every_s=0.0)
    new_sqlite.provide(tmp_path / "sectorwatch.sqlite")
    runtime = runtime_of(create_app(settings, channels=[], loading=load))
    runtime.start(on_failure=lambda _error: None)
    assert asked.wait(PATIENCE_S)
    yield runtime, go
    go.set()
    joined(runtime, "sectorwatch-loading")
    runtime.stop()


class Asking:
    """A client that goes on asking: an even one about batches, an odd one about bursts. `wrong` are the answers that
    failed, or were not signed by the one ensemble they name; `seen` the ensembles."""

    def __init__(self, app: Flask, client: int) -> None:
        self.wrong: list[object] = []
        self.seen: set[str] = set()
        self._app = app
        self._client = client
        self._done = threading.Event()
        self._thread = Doing(self._run)

    def stop(self) -> None:
        self._done.set()
        self._thread.join(PATIENCE_S)
        assert self._thread.outcome is None

    def _run(self) -> None:
        for number in range(10_000):
            if self._done.is_set():
                return
            answer = self._burst(number) if self._client % 2 else batch(self._app)
            told, by = answer.get_json(), answer.headers.get("X-Ensemble", "")
            self.seen.add(by)
            if answer.status_code not in (200, 201) or signatures(told.get("labels", told)) != {by}:
                self.wrong.append(told)

    def _burst(self, number: int) -> TestResponse:
        frames = [jpeg(number % 250), jpeg(self._client), jpeg(7)]
        sent = envelope(frames, burst_id=f"burst-{self._client}-{number:05d}", camera=f"gate{self._client}")
        return self._app.test_client().post("/v1/bursts", data=body(sent, frames))


def test_whoever_finds_a_server_ready_finds_its_engine(loading: tuple[Runtime, threading.Event]) -> None:
    runtime, go = loading
    found: list[bool] = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "ensemble ready":
                found.append(runtime.service.engine is not None)

    log, reader = logging.getLogger("server.serving.service"), Reader()
    log.addHandler(reader)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        go.set()
        joined(runtime, "sectorwatch-loading")
    finally:
        log.setLevel(level)
        log.removeHandler(reader)
    assert found == [True]


def test_after_a_swap_the_new_models_answer_under_their_own_name(served: tuple[Flask, Runtime]) -> None:
    app, runtime = served
    assert batch(app).headers["X-Ensemble"] == "a+b#0"
    assert runtime.service.swap(Swap(("c",))) == InService("c#0", ("c",), "a+b#0")
    answer = batch(app)
    assert (answer.headers["ETag"], answer.get_json()) == ('"c#0"', {"c": ["c#0"] * 3})
    assert app.test_client().get("/models").get_json() == {"model 0": "c"}


def test_after_a_swap_a_condition_on_the_old_ensemble_is_refused(served: tuple[Flask, Runtime]) -> None:
    app, runtime = served
    assert batch(app, If_Match='"a+b#0"').status_code == 200
    runtime.service.swap(Swap(("c",)))
    assert batch(app, If_Match='"a+b#0"').status_code == 412
    assert batch(app, If_Match='"c#0"').status_code == 200


def test_a_request_that_was_in_work_at_a_swap_is_finished_by_the_old_ensemble_under_its_name(
    served: tuple[Flask, Runtime], shelf: Shelf
) -> None:
    app, runtime = served
    old = shelf.loaded["a+b#0"]
    old.asking.clear()
    old.gate.clear()
    waiting = Doing(lambda: batch(app, 7))
    assert old.asking.wait(PATIENCE_S)
    runtime.service.swap(Swap(("c",)))
    old.gate.set()
    waiting.join(PATIENCE_S)
    answer = waiting.outcome
    assert isinstance(answer, TestResponse)
    assert answer.headers["X-Ensemble"] == "a+b#0"
    assert signatures(answer.get_json()) == {"a+b#0"}


def test_no_request_fails_or_is_answered_by_two_ensembles_while_models_are_swapped_back_and_forth(
    served: tuple[Flask, Runtime], shelf: Shelf
) -> None:
    app, runtime = served
    askers = [Asking(app, client) for client in range(4)]
    for edition in range(1, 16):
        shelf.edition = edition
        runtime.service.swap(Swap(("c",) if edition % 2 else ("a", "b")))
        if edition % 5 == 0:
            runtime.service.rollback()
    for asker in askers:
        asker.stop()
    assert [asker.wrong for asker in askers] == [[]] * 4
    assert len(set().union(*(asker.seen for asker in askers))) > 1
    for head in runtime.store.cameras():
        for one in runtime.store.observations(head.site, head.camera):
            assert {prediction.label for said in one.answers.values() for prediction in said or ()} == {
                one.ensemble_info.ensemble
            }


def test_a_swap_without_other_names_takes_what_is_on_disk_now(served: tuple[Flask, Runtime], shelf: Shelf) -> None:
    app, runtime = served
    shelf.edition = 1
    assert runtime.service.swap(Swap(("a", "b"))).ensemble == "a+b#1"
    assert batch(app).headers["X-Ensemble"] == "a+b#1"


@pytest.mark.parametrize(
    "fault",
    [
        ConfigurationError("no model is named `d`"),
        ConfigurationError("this ensemble is not the one of ensemble.lock: the class list of c is 5 names"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_its_reason_and_the_old_ensemble_goes_on(
    served: tuple[Flask, Runtime], shelf: Shelf, fault: ConfigurationError
) -> None:
    app, runtime = served
    shelf.fault = fault
    with pytest.raises(Conflict, match="not swapped: ") as refused:
        runtime.service.swap(Swap(("c",)))
    assert fault.detail in refused.value.detail
    assert batch(app).headers["X-Ensemble"] == "a+b#0"
    assert noticed(runtime) == [("serves", "a+b#0")]


def test_what_does_not_answer_as_approved_is_not_swapped_in(served: tuple[Flask, Runtime], shelf: Shelf) -> None:
    app, runtime = served
    shelf.drifted = {"c#0"}
    with pytest.raises(Conflict, match="c#0 says `cat` instead of `person`"):
        runtime.service.swap(Swap(("c",)))
    assert batch(app).headers["X-Ensemble"] == "a+b#0"


def test_of_two_swaps_at_once_the_second_is_refused(
    served: tuple[Flask, Runtime], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    _app, runtime = served
    loading, go_on = threading.Event(), threading.Event()
    load = shelf.load

    def slow(*given: Any) -> Any:
        loading.set()
        assert go_on.wait(PATIENCE_S)
        return load(*given)

    monkeypatch.setattr(runtime.service, "_load", slow)
    first = Doing(lambda: runtime.service.swap(Swap(("c",))))
    assert loading.wait(PATIENCE_S)
    with pytest.raises(Conflict, match="another swap is under way"):
        runtime.service.swap(Swap(("d",)))
    with pytest.raises(Conflict, match="another swap is under way"):
        runtime.service.rollback()
    go_on.set()
    first.join(PATIENCE_S)
    assert isinstance(first.outcome, InService)


def test_the_very_ensemble_that_serves_is_not_swapped_for_itself(served: tuple[Flask, Runtime]) -> None:
    with pytest.raises(Conflict, match="in service already; nothing on disk has changed"):
        served[1].service.swap(Swap(("a", "b")))


def test_a_rollback_serves_what_was_served_before_and_can_itself_be_rolled_back(served: tuple[Flask, Runtime]) -> None:
    app, runtime = served
    runtime.service.swap(Swap(("c",)))
    assert runtime.service.rollback() == InService("a+b#0", ("a", "b"), "c#0")
    assert batch(app).headers["X-Ensemble"] == "a+b#0"
    assert runtime.service.rollback().ensemble == "c#0"
    assert noticed(runtime) == [("serves", name) for name in ("a+b#0", "c#0", "a+b#0", "c#0")]


def test_without_a_swap_there_is_nothing_to_roll_back(served: tuple[Flask, Runtime]) -> None:
    with pytest.raises(Conflict, match="nothing was swapped"):
        served[1].service.rollback()


def test_a_restart_goes_on_with_what_was_swapped_in(tmp_path: Path, shelf: Shelf) -> None:
    with serving(tmp_path, shelf) as (_app, runtime):
        runtime.service.swap(Swap(("c",)))
    with serving(tmp_path, shelf) as (app, _runtime):
        assert batch(app).headers["X-Ensemble"] == "c#0"


def test_settings_that_were_changed_since_count_more_than_a_swap(tmp_path: Path, shelf: Shelf) -> None:
    with serving(tmp_path, shelf) as (_app, runtime):
        runtime.service.swap(Swap(("c",)))
    with serving(tmp_path, shelf, models=("d",)) as (app, _runtime):
        assert batch(app).headers["X-Ensemble"] == "d#0"


def test_a_restart_after_a_rollback_serves_what_the_settings_name(tmp_path: Path, shelf: Shelf) -> None:
    with serving(tmp_path, shelf) as (_app, runtime):
        runtime.service.swap(Swap(("c",)))
        runtime.service.rollback()
    with serving(tmp_path, shelf) as (app, _runtime):
        assert batch(app).headers["X-Ensemble"] == "a+b#0"


def test_that_a_restart_serves_another_ensemble_than_before_is_noticed(
    tmp_path: Path, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, shelf):
        pass
    shelf.edition = 1
    with serving(tmp_path, shelf) as (_app, runtime):
        assert "another ensemble than before the restart" in caplog.text
        assert "instead of a+b#0 before the restart" in runtime.store.notices.all()[-1].detail


def test_what_the_models_cannot_do_of_a_site_policy_is_in_the_log(
    tmp_path: Path, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, shelf):
        [record] = [one for one in caplog.records if one.msg == "site policy does not fit the models"]
    said = "every camera/view: `person` is never decided: no model that votes can see it"
    assert (record.__dict__["site"], record.__dict__["what"]) == ("north-yard", said)


def test_while_a_shadow_runs_live_answers_are_the_old_ones_and_the_differences_are_told(
    served: tuple[Flask, Runtime],
) -> None:
    app, runtime = served
    swapping = Doing(lambda: runtime.service.swap(Swap(("b", "c"), shadow_s=PATIENCE_S, shadow_frames=4)))
    while swapping.is_alive():
        answer = batch(app, 2)
        assert signatures(answer.get_json()) == {answer.headers["X-Ensemble"]}
    done = swapping.outcome
    assert isinstance(done, InService)
    assert done.compared is not None
    assert done.compared.frames >= 4
    assert [(each.model, each.was, each.now) for each in done.compared.changed] == [("b", "a+b#0", "b+c#0")]
    assert done.compared.changed[0].frames == done.compared.frames


def test_a_candidate_that_fails_on_live_requests_is_not_swapped_in(
    served: tuple[Flask, Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, runtime = served
    ask = Signing.infer

    def falls_over(self: Signing, rows: Any) -> Any:
        if self.ensemble_info.ensemble == "c#0" and list(rows) != [b"golden"]:
            raise RuntimeError("the network fell over")
        return ask(self, rows)

    monkeypatch.setattr(Signing, "infer", falls_over)
    swapping = Doing(lambda: runtime.service.swap(Swap(("c",), shadow_s=PATIENCE_S)))
    while swapping.is_alive():
        assert batch(app).headers["X-Ensemble"] == "a+b#0"
    assert isinstance(swapping.outcome, Conflict)
    assert "RuntimeError: the network fell over" in swapping.outcome.detail


def test_while_the_first_ensemble_is_being_checked_a_swap_is_refused(loading: tuple[Runtime, threading.Event]) -> None:
    runtime, _go = loading
    with pytest.raises(Conflict, match="the first ensemble is still loading"):
        runtime.service.swap(Swap(("b",)))


def test_a_server_is_stopped_whole_while_its_first_ensemble_is_being_checked(
    loading: tuple[Runtime, threading.Event],
) -> None:
    runtime, go = loading
    stopping = Doing(runtime.stop)
    assert runtime._stopping.wait(PATIENCE_S)
    go.set()
    stopping.join(PATIENCE_S)
    assert stopping.outcome is None
    assert not any(thread.is_alive() for thread in runtime._threads)
