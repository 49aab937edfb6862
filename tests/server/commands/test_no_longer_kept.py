"""Commands say "no longer kept" of what retention or an erasure removed: never "nothing seen", never "tampered"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import delete, select

from policies.events import microseconds
from server.__main__ import command
from server.analysis.annotations import annotation_of
from server.domain.keeping import DAY_US, Keep
from server.store import open_store
from server.store.retention import slices
from server.store.schema import burst_records
from tests.server.scenes import START_US, YARD, Yard, across, there_and_back
from tests.stand_ins import ManualClock

SECOND = 1_000_000
AT = "2026-11-22T07:0{}:30Z"


@pytest.fixture
def url(new_sqlite: Callable[[], str]) -> str:
    return new_sqlite()


@pytest.fixture
def yard(tmp_path: Path, url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A walk in the first minute, and one in the third."""
    monkeypatch.setattr(slices, "AT_ONCE", 2)
    yard = Yard(tmp_path / "sites", open_store(url, clock), clock)
    later = [yard.walk(100 + n, lambda t: there_and_back(t - 120), 120 + 2 * n) for n in range(16)]
    for one in yard.walked(across, 26) + later:
        yard.pipeline.process(one)
    return yard


@pytest.fixture
def run(yard: Yard, url: str, tmp_path: Path) -> Callable[..., Result]:
    def invoke(*arguments: str) -> Result:
        places = ["--database", url, "--sites", str(tmp_path / "sites"), "--data-dir", str(tmp_path)]
        return CliRunner().invoke(command, [*arguments, *places])

    return invoke


@pytest.fixture
def swept(yard: Yard) -> Yard:
    """The first walk's bursts are no longer kept."""
    assert yard.store.retention.sweep(lambda _site: Keep(observations_days=60 * SECOND / DAY_US)).bursts == 13
    return yard


@pytest.fixture
def erased(yard: Yard) -> Yard:
    """What came from 07:00:08 to 07:00:14 was erased."""
    args = ("yard", "gate", START_US + 8 * SECOND, START_US + 14 * SECOND)
    yard.store.retention.erase(*args, author="Ada", note="asked by letter")
    return yard


def test_explain_says_of_a_minute_without_bursts_that_they_are_no_longer_kept(
    swept: Yard, run: Callable[..., Result]
) -> None:
    shown = run("explain", "--at", AT.format(0))
    assert shown.exit_code == 0, shown.output
    assert "its bursts of" in shown.stdout.splitlines()[0]
    assert "no longer kept" in shown.stdout
    assert "UNOBSERVED" not in shown.stdout
    assert "missing" not in shown.stdout
    earlier = run("explain", "--at", "2026-11-22T06:30Z").stdout
    assert "is no longer kept: older than the site keeps" in earlier
    wire = msgspec.json.decode(run("explain", "--json", "--at", AT.format(0)).stdout)
    assert wire["gone"] == [{"since_us": START_US, "until_us": START_US + 26 * SECOND - 500_000 + 1}]


def test_explain_names_the_erasure(erased: Yard, run: Callable[..., Result]) -> None:
    shown = run("explain", "--at", AT.format(0))
    assert "erased on request (erasure 1)" in shown.stdout
    assert [line for line in shown.stdout.splitlines() if line.startswith("UNOBSERVED")] == [
        line for line in shown.stdout.splitlines() if "07:00:25 to 2026-11-22 07:01:00" in line
    ]


def test_verify_says_what_is_no_longer_kept_and_ends_with_4(swept: Yard, run: Callable[..., Result]) -> None:
    old = swept.store.events()[0].event
    shown = run("verify", old.id)
    assert shown.exit_code == 4
    assert "FAIL" not in shown.stdout
    assert "gone recomputed from its votes: its votes are no longer kept" in shown.stdout
    assert "checks hold; what the others take is no longer kept" in shown.stdout
    wire = msgspec.json.decode(run("verify", "--json", old.id).stdout)
    assert wire["holds"] is False
    assert {check["is_gone"] for check in wire["checks"] if not check["holds"]} == {True}
    new = swept.store.events()[-1].event
    assert run("verify", new.id).exit_code == 0
    assert run("verify", "--from-start", new.id).exit_code == 0


def test_verify_still_finds_a_burst_that_somebody_deleted(swept: Yard, run: Callable[..., Result]) -> None:
    new = swept.store.events()[-1].event
    with swept.store._engine.begin() as connection:
        last = select(burst_records.c.number).order_by(burst_records.c.number.desc()).limit(8)
        connection.execute(delete(burst_records).where(burst_records.c.number.in_(last)))
    shown = run("verify", new.id)
    assert shown.exit_code in (1, 4)


def test_an_id_of_an_erased_event_may_be_one_that_is_no_longer_kept(yard: Yard, run: Callable[..., Result]) -> None:
    of_erased = next(e.event for e in yard.store.events() if microseconds(e.event.at) > START_US + 8 * SECOND)
    args = ("yard", "gate", START_US + 8 * SECOND, START_US + 14 * SECOND)
    yard.store.retention.erase(*args, author="Ada")
    for asked in (("verify", of_erased.id), ("annotate", of_erased.id, "true")):
        shown = run(*asked)
        assert shown.exit_code == 1
        assert "no longer kept, erased on request (erasure 1)" in shown.stderr


def test_replay_compares_what_is_left_and_counts_what_is_not(swept: Yard, run: Callable[..., Result]) -> None:
    shown = run("replay", "--check")
    assert (shown.exit_code, "bit for bit" in shown.stdout) == (0, True)
    assert "events of the log are not compared: their bursts are no longer kept." in shown.stderr
    assert "bursts before" in shown.stderr


def test_replay_of_an_erased_stretch_equals_the_log_of_the_rest(erased: Yard, run: Callable[..., Result]) -> None:
    shown = run("replay", "--check")
    assert (shown.exit_code, "bit for bit" in shown.stdout) == (0, True), shown.output
    assert "erased on request" in shown.stderr


def test_events_say_which_of_them_are_no_longer_kept(erased: Yard, run: Callable[..., Result]) -> None:
    shown = run("events", "--json", "--since", "2026-11-22T07:00:00Z", "--until", "2026-11-22T07:01:00Z")
    assert "yard/gate" in shown.stderr
    assert "no longer kept, erased on request (erasure 1)" in shown.stderr
    assert "no longer kept" not in shown.stdout
    later = run("events", "--since", "2026-11-22T07:01:00Z")
    assert "no longer kept" not in later.stderr


def test_events_say_before_when_they_are_no_longer_kept(yard: Yard, run: Callable[..., Result]) -> None:
    yard.store.retention.sweep(lambda _site: Keep(events_days=60 * SECOND / DAY_US))
    assert "events before" in run("events").stderr
    assert run("replay", "--check").exit_code == 0


def test_compare_leaves_out_what_one_side_cannot_have(swept: Yard, run: Callable[..., Result]) -> None:
    policy = swept.folder / "yard.toml"
    shown = run("compare", "live", str(policy))
    assert shown.exit_code == 0, shown.output
    assert "these 0 differ" in shown.stdout


def test_tune_leaves_out_annotated_facts_without_bursts(yard: Yard, run: Callable[..., Result], tmp_path: Path) -> None:
    old, new = yard.store.events()[0].event, yard.store.events()[-1].event
    yard.store.annotations.add([annotation_of(yard.store, each.id, "true", "Ada") for each in (old, new)])
    yard.store.retention.sweep(lambda _site: Keep(observations_days=60 * SECOND / DAY_US, annotated=False))
    shown = run("tune", "yard", "--most", "2", "--out", str(tmp_path / "out"))
    assert "1 annotated facts are left out: their bursts are no longer kept." in shown.stderr


def test_erase_removes_a_stretch_and_lists_that_it_did(yard: Yard, run: Callable[..., Result]) -> None:
    when = ("--since", "2026-11-22T07:00:08Z", "--until", "2026-11-22T07:00:14Z")
    done = run("erase", "--site", "yard", "--camera", "gate", *when, "--author", "Ada", "--note", "asked by letter")
    assert done.exit_code == 0, done.output
    listed = run("erase", "--list").stdout
    assert listed == done.stdout
    assert "1  yard/gate" in listed
    assert "3 bursts" in listed
    assert "erased, by Ada at " in listed
    assert "asked by letter" in listed


def test_erase_asks_for_what_it_needs(run: Callable[..., Result]) -> None:
    missing = run("erase", "--site", "yard")
    assert (missing.exit_code, "--since" in missing.stderr) == (2, True)
    when = ("--since", "2026-11-22T07:00:08Z", "--until", "2026-11-22T07:00:14Z")
    assert "did you mean `gate`" in run("erase", "--site", "yard", "--camera", "gat", *when).stderr
    assert run("erase", "--list").stdout == "Nothing was erased.\n"


def test_the_digest_of_a_policy_does_not_know_what_is_kept(yard: Yard) -> None:
    assert "keep_" not in YARD
    assert yard.store.cameras()[0].policy == yard.sites.policy("yard").digest


def test_db_compact_makes_a_file_that_shrinks(run: Callable[..., Result]) -> None:
    shown = run("db", "compact")
    assert (shown.exit_code, "were given back" in shown.stdout) == (0, True)
