"""Whoever looks at a day of a site gets the day before quickly: the server has read it meanwhile."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from flask import Flask

from server.app import runtime_of
from tests.server.console.test_day import visit
from tests.server.console.test_statements import counted
from tests.server.web_client import NOW_US, BrightnessEnsemble, make_app
from tests.stand_ins import ManualClock

TODAY, YESTERDAY = "/day/2027-01-15?site=north-yard", "/day/2027-01-14?site=north-yard"
_HOUR_US = 3_600_000_000


def asked(app: Flask, address: str) -> Counter[str]:
    """The statements of a page."""
    with counted(runtime_of(app).store) as statements:
        assert app.test_client().get(address).status_code == 200
    return statements


def test_the_day_before_is_read_once_somebody_looks_at_a_day(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    visit(app.test_client(), "18:00")
    asked(app, TODAY)
    assert runtime_of(app).days_ahead.read() == 1
    again = asked(app, YESTERDAY)

    (tmp_path / "other").mkdir()
    other = make_app(tmp_path / "other", BrightnessEnsemble())
    visit(other.test_client(), "18:00")
    asked(other, TODAY)
    first = asked(other, YESTERDAY)
    assert again.total() < first.total()
    assert again == asked(other, YESTERDAY)


def test_it_is_not_read_again_within_an_hour(tmp_path: Path) -> None:
    clock = ManualClock(NOW_US)
    app = make_app(tmp_path, BrightnessEnsemble(), clock=clock)
    ahead = runtime_of(app).days_ahead
    visit(app.test_client(), "18:00")
    for later_us, count in ((0, 1), (_HOUR_US - 1, 0), (1, 1)):
        clock.now_us += later_us
        asked(app, TODAY)
        asked(app, TODAY)
        assert ahead.read() == count


def test_who_goes_on_to_the_day_before_has_the_next_one_read(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    visit(app.test_client(), "18:00")
    for day in (TODAY, YESTERDAY, YESTERDAY):
        asked(app, day)
    assert runtime_of(app).days_ahead.read() == 2
