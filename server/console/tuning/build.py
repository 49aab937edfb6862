"""Builds the page from a place, a stretch and a change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from policies.events import instant
from policies.sensitivity import RuleName
from policies.site.site_policy import InvalidPolicy
from server.analysis.policy_diff import difference
from server.analysis.tuning.candidates import Candidate
from server.analysis.tuning.controls import changed, overruled_by, settings_of
from server.analysis.tuning.past import DAY_US, HOUR_US, annotated
from server.analysis.tuning.scoring import Truth
from server.console.access import Viewer
from server.console.context import Context
from server.console.tuning.address import TuneQuery, address, change_of, without_change, written
from server.console.tuning.page import Choice, Progress, State, Tune, TuneModel, TuneVersion
from server.console.tuning.place import Found, Stretch, in_field, newest_day, stretch_of
from server.console.tuning.trial import Asked, Known, Result, Trials
from server.domain.errors import SectorwatchError
from server.domain.matching import fact_of
from server.domain.times.local_time import LocalTime
from server.replays import Hour, hours_of

_NOTHING = Result((), 0, "", None, 0, (), is_complete=True)
_NOTHING_KNOWN = Known(Truth((), (), ()), (), 0)
_STRETCHES = 3


def tuned(
    context: Context, trials: Trials, viewer: Viewer, query: TuneQuery, here: Found, version: TuneVersion | None
) -> Tune:
    """The page, with what is replayed so far."""
    now_us = context.clock()
    head_us = now_us if here.head_us is None else here.head_us
    stretch = stretch_of(query, here.local, head_us, now_us)
    candidate, refusal = candidate_of(here, query)
    fault = refusal or stretch.fault
    result, known = _NOTHING, _NOTHING_KNOWN
    if here.head_us is not None and not stretch.fault:
        known = trials.known(here.site, here.camera, stretch.since_us, stretch.until_us)
        if not fault:
            asked = _asked(here, stretch, candidate)
            result = trials.result(
                asked, known, here.local, f"tune {viewer.name} {here.site} {here.camera} {here.place.sector}"
            )
    state = _state(here, candidate, result, fault)
    return _page(context, query, here, stretch, candidate, (state, fault or result.why), result, known, viewer, version)


def candidate_of(here: Found, query: TuneQuery) -> tuple[Candidate, str]:
    """The policy to try; today's and why, where there can be no such policy."""
    as_now = Candidate("", {}, here.text, here.policy)
    try:
        candidate = changed(here.text, here.place, change_of(query, _rule(here)))
    except InvalidPolicy as error:
        return as_now, f"There can be no such policy: {error}. Move that control back, or change the file."
    return (as_now, "") if candidate.policy.digest == here.policy.digest else (candidate, "")


def _asked(here: Found, stretch: Stretch, candidate: Candidate) -> Asked:
    assert here.head_us is not None, "something is stored"
    times = (stretch.since_us, stretch.until_us, here.head_us)
    return Asked(here.site, here.camera, here.place, *times, here.policy, here.text, candidate)


def _state(here: Found, candidate: Candidate, result: Result, fault: str) -> State:
    if here.head_us is None:
        return "empty"
    if fault:
        return "refused"
    if result.why:
        return "stopped"
    if not result.is_complete:
        return "working"
    return "done" if candidate.changes else "today"


def _page(
    context: Context,
    query: TuneQuery,
    here: Found,
    stretch: Stretch,
    candidate: Candidate,
    outcome: tuple[State, str],
    result: Result,
    known: Known,
    viewer: Viewer,
    version: TuneVersion | None,
) -> Tune:
    settings = settings_of(here.policy, here.place, here.models)
    tried = settings_of(candidate.policy, here.place, here.models)
    names = (here.site, here.camera, here.sector)
    hours = 0 if here.head_us is None else len(hours_of(stretch.since_us, min(stretch.until_us, here.head_us + 1)))
    true, false = known.truth.instants()
    name = f"{here.site}.toml"
    file = _file(context, here)
    state, message = outcome
    return Tune(
        *names,
        here.place.target,
        tuple(_targets(here, query)),
        here.local.name,
        instant(stretch.since_us),
        instant(stretch.until_us),
        in_field(here.local, stretch.since_us),
        in_field(here.local, stretch.until_us),
        tuple(_stretches(context, here, query)),
        state,
        " ".join(filter(None, (message, file.fault))),
        candidate.words,
        settings,
        tried,
        tuple(
            TuneModel(m, settings.scores[m], tried.scores[m], tried.weights[m])
            for m in (info.model for info in here.models)
        ),
        Progress(len(result.hours), hours, _covered(result.hours, here.local) if result.left else ""),
        result.figures,
        result.differ,
        result.strips,
        tuple(difference(file.text, candidate.text, name, f"{name}, changed")) if candidate.changes else (),
        _overruled(here, query, candidate),
        len(true),
        len(false),
        known.left_out,
        _to_judge(known),
        version,
        viewer.changes(here.site),
        address(*names, replace(query, version=None)),
        address(*names, without_change(query)),
        written(replace(query, version=None)),
        file.fingerprint,
    )


class _File(NamedTuple):
    """The site's file. `fault` says, in sentences, why its last good version is in force; empty where the file is."""

    text: str
    fingerprint: str
    fault: str


def _file(context: Context, here: Found) -> _File:
    """The file that a proposal replaces; the text in force where the file cannot be read."""
    standing = context.sites.standing(here.site)
    fault = ""
    if standing.in_force != "file":
        why = "; ".join(standing.faults) or "it is gone"
        fault = (
            f"The site's file cannot be used ({why}), so its last good version is in force. What you save here is "
            "made from that version, and takes the place of the whole file."
        )
    try:
        file = context.versions.file(here.site)
    except SectorwatchError as error:
        return _File(here.text, "", fault or f"The site's file cannot be read: {error.detail}.")
    return _File(file.text or "", file.fingerprint, fault)


def _targets(here: Found, query: TuneQuery) -> Iterator[Choice]:
    """All targets of the place together, and each alone where there are several."""
    targets = here.place._replace(target=None).rules(here.policy).targets
    if len(targets) > 1:
        for target in (None, *targets):
            there = address(here.site, here.camera, here.sector, replace(without_change(query), target=target))
            yield Choice(target or "all targets", there, target == here.place.target)


def _stretches(context: Context, here: Found, query: TuneQuery) -> Iterator[Choice]:
    """The newest day and week, and the time of all annotations, as far as they are other stretches."""
    if here.head_us is None:
        return
    day = newest_day(here.head_us)
    spans: list[tuple[str, str | None, str | None]] = [("the newest day", None, None)]
    spans.append(
        ("the newest week", in_field(here.local, day.until_us - 7 * DAY_US), in_field(here.local, day.until_us))
    )
    instants = [each.at_us for each in annotated(context.store, here.site, [here.camera])]
    if instants:
        since_us = max(min(instants) - HOUR_US, max(instants) + 2 * HOUR_US - 31 * DAY_US)
        ends = in_field(here.local, since_us), in_field(here.local, max(instants) + 2 * HOUR_US)
        spans.append(("the annotated time", *ends))
    for name, since, until in spans:
        there = replace(query, since=since, until=until, version=None)
        is_current = (query.since, query.until) == (since, until)
        yield Choice(name, address(here.site, here.camera, here.sector, there), is_current)


def _overruled(here: Found, query: TuneQuery, candidate: Candidate) -> tuple[str, ...]:
    if not candidate.changes:
        return ()
    return tuple(overruled_by(here.text, here.place, change_of(query, _rule(here))))


def _rule(here: Found) -> RuleName:
    return here.place.rules(here.policy).sensitivity.rule


def _covered(hours: tuple[Hour, ...], local: LocalTime) -> str:
    """The hours that are done, in words: `18:00-20:00, 06:00-07:00`, the newest first."""
    runs: list[list[int]] = []
    for hour in hours:
        if runs and runs[-1][1] == hour.since_us:
            runs[-1][1] = hour.until_us
        else:
            runs.append([hour.since_us, hour.until_us])
    named = [f"{local.at(since):%d %b %H:%M}-{local.at(until):%H:%M}" for since, until in reversed(runs)]
    more = f" and {len(named) - _STRETCHES} more" if len(named) > _STRETCHES else ""
    return ", ".join(named[:_STRETCHES]) + more


def _to_judge(known: Known) -> str | None:
    """The newest event that nobody has annotated."""
    unjudged = set(known.truth.unjudged)
    newest = next((event for event in reversed(known.logged) if fact_of(event) in unjudged), None)
    return None if newest is None else newest.id
