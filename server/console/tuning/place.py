"""The place and the stretch that an address names, as they are stored and in force now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from policies.observation import ModelInfo
from policies.site.site_policy import SitePolicy
from server.analysis.tuning.candidates import Place
from server.analysis.tuning.past import DAY_US, HOUR_US, place_of, voters_of
from server.console.context import Context
from server.console.tuning.address import MOST_MODELS, TuneQuery
from server.domain.errors import Malformed, RetryLater, Unknown
from server.domain.records import CameraHead
from server.domain.times.local_time import LocalTime, read_when

MOST_DAYS = 31
FORM = "%Y-%m-%dT%H:%M"
"""How a form's field has a local time."""


@dataclass(frozen=True, slots=True)
class Found:
    """A place in today's policy. `head_us` is the camera's newest frame, None while nothing is stored. `models` vote
    there.
    """

    site: str
    camera: str
    sector: str
    place: Place
    text: str
    policy: SitePolicy
    local: LocalTime
    head_us: int | None
    models: tuple[ModelInfo, ...]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Instants (us). `fault` says why it cannot be tried; empty where it can."""

    since_us: int
    until_us: int
    fault: str = ""


def found(context: Context, site: str, camera: str, sector: str, target: str | None) -> Found:
    """The place of these names. Raises Unknown for one that is not there, with what there is."""
    try:
        edition = context.sites.edition(site)
    except RetryLater as error:
        if context.sites.standing(site).faults:  # it is there, for a server of another release
            raise
        raise Unknown(error.detail) from None
    heads = [head for head in context.store.cameras() if head.site == site]
    _check_camera(edition.policy, heads, site, camera)
    place = place_of(edition.policy, camera, sector, target)
    head_us = next((head.last_at_us for head in heads if head.camera == camera), None)
    models: Sequence[ModelInfo] = ()
    if head_us is not None:
        newest = next(iter(context.store.past.before(site, camera, head_us + 1, 1)), None)
        if newest is not None:
            models = voters_of(context.store.kept(newest.burst_id).ensemble_info.models, edition.policy, place)
    in_order = sorted(models, key=lambda info: info.model)[:MOST_MODELS]
    local = context.local_time(site)
    return Found(site, camera, sector, place, edition.text, edition.policy, local, head_us, tuple(in_order))


def _check_camera(policy: SitePolicy, heads: Sequence[CameraHead], site: str, camera: str) -> None:
    known = sorted({*policy.cameras, *(head.camera for head in heads)})
    if camera not in known:
        raise Unknown(f"site `{site}` has no camera `{camera[:64]}`; it has {', '.join(known) or 'none yet'}")


def stretch_of(query: TuneQuery, local: LocalTime, head_us: int, now_us: int) -> Stretch:
    """The stretch that an address names; without one, the day up to the full hour after the newest frame.

    Raises Malformed for a time that cannot be read.
    """
    newest = newest_day(head_us)
    since_us = newest.since_us if query.since is None else _us("since", query.since, local, now_us)
    until_us = newest.until_us if query.until is None else _us("until", query.until, local, now_us, since_us)
    if query.since is None and query.until is not None:
        since_us = until_us - DAY_US
    if query.since is not None and query.until is None and since_us >= until_us:
        until_us = since_us + DAY_US
    stretch = Stretch(since_us, until_us)
    if until_us <= since_us:
        return replace(stretch, fault="The stretch ends before it begins. Choose a later end.")
    if until_us - since_us > MOST_DAYS * DAY_US:
        longer = "`sectorwatch tune` takes any stretch"
        return replace(stretch, fault=f"At most {MOST_DAYS} days are tried here at once; {longer}. Choose fewer.")
    if since_us > head_us:
        at = local.dated(head_us)
        return replace(stretch, fault=f"The newest frame of this camera is of {at}. Choose an earlier stretch.")
    return stretch


def newest_day(head_us: int) -> Stretch:
    """24 hours up to the full hour after the newest frame."""
    until_us = head_us // HOUR_US * HOUR_US + HOUR_US
    return Stretch(until_us - DAY_US, until_us)


def _us(name: str, text: str, local: LocalTime, now_us: int, after_us: int | None = None) -> int:
    try:
        at_us = read_when(text[:64]).us(local, now_us, after_us)
    except (ValueError, OverflowError) as error:
        raise Malformed(f"`{name}`: {error}") from None
    if not 0 < at_us < now_us + 36_500 * DAY_US:
        raise Malformed(f"`{name}` lies too far away: {text[:64]}")
    return at_us


def in_field(local: LocalTime, at_us: int) -> str:
    """A local time as a form's field has it, to the minute."""
    return local.at(at_us).strftime(FORM)
