"""What a server does about models that no longer answer as approved."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import pytest
from flask import Flask

from server.app.runtime import Runtime
from server.delivery.log_channel import LogChannel
from server.domain.announcements import Outgoing
from server.domain.errors import Conflict
from server.serving.swap import Swap
from tests.server.swaps import PATIENCE_S, Doing, Shelf, batch, noticed, serving
from tests.stand_ins import RecordingChannel


def test_a_golden_set_that_fails_while_serving_makes_the_server_unready_until_it_passes_again(
    served: tuple[Flask, Runtime], shelf: Shelf
) -> None:
    app, runtime = served
    assert runtime.service.recheck()
    shelf.drifted = {"a+b#0"}
    assert runtime.service.recheck()
    for path in ("/readyz", "/models"):
        answer = app.test_client().get(path)
        assert (answer.status_code, answer.get_json()["detail"]) == (503, "a+b#0 says `cat` instead of `person`")
    assert batch(app).status_code == 503
    assert runtime.service.recheck()
    shelf.drifted = set()
    assert runtime.service.recheck()
    assert app.test_client().get("/readyz").status_code == 200
    assert noticed(runtime) == [("serves", "a+b#0"), ("unapproved", "a+b#0"), ("approved", "a+b#0")]
    counted = app.test_client().get("/metrics").text
    assert 'sectorwatch_golden_checks_total{outcome="failed"} 2.0' in counted


def test_a_golden_set_that_fails_is_told_on_every_channel_and_so_is_that_it_passes_again(
    tmp_path: Path, shelf: Shelf
) -> None:
    class Logged(RecordingChannel):
        def send(self, announcement: Outgoing) -> None:
            LogChannel("text", log).send(announcement)
            super().send(announcement)

    heard, log, logged = RecordingChannel(), io.StringIO(), Logged("log")
    with serving(tmp_path, shelf, channels=[heard, logged]) as (_app, runtime):
        for drifted in ({"a+b#0"}, {"a+b#0"}, set[str]()):
            shelf.drifted = drifted
            runtime.service.recheck()
        runtime.dispatcher.wake()
        heard.wait_for(3)
        logged.wait_for(3)
    assert [(one.what, one.detail) for one in heard.notices[1:]] == [
        ("unapproved", "a+b#0 says `cat` instead of `person`"),
        ("approved", "answers as approved again"),
    ]
    assert [line.split()[1] for line in log.getvalue().splitlines()] == ["serves", "unapproved", "approved"]


def test_a_golden_set_that_fails_at_a_swap_is_counted_noticed_and_told(tmp_path: Path, shelf: Shelf) -> None:
    heard = RecordingChannel()
    with serving(tmp_path, shelf, channels=[heard]) as (app, runtime):
        shelf.drifted = {"c#0"}
        with pytest.raises(Conflict, match="not swapped: c#0 says `cat`"):
            runtime.service.swap(Swap(("c",)))
        heard.wait_for(2)
        counted = app.test_client().get("/metrics").text
        assert batch(app).headers["X-Ensemble"] == "a+b#0"
    assert [(one.what, one.ensemble, one.models) for one in heard.notices[1:]] == [("refused", "c#0", ("c",))]
    assert 'sectorwatch_golden_checks_total{outcome="failed"} 1.0' in counted


def test_what_was_noticed_while_the_database_was_away_is_kept_and_told_once_it_is_back(
    tmp_path: Path, shelf: Shelf
) -> None:
    heard = RecordingChannel()
    with serving(tmp_path, shelf, channels=[heard]) as (_app, runtime):
        shelf.drifted = {"a+b#0"}
        with sqlite3.connect(tmp_path / "sectorwatch.sqlite") as database:
            database.execute("ALTER TABLE notices RENAME TO away")
        assert not runtime.service.recheck(), "to be done again soon"
        assert not runtime.service.is_approved
        with sqlite3.connect(tmp_path / "sectorwatch.sqlite") as database:
            database.execute("ALTER TABLE away RENAME TO notices")
        assert runtime.service.recheck()
        assert runtime.service.recheck()
        heard.wait_for(2)
    assert [one.what for one in heard.notices] == ["serves", "unapproved"]


def test_a_notice_that_the_database_does_not_take_yet_is_one_line_without_a_traceback(
    tmp_path: Path, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tmp_path, shelf) as (_app, runtime):
        shelf.drifted = {"a+b#0"}
        with sqlite3.connect(tmp_path / "sectorwatch.sqlite") as database:
            database.execute("ALTER TABLE notices RENAME TO away")
        assert not runtime.service.recheck()
        with sqlite3.connect(tmp_path / "sectorwatch.sqlite") as database:
            database.execute("ALTER TABLE away RENAME TO notices")
    records = [record for record in caplog.records if record.getMessage() == "notice not kept yet"]
    assert records
    assert not any(record.exc_info for record in records)
    assert all("nothing was changed" in record.__dict__["cause"] for record in records)


def test_models_that_failed_their_golden_set_can_be_swapped_for_others(
    served: tuple[Flask, Runtime], shelf: Shelf
) -> None:
    app, runtime = served
    shelf.drifted = {"a+b#0"}
    runtime.service.recheck()
    runtime.service.swap(Swap(("c",)))
    assert batch(app).headers["X-Ensemble"] == "c#0"
    with pytest.raises(Conflict, match="a\\+b#0 says `cat`"):
        runtime.service.rollback()


def test_a_check_that_ends_after_a_swap_says_nothing_of_the_new_ensemble(
    served: tuple[Flask, Runtime], shelf: Shelf
) -> None:
    app, runtime = served
    old = shelf.loaded["a+b#0"]
    shelf.drifted = {"a+b#0"}
    old.asking.clear()
    old.gate.clear()
    checking = Doing(runtime.service.recheck)
    assert old.asking.wait(PATIENCE_S)
    runtime.service.swap(Swap(("c",)))
    old.gate.set()
    checking.join(PATIENCE_S)
    assert checking.outcome is False
    assert app.test_client().get("/readyz").status_code == 200


def test_a_server_replays_its_golden_set_by_itself(tmp_path: Path, shelf: Shelf) -> None:
    with serving(tmp_path, shelf, golden_every_s=0.01):
        for _ in range(3):
            shelf.checked.clear()
            assert shelf.checked.wait(PATIENCE_S)


def test_an_ensemble_that_is_not_approved_at_start_is_not_served_until_it_is_swapped(
    tmp_path: Path, shelf: Shelf
) -> None:
    shelf.drifted = {"a+b#0"}
    with serving(tmp_path, shelf) as (app, runtime):
        assert "says `cat`" in app.test_client().get("/readyz").get_json()["detail"]
        assert noticed(runtime) == [("unapproved", "a+b#0")]
        shelf.drifted = set()
        runtime.service.swap(Swap(("a", "b")))
        assert app.test_client().get("/readyz").status_code == 200
