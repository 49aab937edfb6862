"""A version is proposed, put in force and taken back: nobody's change is lost, and every step is in the audit."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from server.analysis.policy_diff import applied
from server.domain.errors import Conflict, Unknown, Unprocessable
from server.pipeline.site_versions import LONGEST_WHY
from server.store import Store, open_store
from tests.server.pipeline.versions.folder import CHANGED, KINDS, OTHER, TEXT, Folder
from tests.stand_ins import ManualClock


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Where sites are: what holds in a folder must hold in the database."""
    return str(request.param)


@pytest.fixture
def yard(tmp_path: Path, url: str, clock: ManualClock, kind: str) -> Iterator[Folder]:
    with closing(open_store(url, clock)) as store:
        yield KINDS[kind](tmp_path / "sites", store)


def test_a_version_is_proposed_put_in_force_and_taken_back_on_each_database(
    tmp_path: Path, store: Store, clock: ManualClock, kind: str
) -> None:
    yard = KINDS[kind](tmp_path / "sites", store)
    number = yard.propose(why=" the table  is far ")
    assert yard.text == TEXT
    assert yard.versions.version(number).newest_step == (clock(), "ann")
    clock.advance(60)
    in_force = yard.versions.put_in_force(number, "bob")
    assert yard.text == CHANGED
    assert "# where people sit" in CHANGED
    assert yard.sites.policy("yard").digest == in_force.digest
    assert (in_force.author, in_force.in_force_by, in_force.why) == ("ann", "bob", "the table is far")
    assert in_force.newest_step == (in_force.in_force_at_us, "bob") == (clock(), "bob")
    clock.advance(60)
    taken = yard.versions.take_back(number, "ann")
    assert (taken.newest_step, yard.text) == ((clock(), "ann"), TEXT)
    assert yard.standings() == [(number, "taken back")]
    assert yard.audit() == [
        ("ann", "policy_proposed", "yard", str(number)),
        ("bob", "policy_put_in_force", "yard", str(number)),
        ("ann", "policy_taken_back", "yard", str(number)),
    ]


def test_versions_stand_newest_first_and_the_one_before_is_replaced(yard: Folder) -> None:
    first = yard.propose()
    yard.versions.put_in_force(first, "ann")
    both = applied(CHANGED, {("presence", "clear_s"): 5})
    second = yard.propose(both)
    third = yard.propose(OTHER)
    yard.versions.put_in_force(second, "ann")
    assert yard.standings() == [(third, "proposed"), (second, "in force"), (first, "replaced")]
    yard.versions.take_back(second, "ann")
    assert yard.standings() == [(third, "proposed"), (second, "taken back"), (first, "in force")]


def test_of_two_versions_with_one_text_the_newer_is_in_force_and_the_older_stays_taken_back(yard: Folder) -> None:
    first = yard.propose()
    yard.versions.put_in_force(first, "ann")
    yard.versions.take_back(first, "ann")
    second = yard.propose()
    yard.versions.put_in_force(second, "ann")
    assert yard.standings() == [(second, "in force"), (first, "taken back")]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("put twice", "in force already"),
        ("take a proposal", "only proposed"),
        ("take twice", "taken back already"),
        ("put what was taken back", "propose its text again"),
    ],
)
def test_a_step_out_of_order_is_refused_with_what_to_do(yard: Folder, step: str, said: str) -> None:
    number = yard.propose()
    if step != "take a proposal":
        yard.versions.put_in_force(number, "ann")
    if step in ("take twice", "put what was taken back"):
        yard.versions.take_back(number, "ann")
    last = yard.versions.put_in_force if step.startswith("put") else yard.versions.take_back
    with pytest.raises(Conflict, match=said):
        last(number, "ann")


def test_a_change_made_from_an_older_text_than_the_one_in_force_is_refused(yard: Folder) -> None:
    seen = yard.versions.file("yard").fingerprint
    yard.edit(OTHER)
    with pytest.raises(Conflict, match=r"has changed since you began.*: load the page again"):
        yard.versions.propose("yard", CHANGED, "ann", seen=seen)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT, "nothing is changed"),
        (TEXT.replace("polygon", "polygone"), r"line 5.*did you mean `polygon`"),
        (TEXT.replace('"yard"', '"shop"'), "for site `shop`, not `yard`"),
        ("site = ", "not valid TOML"),
        (TEXT + "#" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_what_cannot_be_a_version_is_refused_with_its_fault(yard: Folder, text: str, said: str) -> None:
    with pytest.raises(Unprocessable, match=said):
        yard.propose(text)
    assert yard.standings() == []


def test_a_reason_has_a_bound(yard: Folder) -> None:
    with pytest.raises(Unprocessable, match="at most 500"):
        yard.propose(why="x" * (LONGEST_WHY + 1))


def test_an_unknown_number_names_the_command_that_lists_them(yard: Folder) -> None:
    with pytest.raises(Unknown, match="sectorwatch policy versions"):
        yard.versions.put_in_force(7, "ann")


def test_the_version_of_another_site_is_as_unknown_as_one_that_is_not_there(yard: Folder) -> None:
    number = yard.propose()
    assert yard.versions.version_of("yard", number).text == CHANGED
    for each in (number, number + 1):
        with pytest.raises(Unknown, match=f"^there is no version {each} of the policy of `shop`$"):
            yard.versions.version_of("shop", each)


def test_a_site_without_a_policy_gets_one_and_it_cannot_be_taken_back(yard: Folder) -> None:
    version = yard.versions.propose("shed", 'site = "shed"\n', "ann")
    yard.versions.put_in_force(version.number, "ann")
    assert yard.sites.edition("shed").text == 'site = "shed"\n'
    with pytest.raises(Conflict, match=f"had no (file|policy) before version {version.number}"):
        yard.versions.take_back(version.number, "ann")


def test_two_versions_put_in_force_at_once_are_one_in_force_and_one_refused(
    tmp_path: Path, store: Store, database_url: str, kind: str
) -> None:
    yard = KINDS[kind](tmp_path / "sites", store)
    numbers = [yard.propose(CHANGED), yard.propose(OTHER)]
    results: list[str] = []
    both = threading.Barrier(2)

    def put(number: int) -> None:
        with closing(open_store(database_url)) as another:  # as two processes would
            versions = yard.elsewhere(another)
            both.wait()
            try:
                results.append(versions.put_in_force(number, "ann").text)
            except Conflict as error:
                results.append(error.detail)

    threads = [threading.Thread(target=put, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert yard.text in results
    [refused] = [result for result in results if result != yard.text]
    assert re.search(r"has changed since version \d was proposed.*: propose the change again", refused)
    [winner] = [number for number, standing in yard.standings() if standing == "in force"]
    assert (kind == "folder") or f"(version {winner} is in force, by ann)" in refused
    assert sorted(standing for _, standing in yard.standings()) == ["in force", "proposed"]
    assert [what for _, what, _, _ in yard.audit()] == ["policy_proposed"] * 2 + ["policy_put_in_force"]
