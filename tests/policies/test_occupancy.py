"""Occupied, clear, unobserved: now, and over the past."""

from __future__ import annotations

from policies.fold import initial_state
from policies.occupancy import current_occupancy, timeline
from tests.policies.stories import START_US, TWO_HALVES, fold, observation, person_at, policy, walk


def now(frames, at_s: float) -> dict[str, tuple[str, str | None]]:
    state, _ = fold(policy(), initial_state(), frames)
    sectors = current_occupancy(policy(), state, START_US + round(at_s * 1e6))
    return {s.sector: (s.occupancy, s.cause) for s in sectors}


def history(frames, until_s: float, sector: str = "west", rules_at=lambda at_s: policy()) -> list[str]:
    judged = [(rules_at((seen.at_us - START_US) / 1e6), seen) for seen in frames]
    spans = timeline(policy(), initial_state(), judged, START_US + round(until_s * 1e6))
    return [
        f"{(s.from_us - START_US) / 1e6:g}-{(s.until_us - START_US) / 1e6:g} {s.occupancy}"
        for s in spans
        if s.sector == sector
    ]


def test_before_the_first_frame_every_sector_is_unobserved():
    assert now([], 0) == {"west": ("unobserved", "no frame yet"), "east": ("unobserved", "no frame yet")}


def test_a_sector_with_someone_in_it_is_occupied_and_the_other_clear():
    assert now(walk(lambda t: 0.2, 5), 6) == {"west": ("occupied", None), "east": ("clear", None)}


def test_silence_makes_every_sector_unobserved_occupied_or_not():
    assert now(walk(lambda t: 0.2, 5), 40) == {
        "west": ("unobserved", "no frame since"),
        "east": ("unobserved", "no frame since"),
    }


def test_frames_that_tell_nothing_make_a_sector_unobserved_with_another_cause():
    unanswered = [observation(6 + i, {"eye": None}) for i in range(50)]
    uninformative = ("unobserved", "the frames repeat, or no model answers")
    assert now([*walk(lambda t: 0.2, 5), *unanswered], 56) == {"west": uninformative, "east": uninformative}
    assert now(unanswered, 56)["west"] == ("unobserved", "no frame told anything yet")


def test_a_gap_is_unobserved_and_never_clear_even_inside_one_presence():
    frames = [observation(t, {"eye": [person_at(0.2)]}) for t in (0, 0.5, 1, 1.5, 2, 100, 100.5, 101)]
    assert history(frames, 101.5) == ["0-2 occupied", "2-100 unobserved", "100-101.5 occupied"]
    assert history(frames, 101.5, "east") == ["0-2 clear", "2-100 unobserved", "100-101.5 clear"]


def test_a_presence_is_placed_when_it_was_and_not_when_it_was_confirmed():
    frames = walk(lambda t: 0.2 if 5 <= t <= 10 else None, 30)
    assert history(frames, 30) == ["0-4.75 clear", "4.75-10.25 occupied", "10.25-30 clear"]


def test_while_a_policy_did_not_ask_about_a_sector_it_was_unobserved_and_what_was_told_there_stands():
    other = policy(TWO_HALVES.replace("sectors.west", "sectors.dusk"))
    frames = walk(lambda t: 0.2, 100, every_s=1)

    def stood(until_s: float, sector: str = "west") -> list[str]:
        return history(frames, 100, sector, lambda at_s: other if 10 < at_s < until_s else policy())

    assert stood(60) == ["0-10 occupied", "10-60 unobserved", "60-100 occupied"]
    assert stood(60, "east") == ["0-100 clear"]
    assert stood(20) == ["0-10 occupied", "10-19.5 clear", "19.5-100 occupied"]


def test_what_follows_the_last_frame_is_unobserved_once_it_is_too_long():
    assert history(walk(lambda t: None, 10), 100) == ["0-10 clear", "10-100 unobserved"]


def test_no_frames_are_no_history():
    assert history([], 100) == []


def test_frames_that_no_model_answered_leave_a_gap_in_the_history():
    seen = [observation(t, {"eye": []}) for t in (0, 1, 2)]
    unanswered = [observation(t, {"eye": None}) for t in range(3, 60)]
    assert history([*seen, *unanswered, observation(60, {"eye": []})], 61) == [
        "0-2 clear",
        "2-60 unobserved",
        "60-61 clear",
    ]


def test_a_presence_that_ended_somewhere_in_a_gap_is_one_stretch_of_unobserved():
    frames = [observation(t, {"eye": [person_at(0.2)]}) for t in (0, 0.5, 1, 1.5, 2)]
    frames += [observation(t, {"eye": []}) for t in (100, 105, 110)]
    assert history(frames, 111) == ["0-2 occupied", "2-100 unobserved", "100-111 clear"]
