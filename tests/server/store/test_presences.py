"""What is remembered of a day's events is what all of them give, whatever came since it was read."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest

from policies.events import microseconds
from server.analysis.day import CameraDay, site_day
from server.delivery.visit_log import Stretch
from server.delivery.visits import some_visits
from server.domain.watching import Stay
from server.store import Store
from tests.server.late_walker import in_their_order
from tests.server.scenes import START_US, Yard, across, burst, there_and_back
from tests.server.store.test_spans import CAMERAS, policy, statements
from tests.stand_ins import ManualClock

S = 1_000_000
_LONG_US = 3600 * S
_Lane = tuple[str, str, str]


def covered(stays: list[Stay], since_us: int, until_us: int) -> dict[_Lane, set[int]]:
    """The half seconds of each lane in which somebody is present."""
    halves: dict[_Lane, set[int]] = {}
    for stay in stays:
        end_us = until_us if stay.until_us is None else stay.until_us
        begin_us = max(stay.from_us, since_us)
        inside = range(begin_us - begin_us % (S // 2), min(end_us, until_us), S // 2)
        halves.setdefault((stay.camera, stay.sector, stay.target), set()).update(inside)
    return {lane: found for lane, found in halves.items() if found}


def plain_stays(store: Store) -> list[Stay]:
    """Each presence of the log by itself."""
    begun: dict[tuple[str, str, str, int], int | None] = {}
    for logged in store.begun():
        event = logged.event
        key = (event.camera, event.sector or "", event.label, microseconds(event.started_at))
        if event.kind == "presence_started":
            begun.setdefault(key, None)
        elif event.kind == "presence_ended":
            begun[key] = microseconds(event.at)
    return [Stay(*key, end_us) for key, end_us in begun.items()]


def entries(store: Store, since_us: int, until_us: int) -> dict[_Lane, list[int]]:
    """When visits began in each lane, as the store remembers it."""
    return {each[:3]: list(each.entries) for each in store.lanes("yard", since_us, until_us) if each.entries}


def plain_entries(store: Store) -> dict[_Lane, list[int]]:
    found: dict[_Lane, list[int]] = {}
    for event in (logged.event for logged in store.begun(kind="entered")):
        lane = (event.camera, event.sector or "", event.label)
        found.setdefault(lane, []).append(microseconds(event.started_at))
    return found


@pytest.mark.parametrize("in_order", [True, False])
def test_what_is_remembered_of_a_stretch_is_what_its_events_give(
    tmp_path: Path, store: Store, clock: ManualClock, in_order: bool
) -> None:
    yard = Yard(tmp_path / "sites", store, clock)
    walk = [*yard.walked(across, 20), *(yard.walk(50 + n, there_and_back, 40 + 5 * n, 10) for n in range(5))]
    since_us, until_us = START_US - _LONG_US, START_US + _LONG_US
    for number, one in enumerate(walk if in_order else in_their_order(walk)):
        yard.pipeline.process(one)
        if number % 5 == 4 and not in_order:
            yard.store.refolds.run()
        if number % 3 == 2:
            found = covered(store.stays("yard", since_us, until_us), since_us, until_us)
            assert found == covered(plain_stays(store), since_us, until_us)
            assert entries(store, since_us, until_us) == plain_entries(store)
    assert len(store.stays("yard", since_us, until_us)) > 1
    assert plain_entries(store)


def page(store: Store, now_us: int) -> list[CameraDay]:
    """What a page reads of a stretch."""
    since_us, until_us = START_US + 12 * S, START_US + 25 * S
    stretch = Stretch(since_us, until_us, "yard")
    assert some_visits(store, stretch, lambda _: True, 50, later_us=until_us, going_on=True)
    return site_day(store, "yard", since_us, until_us, now_us)


def test_a_past_day_of_more_cameras_takes_no_more_statements(tmp_path: Path, store: Store, clock: ManualClock) -> None:
    yard, took, chance = Yard(tmp_path / "sites", store, clock, policy()), list[int](), random.Random(1)
    for number, camera in enumerate(CAMERAS):
        for step, at_s in enumerate((0.0, 10.0, 20.0, 900.0)):
            images = [yard.picture(chance.uniform(0.2, 0.8), at_s=at_s + each / 2) for each in range(4)]
            yard.pipeline.process(burst(10 * number + step, images, at_s, camera=camera))

        assert len(page(store, clock.now_us)) == number + 1
        took.append(statements(store, partial(page, store, clock.now_us)))
    assert took == [took[0]] * len(CAMERAS)
