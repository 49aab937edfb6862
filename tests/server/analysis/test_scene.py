"""An event's scene: the frames of its visit with what became of their pictures, who saw what, and the track's path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from policies.events import Event, microseconds
from policies.observation import Prediction
from server.analysis.explain.scene import MOST, Scene, scene_of
from server.domain.keeping import Keep, KeepFrames
from server.frames import FrameKeeper, open_place
from server.store import Store, open_store
from tests.server.scenes import EYE, NAMER, START_US, YARD, Yard, across, burst, person_at
from tests.stand_ins import ManualClock, ScriptedEnsemble

RULES = {
    "any": 'rule = "any"',
    "all": 'rule = "all"',
    "majority": 'rule = "majority"',
    "at_least": 'rule = "at_least", k = 1',
    "weighted": 'rule = "weighted", threshold = 1',
    "evidence": 'rule = "evidence", right = 0.8',
    "agreement": 'rule = "agreement"',
}


def walked(folder: Path, url: str, clock: ManualClock, text: str = YARD, until_s: float = 26) -> Yard:
    """A yard that somebody walks across, with two models of which the second is weaker; pictures are kept."""
    store = open_store(url, clock, open_place(str(folder / "frames")))
    yard = Yard(folder / "sites", store, clock, text)
    known = replace(EYE, calibration=((0.0, 0.3), (0.3, 0.75), (0.6, 0.95)))
    yard.ensemble.ensemble_info = replace(yard.ensemble.ensemble_info, models=(known, replace(known, model="eye.2")))
    teach = ScriptedEnsemble.teach

    def both(image: bytes, answers: dict[str, tuple[Prediction, ...]]) -> bytes:
        weak = tuple(Prediction(each.label, 0.45, each.box) for each in answers["eye"])
        return teach(yard.ensemble, image, {**answers, "eye.2": weak})

    yard.ensemble.teach = both  # type: ignore[assignment, method-assign]
    keeper = FrameKeeper(store.frames, lambda _site, _older: KeepFrames("all"), 10**9)
    for one in yard.walked(across, until_s):
        yard.pipeline.process(one)
        keeper.offer(one, [None] * len(one.frames))
    keeper.drain()
    return yard


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Iterator[Yard]:
    yard = walked(tmp_path, new_sqlite(), clock)
    yield yard
    yard.store.close()


def to_and_fro(t: float) -> float | None:
    """Stays in the west half for ten minutes."""
    return 0.2 + (t % 5) * 0.01 if 2 < t < 590 else None


def event_of(store: Store, kind: str, sector: str | None = None) -> Event:
    return next(e.event for e in store.events() if e.event.kind == kind and sector in (None, e.event.sector))


def scene(store: Store, event: Event) -> Scene:
    [record] = store.past.events_like(event.id)
    return scene_of(store, record.logged)


def test_the_frames_are_those_of_the_whole_visit_in_order_with_the_deciding_one(yard: Yard) -> None:
    entered = event_of(yard.store, "entered", "west")
    left = event_of(yard.store, "left", "west")
    for event in (entered, left):
        shown = scene(yard.store, event)
        instants = [frame.at_us for frame in shown.frames]
        assert instants == sorted(instants)
        assert instants[0] <= microseconds(entered.started_at)
        assert instants[-1] >= microseconds(left.confirmed_at)
        assert {"entered", "left", "presence_started", "presence_ended"} == {each.kind for each in shown.visit}
        [deciding] = [frame for frame in shown.frames if frame.decides]
        assert deciding.sha256 == event.provenance.frame_sha256[0]
        assert [frame.sha256 for frame in shown.frames if frame.settles] == [event.provenance.frame_sha256[-1]]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_the_arithmetic_of_the_deciding_frame_is_that_of_the_event(
    rule: str, tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    text = YARD.replace('site = "yard"', f'site = "yard"\nsensitivity = {{ {rule} }}')
    yard = walked(tmp_path, new_sqlite(), clock, text)
    events = [each.event for each in yard.store.events()]
    assert {each.kind for each in events} >= {"entered", "left", "moved", "crossed", "presence_started"}
    for event in events:
        [deciding] = [frame for frame in scene(yard.store, event).frames if frame.decides]
        assert deciding.arithmetic is not None
        assert deciding.arithmetic.margin == event.margin
        assert {line.model: line.vote for line in deciding.arithmetic.lines} == event.votes


def test_a_path_is_that_of_the_track_from_left_to_right(yard: Yard) -> None:
    event = event_of(yard.store, "moved")
    shown = scene(yard.store, event)
    [path] = shown.paths
    assert path.track == event.track
    across_x = [x for _, x, _ in path.points]
    assert across_x == sorted(across_x)
    assert len(across_x) > 3
    assert {at_us for at_us, *_ in path.points} <= {frame.at_us for frame in shown.frames}


def test_boxes_of_every_model_are_there_with_their_scores(yard: Yard) -> None:
    shown = scene(yard.store, event_of(yard.store, "entered", "west"))
    [deciding] = [frame for frame in shown.frames if frame.decides]
    assert [(mark.model, mark.score, mark.is_mine) for mark in deciding.marks] == [
        ("eye", 0.9, True),
        ("eye.2", 0.45, True),
    ]


def test_a_picture_is_kept_or_no_longer_kept_or_never_kept(yard: Yard) -> None:
    event = event_of(yard.store, "entered", "west")
    assert {frame.picture for frame in scene(yard.store, event).frames} == {"kept"}
    yard.store.retention.sweep(lambda _site: Keep(frames=KeepFrames("none")))
    assert {frame.picture for frame in scene(yard.store, event).frames} == {"no_longer_kept"}
    yard.pipeline.process(yard.walk(50, lambda t: 0.2 if t < 104 else None, 100, frames=12))
    later = yard.store.events()[-1].event
    assert {frame.picture for frame in scene(yard.store, later).frames if frame.at_us > START_US + 90_000_000} == {
        "never_kept"
    }


def test_of_a_long_visit_sixty_frames_are_shown_with_its_first_last_and_deciding_one(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    for number in range(13):
        yard.pipeline.process(yard.walk(number, to_and_fro, number * 50, frames=20, every_s=2.5))
    event = event_of(yard.store, "presence_ended")
    shown = scene(yard.store, event)
    assert len(shown.frames) <= MOST
    assert shown.left_out > 30
    assert shown.frames[0].at_us - START_US <= 2_500_000
    assert shown.frames[-1].at_us - START_US >= 590_000_000
    assert sum(frame.decides for frame in shown.frames) == 1


def test_an_event_of_labels_alone_has_neither_boxes_nor_a_path(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    yard.ensemble.ensemble_info = replace(yard.ensemble.ensemble_info, models=(NAMER,))

    def label(i: int) -> tuple[Prediction, ...]:
        sure = 0.8 if 4 <= i < 14 else 0.1
        return (Prediction("person", sure, sector="west"), Prediction("road", 1 - sure, sector="west"))

    images = [yard.ensemble.teach(f"label {i}".encode(), {"namer": label(i)}) for i in range(24)]
    yard.pipeline.process(burst(1, images, 0))
    shown = scene(yard.store, event_of(yard.store, "presence_started"))
    [deciding] = [frame for frame in shown.frames if frame.decides]
    assert (shown.paths, deciding.marks) == ((), ())
    assert deciding.arithmetic is not None
    assert deciding.arithmetic.sentence == "2 needed, 1 seen: namer .80, which suffices alone from .4 on"


def test_frames_that_repeat_are_marked(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> None:
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    images = [yard.picture(0.2, at_s=0.5 * i) for i in range(8)]
    yard.pipeline.process(
        burst(1, [*images, images[-1], images[-1], *(yard.picture(at_s=50 + i) for i in range(30))], 0)
    )
    shown = scene(yard.store, event_of(yard.store, "presence_started"))
    assert [frame.index for frame in shown.frames if frame.is_repeat] == [8, 9]


def test_a_person_beside_the_event_is_not_taken_for_it(
    tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock
) -> None:
    yard = Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock)
    images = []
    for i in range(30):
        x = across(i * 0.5)
        people = (person_at(0.93, 0.95), *(() if x is None else (person_at(x),)))
        images.append(yard.ensemble.teach(f"two {i}".encode(), {"eye": people}))
    yard.pipeline.process(burst(1, images, 0))
    event = event_of(yard.store, "crossed")
    shown = scene(yard.store, event)
    [deciding] = [frame for frame in shown.frames if frame.decides]
    assert [mark.score for mark in deciding.marks if mark.is_mine] == [0.9]
    assert [mark.score for mark in deciding.marks if not mark.is_mine] == [0.95]
