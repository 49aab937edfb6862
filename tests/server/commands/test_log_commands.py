"""`sectorwatch events`, `replay` and `db` read what the server wrote, and say what they did."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from policies.events import ORDER, Event
from server.commands import events, replay
from server.commands.folding import FoldTask, fold_as_accepted, refold_as_accepted
from server.commands.options import Window
from server.commands.upkeep import db
from server.delivery.lines import text_line
from server.domain.errors import ConfigurationError, Unknown
from server.domain.records import LoggedEvent
from server.store import Store, open_store
from server.store.engine import open_engine
from server.store.schema import events as events_table
from tests.server.scenes import YARD, Yard, across, burst
from tests.stand_ins import ManualClock

EVERYTHING = Window(None, None, None, None)


@pytest.fixture
def url(new_sqlite: Callable[[], str]) -> str:
    return new_sqlite()


@pytest.fixture
def yard(tmp_path: Path, url: str, clock: ManualClock) -> Yard:
    """A yard whose walk came in disorder."""
    yard = Yard(tmp_path / "sites", open_store(url, clock), clock)
    bursts = yard.walked(across, 26)
    for each in [*bursts[:5], *bursts[7:], *bursts[5:7]]:
        yard.pipeline.process(each)
    return yard


@pytest.fixture
def run(yard: Yard, url: str) -> Callable[..., Result]:
    def invoke(command: object, *arguments: str) -> Result:
        group = getattr(command, "command")  # noqa: B009  every command module calls its own so
        return CliRunner().invoke(group, [*arguments, "--database", url])

    return invoke


def test_events_prints_the_log_in_order_of_time(run: Callable[..., Result], yard: Yard) -> None:
    lines = run(events, "--full", "--no-withdrawn").stdout.splitlines()
    logged = sorted(yard.store.events(), key=lambda e: (e.event.at, ORDER.index(e.event.kind)))
    assert lines == [text_line(each) for each in logged]
    assert lines[0].startswith("2026-11-22T07:00:01.500Z entered yard/gate person west ")


def test_events_prints_json_and_filters(run: Callable[..., Result]) -> None:
    lines = run(
        events, "--json", "--no-withdrawn", "--kind", "left", "--site", "yard", "--camera", "gate"
    ).stdout.splitlines()
    assert [(e["kind"], e["sector"]) for e in map(msgspec.json.decode, lines)] == [
        ("left", "west"),
        ("left", "east"),
    ]
    assert run(events, "--camera", "door").stdout == ""


@pytest.mark.parametrize("form", ["--full", "--json"])
def test_since_and_until_bound_events_by_one_time(run: Callable[..., Result], form: str) -> None:
    def shown(*window: str) -> str:
        return run(events, form, "--no-withdrawn", *window).stdout

    middle = "2026-11-22T07:00:12Z"
    assert shown("--until", middle) + shown("--since", middle) == shown()
    assert shown("--since", "2026-11-22T08:00:12+01:00") == shown("--since", middle)
    assert shown("--until", "20w") in ("", shown())


def test_a_time_that_cannot_be_read_is_told_what_can(run: Callable[..., Result]) -> None:
    result = run(events, "--since", "teatime")
    assert result.exit_code == 2
    assert "1h" in result.stderr


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59", "99999999w"])
def test_a_time_of_which_nothing_can_be_stored_is_refused(run: Callable[..., Result], when: str) -> None:
    wrong = run(events, "--since", when)
    assert wrong.exit_code == 2
    assert "outside the years 2000 to 2199" in wrong.stderr


@pytest.mark.parametrize("module", [events, replay])
def test_a_stretch_that_ends_before_it_begins_is_refused(run: Callable[..., Result], module: object) -> None:
    wrong = run(module, "--since", "1h", "--until", "2h")
    assert (wrong.exit_code, "--until must lie after --since" in wrong.stderr) == (2, True)


@pytest.mark.parametrize("page", [1, 2, 3, 500])
def test_the_log_is_read_page_by_page_whatever_a_page_holds(
    run: Callable[..., Result], yard: Yard, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    for number, each in enumerate(yard.walked(across, 26)):  # a second camera with events at the same instants
        twin = burst(
            number, [frame.image for frame in each.frames], number * 2.0, camera="door", burst_id=f"twin-{number:03}"
        )
        yard.pipeline.process(twin)
    every = yard.store.events(withdrawn=True)
    instants = [e.event.confirmed_at for e in every]
    assert max(map(instants.count, instants)) > 2, "more than a small page at one instant"
    monkeypatch.setattr(events, "_PAGE", page)
    for site, camera, kind in ((None, None, None), ("yard", None, None), ("yard", "gate", None), (None, None, "left")):
        read = events.in_time(yard.store, Window(None, None, site, camera), kind, withdrawn=True)
        assert list(read) == yard.store.events(site=site, camera=camera, kind=kind, withdrawn=True)


def test_following_shows_what_is_said_from_then_on(tmp_path: Path, url: str, clock: ManualClock) -> None:
    store = open_store(url, clock)
    yard = Yard(tmp_path / "sites", store, clock)
    shown: list[LoggedEvent] = []
    stop, enough = threading.Event(), threading.Event()

    def show(page: Sequence[LoggedEvent]) -> None:
        shown.extend(page)
        if len(shown) == 10:
            enough.set()

    follower = threading.Thread(target=events.following, args=(store, show, 0, EVERYTHING, None, stop))
    follower.start()
    try:
        for each in yard.walked(across, 26):
            yard.pipeline.process(each)
        assert enough.wait(timeout=20)
    finally:
        stop.set()
        follower.join(timeout=10)
    assert [logged.seq for logged in shown] == list(range(1, 11))


def test_following_a_quiet_camera_reads_what_others_said_once(yard: Yard, url: str, clock: ManualClock) -> None:
    asked: list[int | None] = []
    stop = threading.Event()

    class Noted(Store):
        def events(self, *given: Any, after_seq: int | None = None, **more: Any) -> list[LoggedEvent]:
            asked.append(after_seq)
            if len(asked) == 3:
                stop.set()
            return super().events(*given, after_seq=after_seq, **more)

    events.following(Noted(open_engine(url), clock), lambda page: None, 0, Window(None, None, None, "door"), None, stop)
    assert asked == [0, yard.store.last_seq(), yard.store.last_seq()]


def test_following_waits_for_a_database_that_is_away_and_misses_nothing(
    yard: Yard, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, away = Path(url.removeprefix("sqlite:///")), tmp_path / "away.sqlite"
    yard.store.close()
    there.rename(away)
    shown: list[int] = []

    class ComesBackAtTheThirdLook(threading.Event):
        looks = 0

        def is_set(self) -> bool:
            self.looks += 1
            if self.looks == 3:
                away.rename(there)
            return self.looks > 4

        def wait(self, timeout: float | None = None) -> bool:
            return False

    stop = ComesBackAtTheThirdLook()
    reader = open_store(f"{url.replace('sqlite:///', 'sqlite:///file:')}?mode=rw&uri=true")
    events.following(reader, lambda page: shown.extend(logged.seq for logged in page), 0, EVERYTHING, None, stop)
    reader.close()
    assert shown == [logged.seq for logged in yard.store.events(after_seq=0)] != []
    assert capsys.readouterr().err.count("does not answer") == 1


def test_following_has_no_end(run: Callable[..., Result]) -> None:
    assert run(events, "--follow", "--until", "1h").exit_code == 2


def test_replay_gives_the_live_events_to_the_last_bit(run: Callable[..., Result], yard: Yard) -> None:
    lines = [msgspec.json.decode(line) for line in run(replay, "--json").stdout.splitlines()]
    live = [msgspec.json.decode(msgspec.json.encode(logged.event)) for logged in yard.store.events()]
    facts = [{name: line[name] for name in Event.__struct_fields__} for line in lines]
    assert facts == live


def test_replay_from_an_instant_gives_the_events_from_that_instant(run: Callable[..., Result]) -> None:
    def ids(text: str) -> list[str]:
        return [msgspec.json.decode(line)["id"] for line in text.splitlines()]

    since = ("--since", "2026-11-22T07:00:12Z", "--json")
    assert ids(run(replay, *since).stdout) == ids(run(events, "--no-withdrawn", *since).stdout)
    until = ("--until", "2026-11-22T07:00:12Z", "--json")
    assert ids(run(replay, *until).stdout) == ids(run(events, "--no-withdrawn", *until).stdout)


def test_from_an_instant_on_the_log_is_told_even_where_the_policy_changed_around_it(
    tmp_path: Path, url: str, clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", open_store(url, clock), clock)
    blind = YARD.replace("sectors.west]", 'sectors.west]\ntargets = ["vehicle"]')
    for number, each in enumerate(yard.walked(lambda t: 0.49 if 20 <= t < 30 else None, 60, per_burst=1)):
        yard.write(blind if number == 50 else YARD)  # for half a second, in which the presence is given up
        clock.advance(10)
        yard.pipeline.process(each)
    since_us = list(yard.store.history("yard", "gate"))[51].observation.at_us
    task = FoldTask(url, "yard", "gate", since_us=since_us)
    logged = [e.event for e in yard.store.events(since_us)]
    assert fold_as_accepted(task) == refold_as_accepted(task).events == logged
    assert [event.kind for event in logged].count("presence_ended") == 1


def test_check_proves_that_the_log_is_what_replay_gives(run: Callable[..., Result]) -> None:
    result = run(replay, "--check")
    assert result.exit_code == 0
    assert result.stdout == "The log equals the replay: 10 events of 1 camera, bit for bit.\n"
    assert run(replay, "--check", "--since", "2026-11-22T07:00:12Z").exit_code == 0


def test_check_finds_a_log_that_was_tampered_with(run: Callable[..., Result], yard: Yard) -> None:
    first, second, third, *_ = (logged.event.id for logged in yard.store.events())
    alter(yard.store, first, withdrawn_at_us=1)
    alter(yard.store, second, started_at_us=1)
    alter(yard.store, third, id="0" * 32)
    result = run(replay, "--check")
    assert result.exit_code == 1
    shown = sorted(line.partition(":")[0] for line in result.stdout.splitlines())
    assert shown == [
        "missing from the log",
        "missing from the log",
        "only in the log",
        "reported differently in the log",
    ]
    assert "4 differences" in result.stderr


def alter(store: Store, event_id: str, **columns: object) -> None:
    with store._engine.begin() as connection:
        connection.execute(update(events_table).where(events_table.c.id == event_id).values(columns))


def test_another_policy_runs_over_the_past_without_the_models(
    run: Callable[..., Result], yard: Yard, tmp_path: Path
) -> None:
    file = tmp_path / "strict.toml"
    file.write_text(YARD.replace('site = "yard"', 'site = "yard"\nmin_score = {"*" = 0.95}'), encoding="utf-8")
    asked = len(yard.ensemble.asked)
    assert run(replay, "--policy", str(file)).stdout == ""
    assert len(yard.ensemble.asked) == asked


def test_replay_folds_several_cameras_side_by_side(run: Callable[..., Result], yard: Yard) -> None:
    for n, each in enumerate(yard.walked(across, 26)):
        yard.pipeline.process(replace(each, camera="door", burst_id=f"burst-door-{n:03d}", digest=f"door {n}"))
    for given in ((), ("--policy", str(yard.folder / "yard.toml"))):
        shown = [msgspec.json.decode(line) for line in run(replay, "--json", *given).stdout.splitlines()]
        assert [e["id"] for e in shown] == [e.event.id for c in ("door", "gate") for e in yard.store.events(camera=c)]
    assert "14 events of 2 cameras" in run(replay, "--check").stdout


def test_replay_under_another_policy_from_an_instant_tells_what_it_would_have_told(
    run: Callable[..., Result], yard: Yard, tmp_path: Path
) -> None:
    file = tmp_path / "slow.toml"
    file.write_text(YARD.replace('site = "yard"', 'site = "yard"\npresence.confirm_s = 3'), encoding="utf-8")
    whole = run(replay, "--policy", str(file), "--json").stdout.splitlines()
    late = run(replay, "--policy", str(file), "--json", "--since", "2026-11-22T07:00:12Z").stdout.splitlines()
    assert late == [line for line in whole if msgspec.json.decode(line)["confirmed_at"] >= "2026-11-22T07:00:12"]
    assert 0 < len(late) < len(whole)


def test_replay_of_a_camera_that_never_sent_names_those_that_did(run: Callable[..., Result]) -> None:
    result = run(replay, "--camera", "gaet")
    assert isinstance(result.exception, Unknown)
    assert result.exception.detail == "nothing is stored of any site/gaet; did you mean `gate`?"


def test_a_policy_that_cannot_be_used_is_told_with_its_line(run: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('site = "yard"\ntragets = ["person"]', encoding="utf-8")
    result = run(replay, "--policy", str(file))
    assert result.exit_code == 2
    assert "line 2" in result.stderr
    assert run(replay, "--policy", str(tmp_path / "none.toml")).exit_code == 2
    file.write_text('site = "yard"', encoding="utf-8")
    assert run(replay, "--policy", str(file), "--site", "dock").exit_code == 2
    assert run(replay, "--policy", str(file), "--check").exit_code == 2


def test_a_database_without_tables_is_told_how_to_get_them(tmp_path: Path) -> None:
    result = CliRunner().invoke(events.command, ["--data-dir", str(tmp_path / "data")])
    assert isinstance(result.exception, ConfigurationError)
    assert "has no tables: `sectorwatch db upgrade`" in result.exception.detail
    assert list(tmp_path.iterdir()) == [], "asking made no database"


def test_db_upgrade_makes_the_tables_and_db_info_counts_what_is_in_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/data/new.sqlite"
    result = CliRunner().invoke(db.command, ["upgrade", "--database", url])
    assert result.stdout == f"{url}: schema 0018 (was none)\n"
    assert "schema    0018\n" in CliRunner().invoke(db.command, ["info", "--database", url]).stdout


def test_db_backup_makes_a_copy_that_opens(run: Callable[..., Result], url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    result = CliRunner().invoke(db.command, ["backup", str(copy), "--database", url])
    assert result.stdout.startswith(f"{copy}: 0.")
    shown = [CliRunner().invoke(events.command, ["--database", each]).stdout for each in (url, f"sqlite:///{copy}")]
    assert shown[0] == shown[1] != ""


def test_db_info_tells_where_each_camera_stands_and_what_columns_mean(run: Callable[..., Result], url: str) -> None:
    shown = CliRunner().invoke(db.command, ["info", "--database", url]).stdout
    assert "yard/gate advanced to 2026-11-22T07:00:25.500Z" in shown
    columns = CliRunner().invoke(db.command, ["info", "--columns", "--database", url]).stdout
    assert "    at_us: Instant of the frame (us). Orders a camera's frames." in columns
