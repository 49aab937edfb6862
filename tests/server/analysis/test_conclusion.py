"""`explain` begins with one sentence: which events there are at that minute or, for the usual reasons, why none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from policies.observation import Prediction
from server.__main__ import command
from server.store import Store, open_store
from tests.policies.stories import CHANGE
from tests.policies.stories import person_at as standing_at
from tests.policies.test_scene import home, turned
from tests.server.scenes import EYE, NAMER, START_US, YARD, Yard, across, burst, person_at
from tests.stand_ins import ManualClock, ScriptedEnsemble


@pytest.fixture
def yard(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Yard:
    return Yard(tmp_path / "sites", open_store(new_sqlite(), clock), clock, in_oslo())


def in_oslo(extra: str = "", text: str = YARD) -> str:
    return text.replace('site = "yard"', f'site = "yard"\ntimezone = "Europe/Oslo"\n{extra}')


def sentence(store: Store, at: str = "2026-11-22T08:00") -> str:
    """What `explain` says first."""
    result = CliRunner().invoke(command, ["explain", "--at", at, "--database", store.name])
    assert result.exit_code == 0, result.output
    return re.sub(r"; not watched .* missing\.$", ".", result.stdout.splitlines()[0])


def shown(yard: Yard, *answers: dict[str, object], every_s: float = 0.5) -> None:
    """A minute in which the models answer so, frame by frame."""
    images = [yard.ensemble.teach(f"frame {i}".encode(), answer) for i, answer in enumerate(answers)]  # type: ignore[arg-type]
    yard.pipeline.process(burst(1, images, 0, every_s))


def test_too_few_sights_are_counted_against_min_hits(yard: Yard) -> None:
    shown(yard, *({"eye": (person_at(0.2),) if i == 4 else ()} for i in range(10)))
    assert sentence(yard.store) == (
        "No event at 08:00: a person was seen in west in 1 of 10 frames; 2 are needed (`min_hits`)."
    )


def test_a_stay_that_is_too_short_is_measured_against_the_settings_seconds(yard: Yard) -> None:
    yard.write(in_oslo("presence = { confirm_s = 5 }\nmovement = { dwell_s = 4 }\n"))
    shown(yard, *({"eye": (person_at(0.2),) if i in (4, 5, 6) else ()} for i in range(20)))
    assert sentence(yard.store) == (
        "No event at 08:00: a person was seen in west in 3 of 20 frames, for 1 s; 4 s are needed (`movement.dwell_s`)."
    )


def test_a_score_below_the_least_one_is_named_with_its_model(yard: Yard) -> None:
    shown(yard, *({"eye": (person_at(0.2, 0.31),)} for _ in range(10)))
    assert sentence(yard.store) == (
        "No event at 08:00: the best score for a person in west was 0.31, of eye; 0.4 is needed (`min_score`)."
    )


@pytest.mark.parametrize("rule", ["all", "majority"])
def test_a_vote_that_others_overrule_is_counted_against_the_rule(yard: Yard, rule: str) -> None:
    yard.write(in_oslo(f'sensitivity = {{ rule = "{rule}" }}\n'))
    yard.ensemble.ensemble_info = replace(yard.ensemble.ensemble_info, models=(EYE, replace(EYE, model="eye.2")))
    shown(yard, *({"eye": (person_at(0.2),), "eye.2": ()} for _ in range(10)))
    assert sentence(yard.store) == (
        "No event at 08:00: 1 of 2 models saw a person in west in 10 of 10 frames, which gives 1; 2 needed "
        f"(`sensitivity`: {rule})."
    )


def test_under_evidence_what_is_right_too_seldom_is_measured_against_the_share(yard: Yard) -> None:
    yard.write(in_oslo('sensitivity = { rule = "evidence" }\n'))
    known = replace(EYE, calibration=((0.0, 0.3), (0.3, 0.75), (0.6, 0.95)))
    yard.ensemble.ensemble_info = replace(yard.ensemble.ensemble_info, models=(known,))
    shown(yard, *({"eye": (person_at(0.2, 0.31),)} for _ in range(10)))
    assert sentence(yard.store) == (
        "No event at 08:00: of such sightings of a person in west, 0.75 are right; 0.9 needed "
        "(`sensitivity`: evidence 0.9)."
    )


def test_a_known_nuisance_is_named(yard: Yard) -> None:
    known = '[[cameras.gate.suppress]]\nname = "web on the lamp"\nbox = [0.17, 0.6, 0.23, 0.8]\n'
    yard.write(in_oslo() + known)
    shown(yard, *({"eye": (person_at(0.2),)} for _ in range(10)))
    assert sentence(yard.store) == (
        "No event at 08:00: a person in west was taken for the known nuisance `web on the lamp` in 10 of 10 frames "
        "(`suppress`)."
    )


def test_the_schedule_that_made_the_rule_stricter_is_named(yard: Yard) -> None:
    night = '[[schedule]]\nname = "early"\nbetween = ["07:00", "09:00"]\nsensitivity = {rule = "at_least", k = 2}\n'
    yard.write(in_oslo() + night)
    yard.ensemble.ensemble_info = replace(yard.ensemble.ensemble_info, models=(EYE, replace(EYE, model="eye.2")))
    shown(yard, *({"eye": (person_at(0.2),), "eye.2": ()} for _ in range(4)))
    assert "2 needed (`sensitivity`: at_least 2, schedule early)." in sentence(yard.store)


def test_a_schedule_that_asks_for_another_target_leaves_only_that_one(yard: Yard) -> None:
    yard.write(in_oslo() + '[[schedule]]\nname = "day"\nbetween = ["07:00", "09:00"]\ntargets = ["vehicle"]\n')
    shown(yard, *({"eye": (person_at(0.2),)} for _ in range(4)))
    assert sentence(yard.store) == "No event at 08:00: no model saw a vehicle in any of 4 frames."


def test_something_outside_all_sectors_is_said(yard: Yard) -> None:
    yard.write(in_oslo(text=YARD.replace("[[0.5, 0], [1, 0], [1, 1], [0.5, 1]]", "[[0.5, 0], [1, 0], [1, 0.2]]")))
    shown(yard, *({"eye": (person_at(0.8),)} for _ in range(4)))
    assert sentence(yard.store) == "No event at 08:00: a person was seen outside all sectors, in 4 of 4 frames."


def test_nothing_seen_is_said_with_the_number_of_frames(yard: Yard) -> None:
    shown(yard, *({"eye": ()} for _ in range(4)))
    assert sentence(yard.store) == "No event at 08:00: no model saw a person in any of 4 frames."


def test_models_that_do_not_answer_are_named(yard: Yard) -> None:
    yard.ensemble.ensemble_info = replace(yard.ensemble.ensemble_info, models=(EYE, NAMER))
    shown(yard, *({"eye": None, "namer": None} for _ in range(4)))
    assert sentence(yard.store) == (
        "No event at 08:00: whether a person was in west could not be decided in 4 of 4 frames (no model answered); "
        "eye, namer did not answer."
    )


def test_a_minute_without_a_burst_was_not_watched_and_says_why(yard: Yard) -> None:
    for each in yard.walked(lambda _: None, 20):
        yard.pipeline.process(each)
    yard.clock.now_us = START_US + 3_600_000_000
    assert sentence(yard.store, "2026-11-22T08:01") == (
        "No event at 08:01: the camera was not watched, 30 bursts missing: nothing has come since: the agent, its link "
        "or this server was or is off."
    )
    assert "it may not have been set up yet" in sentence(yard.store, "2026-11-22T07:00")
    assert sentence(yard.store, "2030-11-22T07:00") == "07:00 is still to come."


def test_what_of_a_minute_was_not_watched_is_added(yard: Yard) -> None:
    for each in yard.walked(lambda _: None, 20):
        yard.pipeline.process(each)
    shown = CliRunner().invoke(command, ["explain", "--at", "2026-11-22T08:00", "--database", yard.store.name]).stdout
    assert shown.splitlines()[0].endswith("frames; not watched 08:00:19-08:01:00, 20 bursts missing.")


def test_a_camera_that_was_turned_is_said_to_be_so(yard: Yard) -> None:
    yard.write('site = "yard"\ntimezone = "Europe/Oslo"\ntargets = ["moving"]\npresence = { blind_s = 10 }\n')
    yard.ensemble = yard.pipeline._ensemble = ScriptedEnsemble([CHANGE])
    for number in range(20):
        still = Prediction("still", 0.9, evidence=turned(number) if number >= 5 else home(number))
        image = yard.ensemble.teach(str(number).encode(), {"frame-change": (still,)})
        yard.pipeline.process(burst(number, [image], number * 5.0 - 80))
    assert "No event at 08:00: the camera was turned or moved at 2026-11-22T06:59:05Z" in sentence(yard.store)


def test_a_stuck_camera_is_said_to_be_one(yard: Yard) -> None:
    picture = yard.picture(0.2)
    yard.pipeline.process(burst(1, [picture] * 4, -60))
    yard.pipeline.process(burst(2, [picture] * 4, 0))
    assert "all frames repeat earlier ones, as a stuck camera sends them" in sentence(yard.store)


def test_a_presence_that_goes_on_is_named_with_its_begin(yard: Yard) -> None:
    for first in range(0, 100, 20):
        pictures = [yard.picture(0.2, at_s=first + i) for i in range(20)]
        yard.pipeline.process(burst(first, pictures, first, 1.0))
    began = next(each.event for each in yard.store.events() if each.event.kind == "presence_started")
    assert sentence(yard.store, "2026-11-22T08:01").startswith(
        f"No new event at 08:01: a person is in west since 2026-11-22 08:00:00 ({began.id[:8]}), and goes on"
    )


def test_the_events_of_the_minute_are_named_with_their_ids(yard: Yard) -> None:
    for each in yard.walked(across, 26):
        yard.pipeline.process(each)
    first = yard.store.begun()[0].event
    told = sentence(yard.store)
    assert re.match(r"10 events at 08:00: person entered west at 08:00:01 \([0-9a-f]{8}\); ", told), told
    assert first.id[:8] in told or len(told) < 400
    assert told.endswith("; and 7 more.")


def test_the_rest_of_the_explanation_follows(yard: Yard) -> None:
    shown_at = standing_at(0.2)
    shown(yard, {"eye": (shown_at,)})
    lines = CliRunner().invoke(command, ["explain", "--at", "2026-11-22T08:00", "--database", yard.store.name]).stdout
    assert lines.splitlines()[1] == "yard/gate from 2026-11-22 08:00:00 to 2026-11-22 08:01:00"
    assert "burst burst-00001" in lines


def test_a_clock_alone_is_the_last_time_that_it_was_that(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(yard, *({"eye": ()} for _ in range(4)))
    for now_us in (START_US + 3_600_000_000, START_US + 86_000_000_000):
        monkeypatch.setattr("server.commands.explain.now_us", lambda now_us=now_us: now_us)
        assert sentence(yard.store, "08:00").startswith("No event at 08:00: no model saw a person")
    monkeypatch.setattr("server.commands.explain.now_us", lambda: START_US - 3_600_000_000)
    assert "no burst came" in sentence(yard.store, "08:00")


def test_a_minute_within_a_longer_gap_was_not_watched_also_where_no_burst_was_due_in_it(yard: Yard) -> None:
    yard.clock.advance(36_000)
    for number in range(5):
        yard.pipeline.process(yard.walk(number, lambda _t: None, number * 600.0))
    assert sentence(yard.store, "2026-11-22T08:35") == "No event at 08:35: no burst was due then."
    assert sentence(yard.store, "2026-11-22T09:35").startswith("No event at 09:35: the camera was not watched: nothing")
    yard.pipeline.process(yard.walk(20, lambda _t: None, 12_000.0))
    assert sentence(yard.store, "2026-11-22T10:03").startswith("No event at 10:03: the camera was not watched")
