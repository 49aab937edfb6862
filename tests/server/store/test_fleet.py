"""The database says which ensemble all servers on it are to serve, and what each of them serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.domain.errors import Conflict
from server.domain.fleet import DATABASE, ROLLED_OUT_S, Generation, Origin, SitesSource, sites_differ
from server.store import Store
from tests.stand_ins import ManualClock

SETTINGS = ("a", "b")


def of(instance: str, *models: str, release: str = "1.0") -> Origin:
    return Origin(instance, release, models or SETTINGS)


@pytest.fixture
def two(store: Store) -> Store:
    """Two replicas that serve the first generation."""
    for name in ("left", "right"):
        store.fleet.join(name, f"{name} 1")
        first = store.fleet.establish(SETTINGS, "a+b", of(name))
        store.fleet.serves(name, f"{name} 1", first, None)
    return store


def ask(store: Store, *models: str, by: str = "left") -> Generation:
    return store.fleet.ask(models, "+".join(models), of(by), "eva")


def believed_us(store: Store) -> int:
    """How long a replica counts as live without a sign of life: on SQLite a sign is seldom."""
    return next(each.alive_until_us - each.seen_at_us for each in store.fleet.standing().replicas)


def serving(store: Store) -> dict[str, tuple[int | None, str | None]]:
    return {each.name: (each.generation, each.ensemble) for each in store.fleet.standing().replicas}


def stages(store: Store) -> tuple[int | None, int | None]:
    standing = store.fleet.standing()
    return standing.wanted and standing.wanted.number, standing.asked and standing.asked.number


def test_servers_that_start_with_the_same_models_share_a_generation(two: Store) -> None:
    assert serving(two) == {"left": (1, "a+b"), "right": (1, "a+b")}
    assert stages(two) == (1, None)


def test_what_was_asked_is_wanted_once_the_others_have_it_ready(two: Store, clock: ManualClock) -> None:
    asked = ask(two, "c")
    assert stages(two) == (1, 2)
    assert two.fleet.decide(2, "left") is None
    two.fleet.answers("right", "right 1", 2, None)
    agreed = two.fleet.decide(2, "left")
    wanted = two.fleet.standing().wanted
    assert agreed == wanted
    assert wanted == Generation(2, ("c",), "c", SETTINGS, "eva", "left", "1.0", clock(), "wanted", "")
    assert (asked.stage, stages(two)) == ("asked", (2, None))


def test_one_that_refuses_keeps_the_ensemble_from_all_and_is_named_with_its_reason(two: Store) -> None:
    ask(two, "c")
    two.fleet.answers("right", "right 1", 2, "no weights for c")
    with pytest.raises(Conflict, match=r"^not swapped, on no replica: right refuses: no weights for c$"):
        two.fleet.decide(2, "left")
    assert stages(two) == (1, None)
    assert ask(two, "d").number == 3


def test_one_that_is_gone_is_not_waited_for(two: Store, clock: ManualClock) -> None:
    ask(two, "c")
    clock.now_us += believed_us(two)
    two.fleet.beat("left", "left 1")
    assert two.fleet.decide(2, "left") is not None


def test_one_that_stops_in_order_is_not_waited_for(two: Store) -> None:
    ask(two, "c")
    two.fleet.leave("right", "right 1")
    assert two.fleet.decide(2, "left") is not None
    assert list(serving(two)) == ["left"]


def test_one_that_starts_meanwhile_is_waited_for(two: Store) -> None:
    ask(two, "c")
    two.fleet.answers("right", "right 1", 2, None)
    two.fleet.join("middle", "middle 1")
    assert two.fleet.decide(2, "left") is None


def test_of_two_swaps_at_once_the_second_is_refused_on_whichever_replica(two: Store) -> None:
    ask(two, "c")
    with pytest.raises(Conflict, match="another swap is under way, asked of left"):
        ask(two, "d", by="right")


def test_the_swap_of_one_that_is_gone_is_no_obstacle_for_the_next(two: Store, clock: ManualClock) -> None:
    ask(two, "c")
    clock.now_us += believed_us(two)
    two.fleet.beat("right", "right 1")
    assert ask(two, "d", by="right").number == 3
    with pytest.raises(Conflict, match="given this swap up"):
        two.fleet.decide(2, "left")


def test_the_swap_of_one_that_was_started_anew_is_no_obstacle_either(two: Store, clock: ManualClock) -> None:
    ask(two, "c")
    clock.now_us += 1
    two.fleet.join("left", "left 2")
    assert ask(two, "d", by="right").number == 3


def test_what_was_decided_cannot_be_given_up(two: Store) -> None:
    ask(two, "c")
    two.fleet.answers("right", "right 1", 2, None)
    two.fleet.decide(2, "left")
    two.fleet.give_up(2, "too late")
    assert stages(two) == (2, None)


def test_a_server_alone_puts_its_own_ensemble_in_force_and_one_beside_others_gets_theirs(
    two: Store, clock: ManualClock
) -> None:
    assert two.fleet.establish(("d",), "d", of("left", "d")).ensemble == "a+b"
    clock.now_us += believed_us(two)
    assert two.fleet.establish(("d",), "d", of("left", "d")).number == 2
    assert two.fleet.establish(("d",), "d", of("left", "d")).number == 2


def test_a_server_of_another_release_puts_its_own_ensemble_in_force_beside_others_of_the_one_before(two: Store) -> None:
    newer = of("new", release="2.0")
    assert two.fleet.establish(SETTINGS, "a+b, of 2.0", newer).number == 1, "it does not answer as approved"
    assert two.fleet.establish(SETTINGS, "a+b", newer, may_lead=True).number == 1, "nothing changes"
    assert two.fleet.establish(SETTINGS, "another", of("third"), may_lead=True).number == 1, "it has other files"
    led = two.fleet.establish(SETTINGS, "a+b, of 2.0", newer, may_lead=True)
    assert (led.number, led.release, led.stage, stages(two)) == (2, "2.0", "wanted", (2, None))
    back = two.fleet.establish(SETTINGS, "a+b", of("older"), may_lead=True)
    assert (back.number, back.release) == (3, "1.0"), "the way back is the same"


def test_a_server_that_was_killed_is_told_from_one_that_stopped_in_order(two: Store) -> None:
    assert two.fleet.join("left", "left 2")
    two.fleet.leave("left", "left 2")
    assert not two.fleet.join("left", "left 3")


def test_a_name_belongs_to_the_server_that_started_last_under_it(two: Store) -> None:
    two.fleet.join("left", "left 2")
    assert two.fleet.beat("left", "left 1") == "left 2"
    two.fleet.answers("left", "left 1", 9, None)
    two.fleet.leave("left", "left 1")
    assert serving(two)["left"] == (None, None)


def test_a_sign_of_life_is_written_twice_at_least_while_it_is_believed_and_on_sqlite_once_a_minute(
    two: Store, clock: ManualClock
) -> None:
    begun_us, written = clock.now_us, set()
    for _ in range(120):
        clock.now_us += 5_000_000
        assert two.fleet.beat("left", "left 1") == "left 1"
        [left, _] = two.fleet.standing().replicas
        assert left.is_live(clock.now_us)
        written.add(left.seen_at_us)
    minutes = (clock.now_us - begun_us) // 60_000_000
    assert len(written - {begun_us}) == (minutes if believed_us(two) > 60_000_000 else 12 * minutes)
    assert 2 * (max(written) - sorted(written)[-2]) < believed_us(two)


def test_after_the_clock_is_set_back_a_sign_of_life_is_written_at_once(two: Store, clock: ManualClock) -> None:
    clock.now_us -= 3600 * 1_000_000
    two.fleet.beat("left", "left 1")
    assert {each.name: each.seen_at_us == clock.now_us for each in two.fleet.standing().replicas} == {
        "left": True,
        "right": False,
    }


def test_one_that_died_is_forgotten_a_day_later(two: Store, clock: ManualClock) -> None:
    clock.now_us += 25 * 3600 * 1_000_000
    assert two.fleet.beat("left", "left 1") == "left 1"
    two.fleet.join("new", "new 1")
    assert list(serving(two)) == ["left", "new"]


def keeper(store: Store) -> str | None:
    found = store.fleet.standing().with_upkeep()
    return found and found.name


def test_one_replica_has_the_upkeep_as_long_as_it_says_that_it_lives(two: Store, clock: ManualClock) -> None:
    believed = believed_us(two)
    for _ in range(4):
        clock.now_us += believed // 2
        for name in ("right", "left"):
            two.fleet.beat(name, f"{name} 1")
        held = {name: two.fleet.hold_upkeep(name, f"{name} 1") for name in ("right", "left")}
        assert held == {"left": believed, "right": 0}
    assert keeper(two) == "left"


def test_the_upkeep_of_one_that_stops_in_order_is_free_at_once(two: Store) -> None:
    two.fleet.leave("left", "left 1")
    assert keeper(two) is None
    assert two.fleet.hold_upkeep("right", "right 1") == believed_us(two)
    assert keeper(two) == "right"


def test_the_upkeep_of_one_that_is_killed_is_free_once_it_is_no_longer_believed_and_stays_with_who_took_it(
    two: Store, clock: ManualClock
) -> None:
    clock.now_us += believed_us(two) - 1
    two.fleet.beat("right", "right 1")
    assert two.fleet.hold_upkeep("right", "right 1") == 0
    clock.now_us += 1
    assert two.fleet.hold_upkeep("right", "right 1") > 0
    two.fleet.beat("left", "left 1")
    assert two.fleet.hold_upkeep("left", "left 1") == 0, "it was only paused, and knows better now"
    assert keeper(two) == "right"


def test_one_that_is_killed_and_started_anew_has_the_upkeep_at_once(two: Store) -> None:
    two.fleet.join("left", "left 2")
    assert two.fleet.hold_upkeep("left", "left 1") == 0
    assert two.fleet.hold_upkeep("left", "left 2") > 0


def test_an_upkeep_from_before_the_clock_was_set_back_is_free(two: Store, clock: ManualClock) -> None:
    clock.now_us -= 3600 * 1_000_000
    assert two.fleet.hold_upkeep("right", "right 1") > 0
    assert two.fleet.hold_upkeep("left", "left 1") == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_on_sqlite_the_upkeep_costs_no_write(two: Store, clock: ManualClock, tmp_path: Path) -> None:
    def written() -> bytes:
        two.close()
        return (tmp_path / "sectorwatch.sqlite").read_bytes()

    before = written()
    for _ in range(10):
        clock.now_us += 5_000_000
        two.fleet.beat("left", "left 1")
        assert two.fleet.hold_upkeep("left", "left 1") > 0
        assert two.fleet.hold_upkeep("right", "right 1") == 0
    assert written() == before


FOLDER, ANOTHER, STORED = SitesSource("/etc/sites", "1" * 64), SitesSource("/srv", "2" * 64), SitesSource(DATABASE, "")


def judge(store: Store, **by: SitesSource) -> None:
    for name, source in by.items():
        store.fleet.judges_by(name, f"{name} 1", source)


def differ(store: Store) -> str | None:
    found = sites_differ(store.fleet.standing())
    return found and found.what


def test_servers_that_judge_by_other_folders_or_the_database_are_named_with_what_they_judge_by(two: Store) -> None:
    judge(two, left=FOLDER, right=ANOTHER)
    assert differ(two) == "left by the folder /etc/sites (digest 11111111); right by the folder /srv (digest 22222222)"
    judge(two, left=STORED)
    assert differ(two) == "left by the database; right by the folder /srv (digest 22222222)"
    two.fleet.join("third", "third 1")
    judge(two, third=STORED)
    assert differ(two) == "left, third by the database; right by the folder /srv (digest 22222222)"


def test_folders_with_the_same_policies_and_servers_that_have_not_said_yet_do_not_differ(two: Store) -> None:
    judge(two, left=FOLDER)
    assert differ(two) is None
    judge(two, right=SitesSource("/elsewhere", FOLDER.digest))
    assert differ(two) is None


def test_a_server_that_is_gone_does_not_differ(two: Store, clock: ManualClock) -> None:
    judge(two, left=FOLDER, right=ANOTHER)
    clock.now_us += believed_us(two)
    two.fleet.beat("left", "left 1")
    assert differ(two) is None


def test_policies_that_differ_are_no_rollout_once_none_has_changed_for_three_minutes(
    two: Store, clock: ManualClock
) -> None:
    judge(two, left=FOLDER, right=ANOTHER)
    lasting = []
    for _ in range(2):
        found = sites_differ(two.fleet.standing())
        assert found is not None
        lasting.append((found.for_s, found.lasts))
        clock.now_us += round(ROLLED_OUT_S * 1e6)
        for name in ("left", "right"):
            two.fleet.beat(name, f"{name} 1")
    assert lasting == [(0.0, False), (ROLLED_OUT_S, True)]
