"""`/ensemble`: the ensemble in service, whether it is the approved one, and how its models agree, with each other and
with people. The address `/models` is FlexServe's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from policies.events import instant, microseconds
from policies.observation import EnsembleInfo, ModelInfo
from server.analysis.agreement import PairAgreement, event_agreements, records_of
from server.catalogue.lock import read_lock
from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import Pages
from server.domain.announcements import Notice, Noticed
from server.domain.errors import ConfigurationError, RetryLater
from server.domain.fleet import Replica, ReplicaState, Standing, sites_differ, state_of
from server.domain.records import LoggedEvent
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import LocalTime, site_time
from server.web.openapi import Twin

WEEKS = 8
WEEK_US = 7 * 86_400 * SECOND_US
SAMPLE = 600
"""About so many events are read for all weeks together: a tenth of a second of a small processor."""
MOST_JUDGED = 500
_NOTICES = 20


class ModelsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose events: of one site; empty: of all."""

    site: str = ""


class ModelCard(msgspec.Struct, frozen=True):
    """A model in service, by its card. One without a card has its name, kind and classes alone."""

    name: str
    kind: Literal["detector", "classifier"]
    votes: bool
    classes: tuple[str, ...]
    summary: str | None
    licence: str | None
    citation: str | None
    sha256: str | None
    input: str | None


class LockState(msgspec.Struct, frozen=True):
    """The lock of the settings: `holds` if the ensemble in service is the locked one; null: there is none, or no lock.

    `fault` says why the lock cannot be read.
    """

    file: str | None
    holds: bool | None = None
    fault: str | None = None


class GoldenState(msgspec.Struct, frozen=True):
    """What the golden set says of the ensemble in service, and how often it is replayed (s; 0: at load alone)."""

    state: Literal["approved", "not_approved", "not_checked"]
    folder: str | None
    every_s: float


class NoticeShown(msgspec.Struct, frozen=True):
    """Something that happened to the ensemble."""

    at: datetime
    at_local: str
    what: Noticed
    ensemble: str
    models: tuple[str, ...]
    detail: str
    instance: str | None


class ReplicaShown(msgspec.Struct, frozen=True):
    """A server on the database, and how it stands to the ensemble that all are to serve. `sites` says where the site
    policies are by which it judges; null: it has not said yet. `upkeep_since`: since when it does the upkeep for all;
    null: it does not.
    """

    name: str
    state: ReplicaState
    what: str
    seen_at: datetime
    seen_at_local: str
    sites: str | None
    upkeep_since: datetime | None
    upkeep_since_local: str | None


class Pair(msgspec.Struct, frozen=True):
    """How two models voted on events of one target on which both voted."""

    target: str
    a: str
    b: str
    events: int
    agree: int
    only_a: int
    only_b: int


class Week(msgspec.Struct, frozen=True):
    """Seven days from `since` on: how many events of them are in the sample, and what the models said of these."""

    since: datetime
    since_local: str
    events: int
    pairs: tuple[Pair, ...]


class Judged(msgspec.Struct, frozen=True):
    """How a model voted on annotated events. `disagreed`: against a true one, or for a false one."""

    model: str
    voted: int
    disagreed: int
    against_true: int
    for_false: int
    silent: int


class Annotated(msgspec.Struct, frozen=True):
    """The newest annotated events, at most `most`: how many were true and false, and the models by how often people
    contradict them.
    """

    true: int
    false: int
    most: int
    models: tuple[Judged, ...]


class ModelsShown(msgspec.Struct, frozen=True):
    """The models in service. `unavailable` says why there is none. `sites_differ` says how the site policies by which
    the servers judge differ; null: they do not.

    `weeks` are those of a sample: every `every_nth` event that was reported. What nobody reported is not in it.
    """

    ensemble: str | None
    unavailable: str | None
    models: tuple[ModelCard, ...]
    lock: LockState
    golden: GoldenState
    replicas: tuple[ReplicaShown, ...]
    sites_differ: str | None
    notices: tuple[NoticeShown, ...]
    site: str | None
    sites: tuple[str, ...]
    every_nth: int
    weeks: tuple[Week, ...]
    annotated: Annotated


TWIN = Twin("/v1/ensemble", "showModels", "Show the models, and how they agree.", ModelsQuery, ModelsShown)


def add(pages: Pages, context: Context) -> None:
    """Register the page."""

    @pages.page("/ensemble", twin=TWIN, template="models.html", query=ModelsQuery)
    def models(viewer: Viewer, query: ModelsQuery) -> ModelsShown:
        site = query.site or None
        sites = viewer.sites if site is None else frozenset({viewer.to_read(site)})
        info, unavailable = _in_service(context)
        local = site_time(context.store) if site is None else context.local_time(site)
        notices = context.store.notices.all(limit=_NOTICES)
        standing = context.store.fleet.standing()
        differ = sites_differ(standing)
        weeks, every_nth = _weeks(context, sites, local)
        return ModelsShown(
            ensemble=None if info is None else info.ensemble,
            unavailable=unavailable,
            models=() if info is None else tuple(_card(each, context.card(each.model)) for each in info.models),
            lock=_lock(context.settings.lock, info),
            golden=_golden(context, info, notices, unavailable),
            replicas=tuple(_replica(each, standing, local) for each in standing.replicas),
            sites_differ=None if differ is None else differ.what,
            notices=tuple(_notice(each, local) for each in reversed(notices)),
            site=site,
            sites=tuple(each for each in context.sites.sites() if viewer.reads(each)),
            every_nth=every_nth,
            weeks=weeks,
            annotated=_annotated(context, sites),
        )


def _in_service(context: Context) -> tuple[EnsembleInfo | None, str | None]:
    try:
        return context.ensemble().ensemble_info, None
    except RetryLater as error:
        return None, error.detail


def _replica(replica: Replica, standing: Standing, local: LocalTime) -> ReplicaShown:
    source = replica.judges_by
    since_us = replica.upkeep_since_us if replica == standing.with_upkeep() else None
    return ReplicaShown(
        replica.name,
        *state_of(replica, standing),
        instant(replica.seen_at_us),
        local.dated(replica.seen_at_us),
        None if source is None else source.shown,
        None if since_us is None else instant(since_us),
        None if since_us is None else local.dated(since_us),
    )


def _card(info: ModelInfo, card: Mapping[str, object]) -> ModelCard:
    def text(name: str) -> str | None:
        value = card.get(name)
        return None if value in (None, "") else str(value)

    return ModelCard(
        info.model,
        "detector" if info.boxes else "classifier",
        info.votes,
        tuple(sorted(info.classes)),
        text("summary"),
        text("licence"),
        text("citation"),
        text("sha256"),
        _input(card.get("input")),
    )


def _input(form: object) -> str | None:
    """The input form in words, as `416 x 416 pixels, letterbox, rgb`."""
    if not isinstance(form, dict):
        return None
    size = form.get("size")
    pixels = f"{' x '.join(map(str, size))} pixels" if isinstance(size, list | tuple) else ""
    return ", ".join(filter(None, [pixels, *(str(form[name]) for name in ("fit", "colour", "dtype") if name in form)]))


def _lock(file: Path | None, info: EnsembleInfo | None) -> LockState:
    if file is None:
        return LockState(None)
    try:
        locked = read_lock(file).digest
    except ConfigurationError as error:
        return LockState(file.name, fault=error.detail)
    return LockState(file.name, holds=None if info is None else locked == info.ensemble)


def _golden(
    context: Context, info: EnsembleInfo | None, notices: Sequence[Notice], unavailable: str | None
) -> GoldenState:
    """The newest notice of the ensemble in service says it; one that is not approved answers nothing."""
    settings = context.settings
    mine = [each.what for each in notices if info is None or each.ensemble == info.ensemble]
    states: dict[str, Literal["approved", "not_approved"]] = {
        "serves": "approved",
        "approved": "approved",
        "unapproved": "not_approved",
    }
    known = [states[what] for what in mine if what in states]
    state = known[-1] if known and (info is not None or known[-1] == "not_approved") else "not_checked"
    return GoldenState(state, None if settings.golden is None else settings.golden.name, settings.golden_every_s)


def _notice(notice: Notice, local: LocalTime) -> NoticeShown:
    at = instant(notice.at_us)
    return NoticeShown(
        at, local.dated(notice.at_us), notice.what, notice.ensemble, notice.models, notice.detail, notice.instance
    )


def _weeks(context: Context, sites: frozenset[str] | None, local: LocalTime) -> tuple[tuple[Week, ...], int]:
    """The newest first."""
    now_us = context.clock()
    since_us = now_us - WEEKS * WEEK_US
    sampled, every_nth = context.store.past.sample(since_us, now_us, sites, SAMPLE)
    by_week: dict[int, list[LoggedEvent]] = {}
    for each in sampled:
        by_week.setdefault((now_us - microseconds(each.event.confirmed_at) - 1) // WEEK_US, []).append(each)
    return tuple(_week(now_us - (n + 1) * WEEK_US, by_week.get(n, []), local) for n in range(WEEKS)), every_nth


def _week(since_us: int, events: Sequence[LoggedEvent], local: LocalTime) -> Week:
    pairs = tuple(map(_pair, event_agreements(each.event for each in events)))
    return Week(instant(since_us), local.at(since_us).date().isoformat(), len(events), pairs)


def _pair(found: PairAgreement) -> Pair:
    agree = found.both_for + found.both_against
    return Pair(found.target, found.a, found.b, found.candidates, agree, found.only_a, found.only_b)


def _annotated(context: Context, sites: frozenset[str] | None) -> Annotated:
    judged = [
        (annotation.truth == "true", event.votes)
        for annotation, event in context.store.past.judged(sites, MOST_JUDGED)
        if annotation.truth in ("true", "false")
    ]
    records = tuple(
        Judged(each.model, each.voted, each.disagreed, each.true_against, each.false_for, each.silent)
        for each in records_of(judged)
    )
    true = sum(is_true for is_true, _ in judged)
    return Annotated(true, len(judged) - true, MOST_JUDGED, records)
