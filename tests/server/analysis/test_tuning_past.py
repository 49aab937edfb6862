"""Where the log already is what a fold under today's policy gives, and where it is not."""

from __future__ import annotations

from policies.site.site_policy import parse_site_policy
from server.analysis.tuning.candidates import Place
from server.analysis.tuning.past import confirmed_in, has_events_of, voters_of
from server.commands.folding import FoldTask, fold_policies
from tests.policies.stories import CHANGE, DETECTOR
from tests.server.scenes import START_US, YARD, Yard, across

SECOND_US = 1_000_000
STRICT = YARD.replace('site = "yard"\n', 'site = "yard"\nmin_score = { "*" = 0.95 }\n', 1)


def test_the_log_is_that_of_the_policy_that_judged_every_burst_since_the_view_was_empty(yard: Yard, url: str) -> None:
    today = parse_site_policy(YARD)
    until_us = START_US + 26 * SECOND_US
    assert has_events_of(yard.store, "yard", "gate", today, START_US, until_us)
    assert not has_events_of(yard.store, "yard", "gate", parse_site_policy(STRICT), START_US, until_us)
    [folded] = fold_policies(FoldTask(url, "yard", "gate", (today,), START_US, until_us)).events
    logged = [each.event for each in yard.store.events(START_US, until_us, "yard", "gate")]
    assert confirmed_in(logged, [(START_US, until_us)]) == list(folded)
    first, half_us = logged[0], START_US + 13 * SECOND_US
    assert [*confirmed_in(logged, [(START_US, half_us)]), *confirmed_in(logged, [(half_us, until_us)])] == logged
    assert first in confirmed_in(logged, [(START_US, half_us)])


def test_after_a_change_the_log_is_that_of_the_new_policy_only_from_an_empty_view_on(yard: Yard) -> None:
    today = parse_site_policy(STRICT)
    for number in range(9):
        if number == 4:
            yard.write(STRICT)
        yard.pipeline.process(yard.walk(13 + number, across, 26.0 + number * 30, frames=60))
    changed_us, end_us = START_US + 146 * SECOND_US, START_US + 296 * SECOND_US
    assert has_events_of(yard.store, "yard", "gate", today, changed_us, end_us)
    assert not has_events_of(yard.store, "yard", "gate", today, START_US + 10 * SECOND_US, end_us)


def test_a_log_under_moving_is_not_that_of_a_fold_which_remembers_more_of_the_scene(yard: Yard) -> None:
    text = YARD.replace('site = "yard"\n', 'site = "yard"\ntargets = ["person", "moving"]\n', 1)
    yard.write(text)
    yard.pipeline.process(yard.walk(13, across, 26.0, frames=60))
    stretch = START_US + 26 * SECOND_US, START_US + 60 * SECOND_US
    assert not has_events_of(yard.store, "yard", "gate", parse_site_policy(text), *stretch)


def test_the_models_of_a_place_are_those_that_vote_on_its_targets() -> None:
    policy = parse_site_policy('site = "yard"\ntargets = ["person", "moving"]')
    voters = {target: voters_of((DETECTOR, CHANGE), policy, Place(target=target)) for target in ("moving", "person")}
    assert voters == {"moving": [CHANGE], "person": [DETECTOR]}
