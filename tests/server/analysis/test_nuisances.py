"""The nuisance ledger: what recurs weakly at one place and hour is proposed, and never at the cost of a true event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from policies.site.site_policy import parse_site_policy
from server.__main__ import command
from server.analysis.annotations import annotation_of
from server.analysis.nuisances import Detection, nuisances
from server.analysis.policy_diff import difference
from server.commands.current_policy import current_policy
from server.settings import load_settings
from server.store import open_store
from tests.policies.stories import person_at
from tests.server.scenes import START_US, YARD, Yard, burst
from tests.stand_ins import ManualClock

DAY_S, HOUR_S = 86400, 3600
WEB = person_at(0.2, score=0.5)


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Iterator[Yard]:
    """Four evenings with a cobweb on the lamp, and each noon a person who stands elsewhere and is seen firmly."""
    url = new_sqlite()
    store = open_store(url, clock)
    yard = Yard(tmp_path / "sites", store, clock)
    clock.advance(6 * DAY_S)
    for day in range(4):
        stand(yard, day * 10, day * DAY_S, WEB)
        stand(yard, day * 10 + 1, day * DAY_S + 5 * HOUR_S, person_at(0.7, score=0.95))
    yield yard
    store.close()


def stand(yard: Yard, number: int, at_s: float, seen: object, camera: str = "gate") -> None:
    """Something stands in a yard for ten seconds, and then nothing for ten."""
    images = [
        yard.ensemble.teach(f"{number} {at_s} {i}".encode(), {"eye": (seen,) if i < 20 else ()})  # type: ignore[dict-item]
        for i in range(40)
    ]
    yard.pipeline.process(burst(number, images, at_s, camera=camera))


@pytest.fixture
def ask(yard: Yard) -> Callable[..., Result]:
    def invoke(*arguments: str) -> Result:
        options = ["--database", yard.store.name]
        environment = {"SECTORWATCH_SITES_DIR": str(yard.folder)}
        return CliRunner().invoke(command, ["nuisances", "yard", *arguments, *options], env=environment)

    return invoke


NAME = "person at 0.20,0.70 07-08 h"


def test_what_recurs_weakly_is_offered_with_the_events_it_would_have_removed(ask: Callable[..., Result]) -> None:
    shown = ask()
    assert shown.exit_code == 0, shown.output
    assert f"{NAME}: camera gate, 80 times on 4 days, scores to 0.5" in shown.output
    assert shown.output.count("would remove") == 6, "five events shown, and the count of the rest"
    assert "would remove 11 more" in shown.output
    assert "0.70,0.70" not in shown.output, "what is seen firmly is no nuisance"


def proposed(yard: Yard) -> list[str]:
    """The texts of the proposed versions."""
    return [version.text for version in yard.store.policy_versions.of_site("yard", 9)]


def test_what_is_accepted_becomes_a_proposed_version_and_removes_just_that(
    ask: Callable[..., Result], yard: Yard
) -> None:
    live = yard.folder / "yard.toml"
    before = live.read_text()
    shown = ask("--accept", NAME)
    assert "It would have removed 16 events." in shown.output, shown.output
    assert "Version 1 is proposed" in shown.stderr
    assert live.read_text() == before
    [text] = proposed(yard)
    assert [line for line in difference(before, text, "", "") if line.startswith("-") and line != "--- "] == []
    [known] = parse_site_policy(text).camera("gate").suppressions
    assert (known.name, known.max_score, known.targets) == (NAME, 0.5, ("person",))


def test_a_nuisance_that_is_named_twice_is_proposed_once(ask: Callable[..., Result], yard: Yard) -> None:
    assert ask("--accept", NAME, "--accept", NAME).exit_code == 0
    assert [text.count(f'name = "{NAME}"') for text in proposed(yard)] == [1]
    assert ask("--up-to", "7").exit_code == 2


def test_a_name_that_two_cameras_have_is_refused_until_one_of_them_is_named(
    ask: Callable[..., Result], yard: Yard
) -> None:
    _, bracket, tables = YARD.partition("[")
    yard.write(YARD + (bracket + tables).replace("cameras.gate", "cameras.dock"))
    for day in range(4):
        stand(yard, 100 + day, day * DAY_S, WEB, "dock")
    refused = ask("--accept", NAME)
    assert refused.exit_code == 1
    assert f"several cameras have a `{NAME}`: choose with --camera (dock, gate)" in refused.output
    assert ask("--accept", NAME, "--camera", "dock").exit_code == 0
    [text] = proposed(yard)
    assert [len(parse_site_policy(text).camera(camera).suppressions) for camera in ("dock", "gate")] == [1, 0]


def test_with_a_live_file_that_cannot_be_used_it_starts_from_the_version_in_force_and_says_so(
    ask: Callable[..., Result], yard: Yard, tmp_path: Path
) -> None:
    yard.write("sensitivty = 3")
    out = tmp_path / "changed.toml"
    result = ask("--accept", NAME, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "Starts from the last good version, which is in force, since yard.toml, line 1: sensitivty" in result.stderr
    assert parse_site_policy(out.read_text()).camera("gate").suppressions
    assert proposed(yard) == []
    assert ask("--out", str(out)).exit_code == 2


def test_without_a_file_it_starts_from_the_policy_of_the_newest_burst(ask: Callable[..., Result], yard: Yard) -> None:
    first = (yard.folder / "yard.toml").read_text()
    yard.write(first.replace('site = "yard"', 'site = "yard"\npresence = { confirm_s = 9 }'))
    stand(yard, 90, 6 * HOUR_S, WEB)
    yard.write(first)
    stand(yard, 91, 4 * DAY_S, WEB)
    (yard.folder / "yard.toml").unlink()
    assert current_policy(yard.store, load_settings(None, sites_dir=yard.folder), "yard", None) == (first, None)


def test_an_accepted_nuisance_is_not_offered_again(ask: Callable[..., Result], yard: Yard) -> None:
    ask("--accept", NAME)
    yard.write(*proposed(yard))
    assert "no weak detection recurs at the same place and hour on\n3 days or more" in ask().output


def test_what_would_remove_an_event_marked_true_is_neither_offered_nor_accepted(
    ask: Callable[..., Result], yard: Yard
) -> None:
    event = next(e.event for e in yard.store.events() if e.event.sector == "west")
    yard.store.annotations.add([annotation_of(yard.store, event.id, "true", "ann")])
    assert NAME not in ask().output
    refused = ask("--accept", NAME)
    assert refused.exit_code == 1
    assert "would remove 1 events that were annotated as true" in refused.output
    assert proposed(yard) == []


def test_an_event_marked_true_long_before_the_stretch_that_is_looked_at_counts_too(
    ask: Callable[..., Result], yard: Yard
) -> None:
    event = next(e.event for e in yard.store.events() if e.event.sector == "west")
    yard.store.annotations.add([annotation_of(yard.store, event.id, "true", "ann")])
    assert ask("--since", "2026-11-23", "--accept", NAME).exit_code == 1


def test_an_event_marked_false_stands_in_nobodys_way(ask: Callable[..., Result], yard: Yard) -> None:
    event = next(e.event for e in yard.store.events() if e.event.sector == "west")
    yard.store.annotations.add([annotation_of(yard.store, event.id, "false", "ann")])
    assert NAME in ask().output


def test_a_name_that_is_none_and_a_site_that_never_sent_are_told(ask: Callable[..., Result], yard: Yard) -> None:
    assert f"names: {NAME}" in ask("--accept", "nobody").output
    unknown = CliRunner().invoke(command, ["nuisances", "yrd", "--database", yard.store.name])
    assert "nothing is stored of yrd/*; cameras with data: yard/gate" in unknown.output


def piled(*hours_and_days: tuple[int, int], score: float = 0.5, count: int = 3) -> list[Detection]:
    start_us = START_US - 7 * HOUR_S * 1_000_000
    return [
        Detection(start_us + (day * DAY_S + hour * HOUR_S + i) * 1_000_000, "person", (0.1, 0.1, 0.2, 0.3), score)
        for hour, day in hours_and_days
        for i in range(count)
    ]


def hours_and_days(seen: list[Detection]) -> list[tuple[tuple[int, int] | None, int]]:
    gate = parse_site_policy(YARD).camera("gate")
    return [(each.hours, each.days) for each in nuisances(gate, seen, up_to=0.8, days=3)]


def test_it_must_recur_on_enough_days_at_the_same_hour() -> None:
    assert hours_and_days(piled((3, 0), (3, 1), (3, 2))) == [((3, 4), 3)]
    assert hours_and_days(piled((3, 0), (3, 1), (4, 2))) == []
    assert hours_and_days(piled((3, 0), (3, 1))) == []


def test_what_is_there_for_a_moment_only_is_somebody_passing() -> None:
    assert hours_and_days(piled((3, 0), (3, 1), (3, 2), count=2)) == []


def test_hours_that_follow_each_other_are_one_run_over_midnight_too() -> None:
    days = range(3)
    assert hours_and_days(piled(*((hour, day) for hour in (22, 23, 0, 1) for day in days))) == [((22, 2), 3)]
    assert hours_and_days(piled(*((hour, day) for hour in range(24) for day in days))) == [(None, 3)]


def test_a_place_where_things_are_mostly_seen_firmly_is_none() -> None:
    weak = piled((3, 0), (3, 1), (3, 2))
    assert hours_and_days([*weak, *piled((3, 4), score=0.9)]) == []
    assert hours_and_days([*weak, *piled((5, 4), score=0.9)]) == [((3, 4), 3)]


def test_boxes_that_do_not_lie_on_one_another_are_not_one_place() -> None:
    moved = [
        Detection(s.at_us, s.target, (0.3 + i * 0.07, 0.1, 0.4 + i * 0.07, 0.3), 0.5)
        for i, s in enumerate(piled((3, 0), (3, 1), (3, 2)))
    ]
    assert hours_and_days(moved) == []
