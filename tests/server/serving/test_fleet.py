"""Servers on one database serve one ensemble: a swap is for all or for none, and who cannot serve it is not ready."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from server.app import runtime as runtime_module
from server.app.runtime import Runtime
from server.domain.errors import ConfigurationError, Conflict
from server.serving import membership, service
from server.serving.membership import OnReplica
from server.serving.service import InService
from server.serving.swap import Swap
from server.store import Store
from tests.server.swaps import PATIENCE_S, Doing, Shelf, batch, noticed, serving

Start = Callable[..., tuple[Flask, Runtime]]


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers look what the others ask for more often, so that no test waits for that."""
    monkeypatch.setattr(runtime_module, "LOOK_S", 0.05)
    monkeypatch.setattr(membership, "_POLL_S", 0.02)


@pytest.fixture
def start(store: Store, database_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts servers with a name and a shelf of their own on one database."""
    with ExitStack() as stack:

        def started(name: str, shelf: Shelf, **settings: Any) -> tuple[Flask, Runtime]:
            (tmp_path / name).mkdir()
            given = {"database_url": database_url, "instance": name} | settings
            return stack.enter_context(serving(tmp_path / name, shelf, **given))

        yield started


def ready(app: Flask) -> tuple[int, str]:
    answer = app.test_client().get("/readyz")
    return answer.status_code, answer.get_json().get("detail") or answer.get_json()["ensemble"]


def until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        threading.Event().wait(0.05)
    pytest.fail("not so after 30 s")


def test_a_swap_on_one_server_is_a_swap_on_all_and_says_so(start: Start) -> None:
    one, runtime = start("one", Shelf())
    two, other = start("two", Shelf())
    swapped = runtime.service.swap(Swap(("c",), author="eva"))
    assert swapped == InService("c#0", ("c",), "a+b#0", None, (OnReplica("two", "serves"),))
    assert [batch(app).headers["X-Ensemble"] for app in (one, two)] == ["c#0", "c#0"]
    assert runtime.service.generation == other.service.generation == 2
    wanted = runtime.store.fleet.standing().wanted
    assert wanted is not None
    assert (wanted.author, wanted.instance) == ("eva", "one")


def test_a_rollback_on_one_server_is_a_rollback_on_all(start: Start) -> None:
    one, runtime = start("one", Shelf())
    two, other = start("two", Shelf())
    runtime.service.swap(Swap(("c",)))
    back = other.service.rollback()
    assert (back.ensemble, back.others) == ("a+b#0", (OnReplica("one", "serves"),))
    assert [batch(app).headers["X-Ensemble"] for app in (one, two)] == ["a+b#0", "a+b#0"]


def test_a_rollback_reaches_a_server_that_started_since_by_what_is_on_its_disk(start: Start) -> None:
    _one, runtime = start("one", Shelf())
    runtime.service.swap(Swap(("c",)))
    two, _other = start("two", Shelf())
    assert batch(two).headers["X-Ensemble"] == "c#0"
    assert runtime.service.rollback().others == (OnReplica("two", "serves"),)
    assert batch(two).headers["X-Ensemble"] == "a+b#0"


def test_where_one_server_refuses_none_swaps_and_the_command_says_which_and_why(start: Start) -> None:
    lacking = Shelf()
    one, runtime = start("one", Shelf())
    two, _other = start("two", lacking)
    lacking.fault = ConfigurationError("no weights for c")
    with pytest.raises(Conflict, match=r"^not swapped, on no replica: two refuses: no weights for c$"):
        runtime.service.swap(Swap(("c",)))
    assert [ready(app) for app in (one, two)] == [(200, "a+b#0"), (200, "a+b#0")]


def test_a_server_whose_golden_set_does_not_approve_refuses_with_a_notice_that_names_it(start: Start) -> None:
    drifted = Shelf()
    drifted.drifted = {"c#0"}
    _one, runtime = start("one", Shelf())
    start("two", drifted)
    with pytest.raises(Conflict, match="two refuses: c#0 says `cat` instead of `person`"):
        runtime.service.swap(Swap(("c",)))
    last = runtime.store.notices.all()[-1]
    assert (last.what, last.instance) == ("refused", "two")


def test_a_server_with_other_files_under_the_same_names_refuses(start: Start) -> None:
    newer = Shelf()
    _one, runtime = start("one", Shelf())
    start("two", newer)
    newer.edition = 1
    with pytest.raises(Conflict, match="two refuses: its files make the ensemble c#1, and the other servers serve c#0"):
        runtime.service.swap(Swap(("c",)))


def test_what_serves_is_not_disturbed_while_another_server_is_still_loading(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Shelf()
    one, runtime = start("one", Shelf())
    two, other = start("two", slow)
    loading, go_on = threading.Event(), threading.Event()

    def slowly(models: Any) -> Any:
        loading.set()
        assert go_on.wait(PATIENCE_S)
        return slow.load(models)

    monkeypatch.setattr(other.service, "_load", slowly)
    swapping = Doing(lambda: runtime.service.swap(Swap(("c",))))
    assert loading.wait(PATIENCE_S)
    assert [batch(app).headers["X-Ensemble"] for app in (one, two)] == ["a+b#0", "a+b#0"]
    assert swapping.is_alive()
    go_on.set()
    swapping.join(PATIENCE_S)
    assert isinstance(swapping.outcome, InService)
    assert batch(two).headers["X-Ensemble"] == "c#0"


def test_a_server_whose_settings_name_other_models_serves_what_the_others_serve(start: Start) -> None:
    start("one", Shelf())
    two, _other = start("two", Shelf(), models=("d",))
    assert ready(two) == (200, "a+b#0")


def test_a_server_with_other_files_is_not_ready_beside_others_until_a_swap_it_can_follow(start: Start) -> None:
    newer = Shelf()
    newer.edition = 1
    one, runtime = start("one", Shelf())
    two, _other = start("two", newer)
    status, why = ready(two)
    assert status == 503
    assert "cannot serve generation 1 of the ensemble: its files make the ensemble a+b#1" in why
    assert batch(two).status_code == 503
    assert ready(one) == (200, "a+b#0")
    newer.edition = 0
    assert runtime.service.swap(Swap(("c",))).others == (OnReplica("two", "serves"),)
    assert ready(two) == (200, "c#0")


def test_the_first_server_of_a_new_release_takes_the_lead_and_those_before_are_unready_until_they_are_replaced(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, before = start("one", Shelf())
    assert ready(one) == (200, "a+b#0")
    monkeypatch.setattr(membership, "__version__", "99.0")
    newer = Shelf()
    newer.edition = 1
    two, _ = start("two", newer)
    assert ready(two) == (200, "a+b#1")
    until(lambda: ready(one)[0] == 503)
    before.stop()
    three, _ = start("three", newer)
    assert ready(three) == ready(two) == (200, "a+b#1")


def test_a_server_that_lacks_the_models_of_the_others_is_not_ready_and_says_why(start: Start) -> None:
    lacking = Shelf()
    lacking.fault = ConfigurationError("no weights for b")
    _one, runtime = start("one", Shelf())
    two, other = start("two", lacking)
    assert ready(two) == (503, "this server cannot serve generation 1 of the ensemble: no weights for b")
    with pytest.raises(Conflict, match=r"this server is not ready .* ask another one"):
        other.service.swap(Swap(("c",)))
    lacking.fault = None
    runtime.service.swap(Swap(("c",)))
    assert ready(two) == (200, "c#0")


def test_a_server_that_could_not_serve_what_the_others_do_tries_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RETRY_S", 0.0)
    lacking = Shelf()
    lacking.fault = ConfigurationError("no weights for b")
    start("one", Shelf())
    two, _other = start("two", lacking)
    lacking.fault = None
    until(lambda: ready(two) == (200, "a+b#0"))


def test_once_the_others_are_gone_a_server_serves_its_own_ensemble_for_all(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "RETRY_S", 0.0)
    newer = Shelf()
    newer.edition = 1
    _one, runtime = start("one", Shelf())
    two, _other = start("two", newer)
    assert ready(two)[0] == 503
    runtime.service.leave()
    until(lambda: ready(two) == (200, "a+b#1"))


def test_a_second_server_under_one_name_makes_the_first_unready(start: Start, tmp_path: Path) -> None:
    one, runtime = start("one", Shelf())
    runtime.store.fleet.join("one", "another run")
    runtime.service.beat()
    assert ready(one) == (503, "another server has started as `one`: give each its own `instance`")
    runtime.store.fleet.leave("one", "another run")
    runtime.service.beat()
    assert ready(one) == (200, "a+b#0")
    [replica] = runtime.store.fleet.standing().replicas
    assert replica.generation == 1


def test_notices_name_the_server(start: Start) -> None:
    _one, runtime = start("one", Shelf())
    start("two", Shelf())
    runtime.service.swap(Swap(("c",)))
    until(lambda: len(noticed(runtime)) == 4)
    assert sorted((each.instance, each.ensemble) for each in runtime.store.notices.all()) == [
        ("one", "a+b#0"),
        ("one", "c#0"),
        ("two", "a+b#0"),
        ("two", "c#0"),
    ]


def test_a_server_that_stops_is_not_waited_for(start: Start) -> None:
    _one, runtime = start("one", Shelf())
    _two, other = start("two", Shelf())
    other.stop()
    assert runtime.service.swap(Swap(("c",))).others == ()


def test_one_server_does_the_upkeep_and_another_one_when_it_stops(start: Start) -> None:
    one, runtime = start("one", Shelf())
    two, other = start("two", Shelf())

    def shown() -> list[str]:
        pages = [app.test_client().get("/metrics").text for app in (one, two)]
        return [value for page in pages for value in re.findall(r"^sectorwatch_upkeep (.*)$", page, re.MULTILINE)]

    assert (runtime.service.does_upkeep, other.service.does_upkeep, shown()) == (True, False, ["1.0", "0.0"])
    runtime.stop()
    other.service.beat()
    assert (runtime.service.does_upkeep, other.service.does_upkeep, shown()) == (False, True, ["0.0", "1.0"])


def test_the_upkeep_ends_by_itself_while_the_database_does_not_answer(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    _one, runtime = start("one", Shelf())
    assert runtime.service.does_upkeep
    left_s = runtime.service._membership._upkeep_until_s
    monkeypatch.setattr("server.serving.membership.time.monotonic", lambda: left_s)
    assert not runtime.service.does_upkeep
    assert not runtime.upkeep.convert(runtime._stopping)
