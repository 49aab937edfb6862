"""Sites in the database: what judges a burst is what is in force in its turn, whoever changes it meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from policies.site.site_policy import parse_site_policy
from server.commands.options import local_of
from server.domain.burst import Burst
from server.domain.errors import DatabaseUnavailable, RetryLater
from server.domain.policy_versions import PolicyVersion
from server.domain.records import Entry
from server.pipeline.chosen_sites import sites_of, texts_of
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_imports import PolicyFile, import_policies, remove_policy
from server.pipeline.site_policies import Standing
from server.pipeline.stored_sites import StoredSites
from server.settings import ServerSettings
from server.store import Store, open_store
from server.store.turn import Turn
from tests.server.scenes import YARD, Yard, across
from tests.stand_ins import Answers, ManualClock

DATABASE = ServerSettings(sites="database")
OTHER = f"{YARD}\n[presence]\nclear_s = 5\n"
MOVED = YARD.replace("0.5", "0.4")


def put(store: Store, text: str) -> None:
    file = PolicyFile(Path("yard.toml"), text, parse_site_policy(text))
    import_policies(store.policy_versions, [file], "ann", again=True)


def digest(text: str) -> str:
    return parse_site_policy(text).digest


class StoredYard(Yard):
    """A yard whose policy is in the database. `meanwhile` is done each time that the models have answered."""

    def __init__(self, folder: Path, store: Store, clock: ManualClock) -> None:
        super().__init__(folder, store, clock)
        put(store, YARD)
        self.meanwhile: list[Callable[[], None]] = []
        answer = self.ensemble.answer

        def answered(*asked: object) -> list[Answers]:
            answers = answer(*asked)  # type: ignore[arg-type]
            if self.meanwhile:
                self.meanwhile.pop(0)()
            return answers

        self.ensemble.answer = answered  # type: ignore[assignment, method-assign]
        self.pipeline = Pipeline(self.ensemble, store, sites_of(DATABASE, store), clock)


@pytest.fixture
def yard(tmp_path: Path, store: Store, clock: ManualClock) -> StoredYard:
    return StoredYard(tmp_path / "sites", store, clock)


@pytest.fixture
def elsewhere(database_url: str) -> Iterator[Store]:
    """The database as another server has it."""
    with closing(open_store(database_url)) as another:
        yield another


def test_a_burst_is_judged_by_what_another_server_has_put_in_force_before_it(
    yard: StoredYard, elsewhere: Store
) -> None:
    assert yard.pipeline.process(yard.walk(1, across, 0)).burst.policy == digest(YARD)
    put(elsewhere, OTHER)
    assert yard.pipeline.process(yard.walk(2, across, 2)).burst.policy == digest(OTHER)
    assert len(yard.ensemble.asked) == 2


def test_a_policy_put_in_force_while_a_burst_is_judged_judges_it_without_asking_the_models_again(
    yard: StoredYard, elsewhere: Store
) -> None:
    yard.meanwhile = [lambda: put(elsewhere, OTHER)]
    receipt = yard.pipeline.process(yard.walk(1, across, 0))
    assert (receipt.known, receipt.burst.policy) == (False, digest(OTHER))
    assert len(yard.ensemble.asked) == 1
    assert yard.store.is_judged_alike("burst-00001", receipt.burst.judgements)


def test_models_are_asked_again_where_the_new_policy_shows_them_other_parts_of_the_picture(
    yard: StoredYard, elsewhere: Store
) -> None:
    yard.meanwhile = [lambda: put(elsewhere, MOVED)]
    assert yard.pipeline.process(yard.walk(1, across, 0)).burst.policy == digest(MOVED)
    first, second = yard.ensemble.crops
    assert (len(yard.ensemble.asked), first != second) == (2, True)


def test_a_policy_that_changes_again_and_again_ends_in_a_later_try_with_nothing_stored(
    yard: StoredYard, elsewhere: Store
) -> None:
    yard.meanwhile = [lambda: put(elsewhere, MOVED), lambda: put(elsewhere, YARD)] * 5
    burst = yard.walk(1, across, 0)
    with pytest.raises(RetryLater, match="changed 5 times while a burst was judged; nothing was stored"):
        yard.pipeline.process(burst)
    assert yard.store.counts()["bursts"] == 0
    yard.meanwhile = []
    assert not yard.pipeline.process(burst).known


def test_a_policy_removed_while_a_burst_is_judged_leaves_the_burst_to_its_agent(
    yard: StoredYard, elsewhere: Store
) -> None:
    yard.meanwhile = [lambda: remove_policy(elsewhere.policy_versions, "yard", "ann") and None]
    with pytest.raises(RetryLater, match="unknown site `yard`: `sectorwatch policy import FILE`"):
        yard.pipeline.process(yard.walk(1, across, 0))
    assert yard.store.counts()["bursts"] == 0


def test_the_log_of_a_changing_policy_equals_the_one_of_a_folder_whose_file_changes_alike(
    yard: StoredYard, tmp_path: Path, clock: ManualClock, new_sqlite: Callable[[], str], elsewhere: Store
) -> None:
    with closing(open_store(new_sqlite(), clock)) as other:
        folder = Yard(tmp_path / "folder", other, clock)
        folder.ensemble = yard.ensemble
        folder.pipeline._ensemble = yard.ensemble
        for number, burst in enumerate(yard.walked(across, 26)):
            text = (YARD, OTHER, MOVED)[number % 3]
            put(elsewhere, text)
            folder.write(text)
            yard.pipeline.process(burst)
            folder.pipeline.process(burst)
        stored, filed = ([each.event for each in store.events()] for store in (yard.store, other))
    assert len(stored) > 5
    assert stored == filed


def test_no_camera_goes_back_to_an_older_version_however_many_judge_and_change_it_at_once(
    yard: StoredYard, elsewhere: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    keep = Turn.keep

    def noted(turn: Turn, entry: Entry) -> None:
        keep(turn, entry)
        kept.append(entry.policy.digest)  # the camera is locked until its commit

    monkeypatch.setattr(Turn, "keep", noted)
    another = Pipeline(yard.ensemble, elsewhere, sites_of(DATABASE, elsewhere), clock)
    servers = ((yard.store, yard.pipeline), (elsewhere, another))

    def changed_and_sent(number: int, burst: Burst) -> None:
        store, pipeline = servers[number % 2]
        put(store, f"{YARD}\n[presence]\nclear_s = {5 + number}\n")
        while True:
            try:
                pipeline.process(burst)
                return
            except RetryLater:  # it changed five times meanwhile: agents send again
                continue

    bursts = yard.walked(across, 48)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(changed_and_sent, *each) for each in enumerate(bursts)]:
            done.result()
    versions = {each.digest: each.number for each in yard.store.policy_versions.of_site("yard", 50)}
    numbers = [versions[each] for each in kept]
    assert (len(numbers), numbers) == (len(bursts), sorted(numbers))
    assert len({*numbers}) > 1


def test_a_folder_costs_no_question_about_versions(
    tmp_path: Path, store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("asked")

    yard = Yard(tmp_path / "sites", store, clock)
    monkeypatch.setattr("server.store.turn.Turn.policy_version", asked)
    assert not yard.pipeline.process(yard.walk(1, across, 0)).known


class Away:
    """Versions of a database that can go away."""

    def __init__(self, *texts: str) -> None:
        self.texts = dict(enumerate(texts, 1))
        self.is_away = False

    def judging(self, site: str) -> PolicyVersion | None:
        number = self.number_judging(site)
        return number and PolicyVersion(number, site, self.texts[number], "", None, None, "ann", None, 0)

    def number_judging(self, site: str) -> int | None:
        return self.numbers_judging().get(site)

    def numbers_judging(self) -> dict[str, int]:
        if self.is_away:
            raise DatabaseUnavailable("away")
        return {"yard": max(self.texts)} if self.texts else {}


def test_while_the_database_does_not_answer_what_was_read_last_is_shown() -> None:
    kept = Away(YARD)
    sites = StoredSites(kept)
    kept.is_away = True
    with pytest.raises(DatabaseUnavailable):
        sites.edition("yard")
    kept.is_away = False
    assert sites.edition("yard").version == 1
    kept.is_away = True
    assert (sites.edition("yard").version, sites.sites(), sites.faults()) == (1, ("yard",), {})


def test_a_policy_that_this_release_cannot_use_judges_nothing_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    kept = Away(YARD)
    sites = StoredSites(kept)
    assert sites.standing("yard") == Standing(parse_site_policy(YARD), None, "file", (), 1)
    kept.texts[2] = 'site = "yard"\nfrom_next_year = 1\n'
    with pytest.raises(RetryLater, match=r"judge site `yard`: version 2 in the database: line 2: from_next_year"):
        sites.edition("yard")
    assert sites.standing("yard").in_force == "none"
    assert "upgrade this server" in sites.faults()["yard"]
    assert sites.sites() == ()
    assert [record.getMessage() for record in caplog.records] == ["site policy refused"]


def test_each_change_is_a_line_of_the_log_of_each_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kept = Away(YARD)
    sites = StoredSites(kept)
    for _ in range(2):
        sites.faults()
    kept.texts[2] = OTHER
    assert sites.edition("yard").version == 2
    assert sites.policy("yard").digest == digest(OTHER)
    kept.texts.clear()
    assert sites.sites() == ()
    heard = [(record.getMessage(), record.__dict__.get("version")) for record in caplog.records]
    assert heard == [("site policy in force", 1), ("site policy in force", 2), ("site policy gone", None)]


def test_texts_in_force_are_those_of_the_database(store: Store) -> None:
    assert texts_of(DATABASE, store) == {}
    put(store, OTHER)
    assert texts_of(DATABASE, store) == {"yard": OTHER}


def test_commands_show_the_local_time_of_the_policy_in_the_database(yard: StoredYard) -> None:
    yard.pipeline.process(yard.walk(1, across, 0))
    put(yard.store, YARD.replace('site = "yard"', 'site = "yard"\ntimezone = "Asia/Tokyo"'))
    assert local_of(DATABASE, yard.store, "yard").zone == ZoneInfo("Asia/Tokyo")
