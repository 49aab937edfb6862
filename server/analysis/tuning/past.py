"""The past on which policies are tried: the place whose settings change, the models that vote there, what is true."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from policies.events import Event, microseconds
from policies.fold import decode_state
from policies.observation import ModelInfo
from policies.site.sectors import WHOLE
from policies.site.site_policy import SitePolicy
from policies.site.targets import can_vote
from server.analysis.stored import Store
from server.analysis.tuning.candidates import Place
from server.domain.errors import Unknown
from server.domain.keeping import Gone
from server.domain.records import Annotation
from server.domain.times.clock import SECOND_US

HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US

WITHIN_S = 1.0
"""Seconds by which an event may shift and still be the same fact."""

_LOOKS = 20
"""So many checkpoints are looked at, then all of the past."""

AllGone = Mapping[tuple[str, str], Gone]
"""What is no longer kept, by site and camera."""


def place_of(policy: SitePolicy, camera: str | None, sector: str | None, target: str | None) -> Place:
    """The place whose settings are changed; the whole view of a camera without sectors has the camera's.

    Raises Unknown for one that the policy does not have.
    """
    if sector is not None and camera is not None:
        sectors = list(policy.camera(camera).by_name)
        if sector not in sectors:
            raise Unknown(f"camera `{camera}` has no sector `{sector}`; it has {', '.join(sectors)}")
        if policy.camera(camera).by_name[sector].polygon == WHOLE and camera not in _with_sectors(policy):
            sector = None
    targets = Place(camera, sector).rules(policy).targets
    if target is not None and target not in targets:
        raise Unknown(f"the policy looks for no `{target}` there; it looks for {', '.join(targets)}")
    return Place(camera, sector, target)


def _with_sectors(policy: SitePolicy) -> list[str]:
    """The cameras that have sectors of their own."""
    return [name for name, camera in policy.cameras.items() if list(camera.by_name) != ["view"]]


def voters_of(models: Iterable[ModelInfo], policy: SitePolicy, place: Place) -> list[ModelInfo]:
    """Those of an ensemble's models that can vote on some target of the place."""
    targets = place.rules(policy).targets if place.target is None else (place.target,)
    return [info for info in models if any(can_vote(info, target, policy.targets[target]) for target in targets)]


def with_bursts(annotations: Iterable[Annotation], gone: AllGone) -> list[Annotation]:
    """The annotations of facts whose bursts are kept: every policy would miss the others."""
    return [
        each
        for each in annotations
        if (known := gone.get((each.site, each.camera))) is None or not known.burst_at(each.at_us)
    ]


def annotated(store: Store, site: str, cameras: Sequence[str]) -> list[Annotation]:
    """What people said of these cameras and were sure of, kept or not."""
    return [each for each in store.annotations.current(site) if each.truth != "unsure" and each.camera in cameras]


def logged_events(
    store: Store, site: str, camera: str | None, gone: AllGone, since_us: int, until_us: int
) -> list[Event]:
    """The log of a camera (None: of the site), without what no fold can give, since its bursts are no longer kept."""
    return [
        each.event
        for each in store.events(since_us, until_us, site, camera)
        if (known := gone.get((site, each.event.camera))) is None or not known.is_proof_gone(each.event)
    ]


def confirmed_in(events: Iterable[Event], hours: Sequence[tuple[int, int]]) -> list[Event]:
    """The events that were settled in some stretches (us, from and to before)."""
    return [each for each in events if any(since <= microseconds(each.confirmed_at) < until for since, until in hours)]


def has_events_of(store: Store, site: str, camera: str, policy: SitePolicy, since_us: int, until_us: int) -> bool:
    """Whether the log of a camera's stretch is what a fold under `policy` gives: that judged every burst of it, and all
    since the view was last empty before. Then no fold is needed.
    """
    if not store.retention.gone(site, camera).within(since_us, until_us).is_nothing:
        return False
    if policy.camera(camera).asks_for_moving:  # what is remembered of the scene is never empty
        return False
    start_us = _empty_at(store, site, camera, since_us)
    return set(store.past.bursts_by_policy(site, camera, start_us, until_us)) == {policy.digest}


def _empty_at(store: Store, site: str, camera: str, before_us: int) -> int | None:
    """The newest stored instant before another at which nothing was followed or present; None where there is none."""
    point = store.checkpoint(site, camera, before_us)
    for _ in range(_LOOKS):
        if point.at_us is None or point.state is None or decode_state(point.state).is_empty:
            return point.at_us
        point = store.checkpoint(site, camera, point.at_us)
    return None
