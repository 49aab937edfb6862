"""Pictures are kept once, as long as their site wants them, and go from the disk with the last frame that has them."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from policies.events import instant
from server.analysis.annotations import MissedFact, missed_annotation
from server.domain.keeping import Keep, KeepFrames
from server.store.retention import frame_limits
from tests.server.scenes import START_US, Yard, across, burst
from tests.server.store.frames.pictured import (
    ALL,
    DAY_S,
    EVENTS,
    SECOND,
    kept_s,
    later,
    on_disk,
    sweep,
    take,
)


def test_a_picture_is_stored_once_for_its_user_alone_under_its_sha256(yard: Yard, pictures: Path) -> None:
    image = yard.picture(0.3, at_s=7.25)
    for number, camera in enumerate(("gate", "shed", "gate")):
        take(yard, burst(500 + number, [image, yard.picture(at_s=900 + number)], 50 + 10 * number, camera=camera))
    sha256 = hashlib.sha256(image).hexdigest()
    [file] = [file for file in pictures.rglob("*") if file.name == sha256]
    assert (file.read_bytes(), file.parent.name) == (image, sha256[:2])
    assert {stat.S_IMODE(file.stat().st_mode) for file in pictures.rglob("*") if file.is_file()} == {0o600}
    assert {stat.S_IMODE(each.stat().st_mode) for each in [pictures, *pictures.rglob("*")] if each.is_dir()} == {0o700}
    assert yard.store.frames.image(sha256) == image


def test_every_frame_is_kept_for_a_day_and_then_those_of_visits_and_one_of_the_day(yard: Yard, pictures: Path) -> None:
    everything = kept_s(yard)
    assert len(everything) == 80
    assert sweep(yard, EVENTS) == 0
    later(yard, 0.9)
    assert sweep(yard, EVENTS) == 0, "a missed person can be found for a day"
    later(yard, 0.2)
    assert sweep(yard, EVENTS) > 30
    assert [at for at in everything if 2 <= at <= 18] == [at for at in kept_s(yard) if 2 <= at <= 18]
    assert max(at for at in kept_s(yard) if at < 40) < 30
    named = {sha256 for logged in yard.store.events() for sha256 in logged.event.provenance.frame_sha256}
    assert named <= on_disk(pictures)
    assert len(on_disk(pictures)) == len(kept_s(yard))


def test_a_frame_that_came_late_waits_for_a_day_too(yard: Yard) -> None:
    later(yard, 3)
    sweep(yard, EVENTS)
    take(yard, yard.walk(700, lambda _t: None, 3600))
    sweep(yard, EVENTS)
    assert 3600.0 in kept_s(yard)
    later(yard, 1.1)
    sweep(yard, EVENTS)
    assert 3600.0 not in kept_s(yard)


def test_the_brightest_frame_of_a_day_stays_to_draw_on(yard: Yard) -> None:
    for number, (at_s, brightness) in enumerate([(3600, 0.2), (7200, 0.7), (10800, 0.5)]):
        take(yard, yard.walk(600 + number, lambda _t: None, at_s, frames=1), brightness)
    later(yard, 2)
    sweep(yard, EVENTS)
    assert [at for at in kept_s(yard) if 3000 < at < 20000] == [7200.0]


def test_the_frames_around_an_annotation_stay(yard: Yard) -> None:
    missed = MissedFact(site="yard", camera="gate", kind="entered", sector="west", at=instant(START_US + 3600 * SECOND))
    take(yard, yard.walk(600, lambda _t: None, 3590))
    take(yard, yard.walk(601, lambda _t: None, 4000))
    yard.store.annotations.add([missed_annotation(yard.store, missed, "me", None)])
    later(yard, 2)
    sweep(yard, EVENTS)
    assert [at for at in kept_s(yard) if 3000 < at < 20000] == [3590.0, 3590.5, 3591.0, 3591.5]


def test_of_a_long_visit_its_beginning_and_its_end_stay(yard: Yard) -> None:
    [first, last] = frame_limits.visit_stretches(0, 3600 * SECOND)
    assert (first[1], last[0]) == (600 * SECOND, 3540 * SECOND)
    assert len(frame_limits.visit_stretches(0, 600 * SECOND)) == 1


@pytest.mark.parametrize("seconds", [599, 601, 630, 660, 661])
def test_the_stretches_of_a_visit_never_overlap(seconds: int) -> None:
    borders = [at for stretch in frame_limits.visit_stretches(0, seconds * SECOND) for at in stretch]
    assert borders == sorted(borders)


def test_a_sweep_with_nothing_to_decide_does_not_look_for_the_brightest_frame(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(yard, 1.0001)
    assert sweep(yard, EVENTS) > 0
    monkeypatch.setattr(frame_limits.FrameSweep, "_brightest", lambda *_: pytest.fail("it looks"))
    assert sweep(yard, EVENTS) == 0


@pytest.mark.parametrize("which", ["events", "all"])
def test_when_their_days_are_over_pictures_go_from_the_disk(yard: Yard, pictures: Path, which: str) -> None:
    keep = Keep(frames=KeepFrames(which, days=3))  # type: ignore[arg-type]
    later(yard, 2)
    sweep(yard, keep)
    assert 10.0 in kept_s(yard)
    later(yard, 1.5)
    sweep(yard, keep)
    assert min(kept_s(yard)) > DAY_S
    assert len(on_disk(pictures)) == len(kept_s(yard)) <= 8


def test_a_site_that_keeps_all_keeps_what_nothing_wants(yard: Yard) -> None:
    later(yard, 5)
    assert sweep(yard, ALL) == 0


def test_a_site_that_keeps_none_any_more_loses_all(yard: Yard, pictures: Path) -> None:
    assert sweep(yard, Keep(frames=KeepFrames("none"))) == 80
    assert on_disk(pictures) == set()


def test_pictures_of_a_time_of_which_no_burst_is_kept_go(yard: Yard, pictures: Path) -> None:
    yard.store.retention.sweep(lambda _site: Keep(observations_days=20 / DAY_S, frames=KeepFrames("all")))
    first_s = (next(iter(yard.store.observations("yard", "gate"))).at_us - START_US) / SECOND
    assert 15 < first_s == min(kept_s(yard))
    assert len(on_disk(pictures)) == len(kept_s(yard))


@pytest.mark.parametrize("annotated", [True, False])
def test_beyond_its_bytes_a_site_loses_what_nothing_wants_then_the_oldest_and_annotated_ones_last_by_choice(
    yard: Yard, pictures: Path, annotated: bool
) -> None:
    def bound(count: int) -> Keep:
        return Keep(annotated=annotated, frames=KeepFrames("events", max_bytes=count * size))

    size = round(sum(each.bytes for each in yard.store.frames.totals()) / 80)
    visit = [at for at in kept_s(yard) if at <= 25]
    sweep(yard, bound(60))
    assert 50 < len(kept_s(yard)) <= 60
    assert {at for at in visit if 2 <= at <= 18} <= {*kept_s(yard)}, "those of the visit stay longest"
    sweep(yard, bound(20))
    assert 15 < len(kept_s(yard)) <= 20
    assert min(kept_s(yard)) > 8
    for number in range(13):
        take(yard, yard.walk(600 + number, lambda t: across(t - 1000), 1000 + 2 * number))
    missed = MissedFact(site="yard", camera="gate", kind="entered", sector="west", at=instant(START_US + 9 * SECOND))
    yard.store.annotations.add([missed_annotation(yard.store, missed, "me", None)])
    sweep(yard, bound(15))
    assert (min(kept_s(yard)) < 20) is annotated
    assert len(on_disk(pictures)) == len(kept_s(yard)) <= 15
    sweep(yard, Keep(annotated=annotated, frames=KeepFrames("events", max_bytes=1)))
    assert on_disk(pictures) == set()


def test_between_two_looks_at_all_cameras_only_a_site_with_too_many_bytes_is_swept(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept = list[tuple[str, str]]()
    sweep_camera = frame_limits.FrameSweep.sweep_camera

    def noted(self: frame_limits.FrameSweep, name: tuple[str, str], *more: object) -> object:
        swept.append(name)
        return sweep_camera(self, name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(frame_limits.FrameSweep, "sweep_camera", noted)
    retention, few = yard.store.retention, Keep(frames=KeepFrames("all", max_bytes=100))
    assert (retention.sweep_frames(lambda _site: ALL), swept) == (0, [("yard", "gate")])
    yard.clock.advance(599)
    assert (retention.sweep_frames(lambda _site: ALL), len(swept)) == (0, 1)
    assert retention.sweep_frames(lambda _site: few) > 0
    yard.clock.advance(2)
    assert (retention.sweep_frames(lambda _site: ALL), len(swept)) == (0, 3)
