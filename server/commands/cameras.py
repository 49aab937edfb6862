"""The stored cameras that the options --site and --camera select."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence

import click

from policies.site.sectors import Sector
from policies.site.site_policy import SitePolicy
from server.analysis.tuning import past
from server.commands.options import Window
from server.delivery.gone_text import NOT_KEPT, gone_lines
from server.domain.errors import Unknown
from server.domain.keeping import Gone
from server.domain.records import Annotation, CameraHead
from server.domain.times.local_time import LocalTime
from server.store import Store

_USED = "a replay uses what was seen then"


def find_cameras(store: Store, site: str | None, camera: str | None) -> list[CameraHead]:
    """The stored cameras of these names (None: any). Raises Unknown if there are none."""
    stored = store.cameras()
    matching = [c for c in stored if site in (None, c.site) and camera in (None, c.camera)]
    if not matching:
        near = difflib.get_close_matches(camera or "", [c.camera for c in stored], n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"cameras with data: {_names(stored)}"
        raise Unknown(f"nothing is stored of {site or 'any site'}/{camera or '*'}; {hint}")
    return matching


def find_camera(store: Store, site: str | None, camera: str | None) -> CameraHead:
    """The only camera of these names. Raises Unknown if there are none or several."""
    matching = find_cameras(store, site, camera)
    if len(matching) > 1:
        raise Unknown(f"several cameras match; name one with --site and --camera: {_names(matching)}")
    return matching[0]


def gone_within(
    store: Store, local: LocalTime, window: Window, *, events_only: bool = False
) -> dict[tuple[str, str], Gone]:
    """What of a window is no longer kept, by camera; says so on standard error, so that lists of it are not misread."""
    every = store.retention.all_gone(window.site, window.camera)
    inside = [each.within(window.since_us, window.until_us) for each in every]
    for gone in inside:
        for line in gone_lines(gone, local.dated, events_only=events_only):
            click.echo(f"Note: {line}.", err=True)
    return {(gone.site, gone.camera): gone for gone in every}


def note_enlarged(
    store: Store,
    policies: Sequence[SitePolicy],
    cameras: Sequence[CameraHead],
    since_us: int | None,
    until_us: int | None,
) -> None:
    """Say on standard error of how many bursts detectors saw other enlarged sectors than the policies ask for: a fold
    uses what was seen.
    """
    for head in cameras:
        past = {
            digest: {s.window: s.name for s in _enlarging(store.policy(digest), head.camera)}
            for digest in store.past.policies_of(head.site, head.camera)
        }
        for policy in policies:
            wanted = {s.window: s.name for s in _enlarging(policy, head.camera)}
            if not wanted and not any(past.values()):
                continue
            counted = store.past.bursts_by_policy(head.site, head.camera, since_us, until_us)
            less, more = Counter[str](), Counter[str]()
            for digest, bursts in ((each, counted[each]) for each in past):
                less.update({name: bursts for window, name in wanted.items() if window not in past[digest]})
                more.update({name: bursts for window, name in past[digest].items() if window not in wanted})
            of = f"of {counted.total()} bursts of {head.site}/{head.camera}"
            for name, bursts in sorted(less.items()):
                click.echo(f"Note: in {bursts} {of} detectors did not see `{name}` enlarged; {_USED}.", err=True)
            for name, bursts in sorted(more.items()):
                click.echo(f"Note: in {bursts} {of} detectors also saw `{name}` enlarged; {_USED}.", err=True)


def _enlarging(policy: SitePolicy, camera: str) -> list[Sector]:
    return [sector for sector in policy.camera(camera).sectors if sector.times_larger > 1]


def with_bursts(annotations: Sequence[Annotation], gone: Mapping[tuple[str, str], Gone]) -> list[Annotation]:
    """The annotations of facts whose bursts are kept: every policy would miss the others. Says how many those are."""
    kept = past.with_bursts(annotations, gone)
    if len(kept) < len(annotations):
        left_out = f"{len(annotations) - len(kept)} annotated facts are left out"
        click.echo(f"Note: {left_out}: their bursts are {NOT_KEPT}.", err=True)
    return kept


def check_camera_is_stored(store: Store, site: str | None, camera: str | None = None) -> None:
    """Raises Unknown if a named site or camera never sent anything."""
    if site is not None or camera is not None:
        find_cameras(store, site, camera)


def _names(cameras: list[CameraHead]) -> str:
    return ", ".join(f"{c.site}/{c.camera}" for c in cameras) or "none"
