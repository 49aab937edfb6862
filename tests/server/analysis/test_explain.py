"""Every minute has an answer: what was decided and why, or what was expected and did not come."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from policies.observation import Prediction
from server.__main__ import command
from server.analysis.explain import Explanation, explain
from server.analysis.explain.text import as_lines
from server.domain.records import StoredHeartbeat
from server.store import open_store
from tests.server.scenes import EYE, NAMER, START_US, YARD, Yard, across, burst, person_at
from tests.stand_ins import ManualClock

MINUTE_US = 60_000_000
AT = "2026-11-22T07:00"


def minute(yard: Yard, number: int = 0) -> Explanation:
    since_us = START_US + number * MINUTE_US
    return explain(yard.store, "yard", "gate", since_us, since_us + MINUTE_US)


def test_every_burst_of_the_minute_has_its_decision_record(yard: Yard) -> None:
    explanation = minute(yard)
    assert [b.facts.burst_id for b in explanation.bursts] == [f"burst-{n:05d}" for n in range(13)]
    assert all(len(b.frames) == 4 and {s.sector for s in b.sectors} == {"west", "east"} for b in explanation.bursts)
    assert explanation.period_s == 2


def test_a_record_tells_votes_scores_margin_and_events(yard: Yard) -> None:
    record = minute(yard).bursts[1]
    [weighing] = record.frames[0].weighings
    assert (weighing.verdict, weighing.sectors, weighing.seen, weighing.needed) == ("present", ("west",), 2, 2)
    assert [(b.model, b.vote, b.score, b.least) for b in weighing.ballots] == [("eye", "for", 0.9, 0.4)]
    assert {e.event.kind for b in minute(yard).bursts for e in b.events} >= {"entered", "moved", "left", "crossed"}


@pytest.fixture
def doubtful(tmp_path: Path, new_sqlite: Callable[[], str], clock: ManualClock) -> Iterator[Yard]:
    """A yard where two of two models must agree, and one never does."""
    store = open_store(new_sqlite(), clock)
    rules = YARD.replace('site = "yard"', 'site = "yard"\nsensitivity = {rule = "at_least", k = 2}')
    yard = Yard(tmp_path / "doubtful", store, clock, rules)
    yard.ensemble.ensemble_info = msgspec.structs.replace(
        yard.ensemble.ensemble_info, models=(*yard.ensemble.ensemble_info.models, NAMER)
    )
    yield yard
    store.close()


def test_what_was_missing_is_told_in_the_rules_own_unit(doubtful: Yard) -> None:
    doubtful.pipeline.process(doubtful.walk(1, lambda _: 0.2, 0))
    lines = list(as_lines(minute(doubtful)))
    assert any("west: person undecided" in line or "2 needed, 1 seen" in line for line in lines), lines
    assert "  event: none" in lines


def test_a_classifiers_score_is_the_one_that_it_gave_the_sector_and_not_the_frame(doubtful: Yard) -> None:
    labels = (Prediction("person", 0.9), Prediction("person", 0.2, sector="west"))
    image = doubtful.ensemble.teach(b"the frame says more", {"eye": (person_at(0.2),), "namer": labels})
    doubtful.pipeline.process(burst(1, [image], 0))
    [weighing] = minute(doubtful).bursts[0].frames[0].weighings
    assert [(b.model, b.vote, b.score) for b in weighing.ballots] == [("eye", "for", 0.9), ("namer", "against", 0.2)]


def test_under_evidence_each_models_part_of_the_sum_is_shown(doubtful: Yard) -> None:
    doubtful.write(YARD.replace('site = "yard"', 'site = "yard"\nsensitivity = {rule = "evidence"}'))
    rows = ((0.0, 0.25), (0.3, 0.75), (0.6, 0.95))
    bare = msgspec.structs.replace(EYE, model="bare")
    models = tuple(msgspec.structs.replace(info, calibration=rows) for info in (EYE, NAMER))
    doubtful.ensemble.ensemble_info = msgspec.structs.replace(
        doubtful.ensemble.ensemble_info, models=(*models, bare), ensemble="with tables"
    )
    labels = (Prediction("person", 0.4, sector="west"),)
    image = doubtful.ensemble.teach(b"both", {"eye": (person_at(0.2),), "namer": labels, "bare": ()})
    doubtful.pipeline.process(burst(1, [image], 0))
    [weighing] = minute(doubtful).bursts[0].frames[0].weighings
    assert (weighing.seen, weighing.needed, weighing.right) == (4.043, 2.197, (0.983, 0.9))
    assert [(b.vote, b.score, b.least, b.part) for b in weighing.ballots[1:]] == [
        ("for", 0.9, 0.3, 2.944),
        ("for", 0.4, 0.3, 1.099),
    ]
    lines = list(as_lines(minute(doubtful)))
    shown = "0.9 needed, 0.983 of such sightings are right: bare abstains; eye for 0.90 (+2.94); namer for 0.40 (+1.10)"
    assert any(line.endswith(f"person west: present, {shown}") for line in lines), lines


def test_under_evidence_a_model_that_did_not_answer_leaves_what_the_others_can_give(doubtful: Yard) -> None:
    doubtful.write(YARD.replace('site = "yard"', 'site = "yard"\nsensitivity = {rule = "evidence"}'))
    weak = msgspec.structs.replace(EYE, calibration=((0.0, 0.25), (0.3, 0.75)))
    sure = msgspec.structs.replace(NAMER, calibration=((0.0, 0.25), (0.3, 0.95)))
    doubtful.ensemble.ensemble_info = msgspec.structs.replace(
        doubtful.ensemble.ensemble_info, models=(weak, sure), ensemble="with tables"
    )
    image = doubtful.ensemble.teach(b"one", {"eye": (), "namer": None})  # type: ignore[dict-item]
    doubtful.pipeline.process(burst(1, [image], 0))
    assert {s.shortage for s in minute(doubtful).bursts[0].sectors} == {"0.9 needed, and eye can give 0.75"}


def test_a_model_that_did_not_answer_is_named(doubtful: Yard) -> None:
    image = b"seen by one"
    doubtful.ensemble.teach(image, {"eye": (), "namer": None})  # type: ignore[dict-item]
    doubtful.pipeline.process(burst(1, [image], 0))
    record = minute(doubtful).bursts[0]
    assert record.frames[0].silent == ("namer",)
    assert record.frames[0].undecided == (("person", "west"), ("person", "east"))
    assert any("namer did not answer" in line for line in as_lines(minute(doubtful)))


def test_a_minute_that_nobody_sent_is_unobserved_and_never_quiet(yard: Yard) -> None:
    explanation = minute(yard, 1)
    [gap] = explanation.gaps
    assert (explanation.bursts, gap.missing, gap.after) == ((), 30, None)
    assert gap.before is not None
    assert gap.before.burst_id == "burst-00012"
    lines = list(as_lines(explanation))
    assert "no bursts came; a burst about every 2 s" in lines
    assert any(line.startswith("UNOBSERVED") and line.endswith("30 bursts are missing") for line in lines)


def test_a_hole_within_a_minute_is_told_with_what_surrounds_it(yard: Yard) -> None:
    for number in (20, 21, 22):
        yard.pipeline.process(yard.walk(number, across, number * 2))
    holes = [(s.missing, s.before.burst_id, s.after.burst_id) for s in minute(yard).gaps if s.before and s.after]
    assert holes == [(7, "burst-00012", "burst-00020")]


def test_a_cause_that_a_heartbeat_told_is_passed_on(yard: Yard) -> None:
    asked = []

    def causes(since_us: int, until_us: int) -> list[str]:
        asked.append((since_us, until_us))
        return ["the lens was covered"]

    since_us = START_US + MINUTE_US
    explanation = explain(yard.store, "yard", "gate", since_us, since_us + MINUTE_US, causes)
    assert explanation.gaps[0].causes[0] == "the lens was covered"
    assert asked == [(since_us, since_us + MINUTE_US)]


def test_the_minutes_before_the_first_burst_are_told_as_such(yard: Yard) -> None:
    explanation = minute(yard, -1)
    [gap] = explanation.gaps
    assert gap.causes == ("nothing older of this camera is stored: it may not have been set up yet",)
    assert gap.missing == 0
    assert any(line.endswith("no burst was due yet") for line in as_lines(explanation))


def test_a_minute_that_has_not_come_misses_nothing(yard: Yard) -> None:
    since_us = START_US + 2 * MINUTE_US
    explanation = explain(yard.store, "yard", "gate", since_us, since_us + MINUTE_US, now_us=since_us - 1)
    assert (explanation.gaps, explanation.occupancy) == ((), ())
    assert list(as_lines(explanation))[1:] == ["no bursts came; a burst about every 2 s", "this time is still to come"]


def test_the_minute_that_runs_is_told_up_to_now(yard: Yard) -> None:
    explanation = explain(yard.store, "yard", "gate", START_US, START_US + MINUTE_US, now_us=START_US + 27_000_000)
    assert (explanation.gaps, len(explanation.bursts)) == ((), 13)
    assert {span.occupancy.value for span in explanation.occupancy} == {"clear", "occupied"}
    assert {max(s.until_us for s in explanation.occupancy)} == {START_US + 27_000_000}
    assert "this time is not over: as of 2026-11-22 07:00:27" in as_lines(explanation)
    later = explain(yard.store, "yard", "gate", START_US, START_US + MINUTE_US, now_us=START_US + 30_000_000)
    assert [s.until_us for s in later.gaps] == [START_US + 30_000_000]


def test_a_sector_is_unobserved_before_the_first_frame_of_all(yard: Yard) -> None:
    since_us = START_US - MINUTE_US // 2
    explanation = explain(yard.store, "yard", "gate", since_us, since_us + MINUTE_US)
    first = [
        (s.sector, s.occupancy.value, s.from_us, s.until_us) for s in explanation.occupancy if s.from_us == since_us
    ]
    assert first == [(name, "unobserved", since_us, START_US) for name in ("east", "west")]


def test_a_vote_shows_the_score_of_the_box_it_rests_on(yard: Yard) -> None:
    other = msgspec.structs.replace(EYE, model="eye.2")
    info = yard.ensemble.ensemble_info
    yard.ensemble.ensemble_info = msgspec.structs.replace(info, ensemble="e" * 64, models=(EYE, other))
    firm = msgspec.structs.replace(person_at(0.2), box=(0.16, 0.6, 0.22, 0.8))
    yard.ensemble.teach(b"two boxes", {"eye": (person_at(0.2),), "eye.2": (firm, person_at(0.2, 0.3))})
    yard.pipeline.process(burst(50, [b"two boxes"], 100))
    [record] = minute(yard, 1).bursts
    ballots = [[(b.model, b.vote, b.score) for b in w.ballots] for w in record.frames[0].weighings]
    assert ballots[0] == [("eye", "for", 0.9), ("eye.2", "for", 0.9)]
    assert ballots[1] == [("eye", "against", None), ("eye.2", "against", 0.3)]


def test_frames_that_a_stuck_camera_sends_in_turn_are_told_and_count_for_nothing(yard: Yard) -> None:
    for number in range(2):
        stuck = [yard.picture(0.2, at_s=i % 2) for i in range(4)]
        yard.pipeline.process(burst(50 + number, stuck, 100 + 2 * number))
    explanation = minute(yard, 1)
    assert [[frame.repeats for frame in record.frames] for record in explanation.bursts] == [
        [False, False, True, True],
        [True] * 4,
    ]
    assert [s.present for s in explanation.bursts[0].sectors if s.sector == "west"] == [2]
    lines = list(as_lines(explanation))
    assert "  2 of 4 frames repeat the bytes of a recent frame, as a stuck camera sends them, and are ignored" in lines
    assert "  west: person present in 2 of 2 frames (rule agreement)" in lines
    assert sum("repeats a recent frame: ignored" in line for line in lines) == 6


def test_a_frame_repeats_one_of_the_minute_before(yard: Yard) -> None:
    yard.pipeline.process(burst(50, [yard.picture(0.2, at_s=1)], 100))
    yard.pipeline.process(burst(51, [yard.picture(0.2, at_s=1)], 125))
    [record] = minute(yard, 2).bursts
    assert [frame.repeats for frame in record.frames] == [True]


def test_without_a_rhythm_it_is_said_that_nothing_can_be_expected(doubtful: Yard) -> None:
    doubtful.pipeline.process(burst(1, [doubtful.picture()], 0))
    lines = list(as_lines(minute(doubtful, 5)))
    assert lines[-1] == "whether a burst was due is unknown"


def test_explain_prints_the_minute_that_holds_the_instant(ask: Callable[..., Result], yard: Yard) -> None:
    shown = ask("explain", "--camera", "gate", "--at", f"{AT}:17Z").stdout
    assert shown == ask("explain", "--camera", "gate", "--site", "yard", "--at", AT).stdout
    assert "13 bursts came; a burst about every 2 s" in shown
    assert "west: person present in 4 of 4 frames" in shown
    for logged in yard.store.events():
        [line] = [line for line in shown.splitlines() if line.endswith(f"  {logged.event.id[:8]}")]
        assert line.startswith(f"  event: {logged.event.at:%Y-%m-%d %H:%M:%S} person ")


def test_explain_as_json_holds_every_vote(ask: Callable[..., Result]) -> None:
    wire = msgspec.json.decode(ask("explain", "--camera", "gate", "--at", AT, "--json").stdout)
    ballots = [v for b in wire["bursts"] for f in b["frames"] for w in f["weighings"] for v in w["ballots"]]
    assert ballots[0] == {"model": "eye", "vote": "for", "score": 0.9, "least": 0.4}
    assert {e["kind"] for b in wire["bursts"] for e in b["events"]} >= {"entered", "left"}


def test_a_camera_that_never_sent_is_told_which_one_was_meant(ask: Callable[..., Result], yard: Yard) -> None:
    wrong = ask("explain", "--camera", "gaet", "--at", AT)
    assert (wrong.exit_code, "did you mean `gate`?" in wrong.stderr) == (1, True)
    assert "cameras with data: yard/gate" in ask("explain", "--camera", "xyz", "--at", AT).stderr
    url = yard.store.name
    assert (
        CliRunner().invoke(command, ["explain", "--camera", "gate", "--at", "noon", "--database", url]).exit_code == 2
    )


def test_the_minute_says_how_each_sector_stood_and_never_shows_a_gap_as_clear(yard: Yard) -> None:
    spans = [(s.sector, s.occupancy.value) for s in minute(yard).occupancy]
    assert ("west", "occupied") in spans
    assert ("east", "occupied") in spans
    assert spans[-1] == ("west", "unobserved"), "the walk's bursts end after half of the minute"
    lasted = [s.until_us - s.from_us for s in minute(yard).occupancy if s.sector == "west"]
    assert sum(lasted) == MINUTE_US
    assert any(line.startswith("west: clear to 07:00:0") for line in as_lines(minute(yard)))
    assert minute(yard, 60).occupancy == ()


def test_the_newest_heartbeat_says_why_a_camera_is_silent(ask: Callable[..., Result], yard: Yard) -> None:
    sent_at, since = "2026-11-22T07:01:20Z", "2026-11-22T07:00:40Z"
    agent = {"sent_at": sent_at, "started_at": "2026-11-22T06:00:00Z", "every_s": 30}
    wire = {
        "site": "yard",
        "camera": "gate",
        "agent": agent,
        "state": "blind",
        "since": since,
        "cause": "covered",
    }
    sent_us = START_US + 80_000_000
    heartbeat = StoredHeartbeat("yard", "gate", START_US, sent_us, sent_us, msgspec.json.encode(wire).decode())
    assert yard.store.heartbeats.keep(heartbeat)
    cause = "the heartbeat of 2026-11-22 07:01:20 says: blind (covered)"
    explain_at = ("explain", "--camera", "gate", "--at")
    assert cause in ask(*explain_at, "2026-11-22T07:01").stdout
    assert cause not in ask(*explain_at, "2026-11-22T07:03").stdout
    assert "heartbeat of 2026-11-22T07:01:20Z says" in ask(*explain_at, "2026-11-22T07:01", "--json").stdout


def test_a_record_names_the_rule_of_the_schedule_that_was_in_force(doubtful: Yard) -> None:
    night = '[[schedule]]\nname = "early"\nbetween = ["06:00", "07:01"]\nsensitivity = { rule = "any" }\n'
    doubtful.write(f"{YARD}{night}")
    for number, at_s in ((1, 0), (2, 120)):
        doubtful.pipeline.process(doubtful.walk(number, lambda _: 0.2, at_s))
    early, later = (minute(doubtful, number).bursts[0].sectors[0].rule for number in (0, 2))
    assert early == "any"
    assert later != early


def test_what_nobody_could_tell_is_told_with_its_rule_its_schedule_and_what_was_short(doubtful: Yard) -> None:
    night = '[[schedule]]\nname = "early"\nbetween = ["06:00", "07:01"]\nsensitivity = {rule = "at_least", k = 9}\n'
    doubtful.write(YARD.replace("west]", 'west]\ntargets = ["person", "animal"]') + night)
    for name, answers in (("seen", {"eye": (), "namer": ()}), ("unseen", {"eye": None, "namer": None})):
        doubtful.ensemble.teach(name.encode(), answers)  # type: ignore[arg-type]
    doubtful.pipeline.process(burst(1, [b"seen"], 0))
    doubtful.pipeline.process(burst(2, [b"unseen"], 1))
    lines = list(as_lines(minute(doubtful)))
    tail = "undecided in 1 of 1 frames (rule at_least 9, schedule early)"
    assert f"  west: person, {tail}: 9 needed, and eye, namer can give 2" in lines
    assert f"  west: animal, {tail}: no model that votes can see it" in lines
    assert f"  east: person, {tail}: no model answered" in lines


def test_how_a_sector_stood_is_by_the_policies_of_each_time(doubtful: Yard) -> None:
    doubtful.write(YARD)
    for number in range(5):
        doubtful.pipeline.process(doubtful.walk(number, lambda _: 0.2, number * 2))
    doubtful.write(YARD.replace("sectors.west", "sectors.dusk"))
    for number in range(5, 25):
        doubtful.pipeline.process(doubtful.walk(number, lambda _: 0.2, number * 2))
    doubtful.write(YARD)
    for number in range(25, 30):
        doubtful.pipeline.process(doubtful.walk(number, lambda _: 0.2, number * 2))
    [west] = [line for line in as_lines(minute(doubtful)) if line.startswith("west: occupied")]
    assert west == (
        "west: occupied to 07:00:09.500, unobserved to 07:00:50.000, occupied to 07:00:59.500, "
        "unobserved to 07:01:00.000 (person)"
    )


def test_a_known_nuisance_is_named_where_it_silenced_what_was_seen(doubtful: Yard) -> None:
    known = '[[cameras.gate.suppress]]\nname = "web on the lamp"\nbox = [0.17, 0.6, 0.23, 0.8]\n'
    doubtful.write(f"{YARD}{known}")
    doubtful.pipeline.process(doubtful.walk(1, lambda _: 0.2, 0))
    explanation = minute(doubtful)
    assert {w.suppressed for frame in explanation.bursts[0].frames for w in frame.weighings} == {"web on the lamp"}
    assert sum("absent (suppressed: web on the lamp)" in line for line in as_lines(explanation)) == 4


def test_a_record_names_the_rule_of_the_brightness_of_its_frames(doubtful: Yard) -> None:
    doubtful.write(f'{YARD}[[schedule]]\nname = "dark"\ndarker_than = 0.2\nsensitivity = {{ rule = "any" }}\n')
    for number, grey in ((1, 20), (2, 200)):
        picture = io.BytesIO()
        Image.new("L", (64, 48), grey).save(picture, "PNG")
        doubtful.pipeline.process(burst(number, [picture.getvalue()], (number - 1) * 120))
    assert [minute(doubtful, number).bursts[0].sectors[0].rule for number in (0, 2)] == ["any", "agreement"]
