"""What a changed policy would have given on a past day: visits of each sector, crossings of each line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from policies.events import Event
from policies.geometry import Point
from server.analysis.drawn import drawn_into, read_drawn
from server.analysis.policy_diff import difference
from server.analysis.renames import Rename, renames
from server.console.access import Viewer
from server.console.context import Context
from server.console.drawing import svg_points
from server.console.pages import NoQuery, Pages, Part
from server.console.sectors.shapes import MOST_BYTES, Fault, faults_of
from server.console.sectors.stretch import day_to_try
from server.delivery.visits import Joiner, unlogged
from server.domain.errors import SectorwatchError
from server.domain.times.local_time import LocalTime
from server.replays import Job, Replayed

MOST_PATHS = 300
LIMIT_S = 20.0
_WAIT_S = 0.8

What = Literal["visits", "crossings"]


class DrawForm(msgspec.Struct, frozen=True):
    """What a page sends: the shapes that were drawn (JSON), the text of the file below them, the fingerprint of the
    file when the page was made, and a reason; or the number of a version.
    """

    shapes: str = ""
    text: str = ""
    seen: str = ""
    why: str = ""
    version: int | None = None


class Count(msgspec.Struct, frozen=True):
    """Visits of a target in a sector, or its crossings of a line, today's policy beside the changed one. `was`: the
    name that a renamed sector has today.
    """

    what: What
    name: str
    target: str
    before: int
    after: int
    was: str = ""


class Preview(msgspec.Struct, frozen=True):
    """What a change would have given on a day, as far as the replay has come (`share` in 0..1, `until_local`).

    `before` and `after` count visits and crossings of all. `is_over`: nothing more will come. `why` says in words why
    there are no figures, or not all. `version`: of which version it is, None for what is not saved yet. `renamed`:
    sectors that only get another name.
    """

    site: str
    camera: str
    day: str = ""
    before: int = 0
    after: int = 0
    counts: tuple[Count, ...] = ()
    share: float = 0.0
    until_local: str = ""
    is_over: bool = True
    why: str = ""
    faults: tuple[Fault, ...] = ()
    diff: tuple[str, ...] = ()
    version: int | None = None
    renamed: tuple[Rename, ...] = ()


class Paths(msgspec.Struct, frozen=True):
    """Where tracks of a day went, as far as the replay has come."""

    site: str
    camera: str
    day: str
    paths: tuple[tuple[Point, ...], ...]
    is_over: bool

    @property
    def lines(self) -> tuple[str, ...]:
        """The paths as SVG polylines have them."""
        return tuple(map(svg_points, self.paths))


def add(pages: Pages, context: Context) -> None:
    """Register the parts that the page loads."""

    @pages.page("/sectors/<site>/<camera>/paths", twin=None, template="sectors_paths.html")
    def sectors_paths(viewer: Viewer, query: NoQuery, site: str, camera: str) -> Paths:
        return paths_of(context, viewer, viewer.to_read(site), camera, _WAIT_S)

    @pages.action("/sectors/<site>/<camera>/preview", form=DrawForm)
    def sectors_previewed(viewer: Viewer, form: DrawForm, site: str, camera: str) -> Part:
        viewer.to_change(site)
        return Part("sectors_preview.html", previewed(context, viewer, form, site, camera))


def paths_of(context: Context, viewer: Viewer, site: str, camera: str, wait_s: float) -> Paths:
    """Where tracks went on the day that changes are tried on."""
    day = day_to_try(context, site, camera, context.local_time(site))
    try:
        text = context.versions.file(site).text
        if day is None or text is None or faults_of(text, camera):
            return Paths(site, camera, "", (), is_over=True)
        job = Job(site, (camera,), (text,), day.since_us, day.until_us, LIMIT_S, MOST_PATHS)
        replayed = context.replays.ask(job, f"{viewer.name} paths {site}/{camera}", wait_s)
    except SectorwatchError:  # the page is whole without them
        return Paths(site, camera, "", (), is_over=True)
    paths = tuple(path for span in replayed.spans for path in span.paths)
    return Paths(site, camera, day.name, paths, replayed.is_over)


def new_text(context: Context, form: DrawForm, site: str, camera: str) -> str:
    """The text that a form makes of the site's file. Raises ValueError for what cannot be one."""
    text = form.text.replace("\r\n", "\n") or context.versions.file(site).text or f'site = "{site}"\n'
    if len(text) > MOST_BYTES:
        raise ValueError(faults_of(text, camera)[0].words)
    return drawn_into(text, camera, read_drawn(form.shapes)) if form.shapes else text


def previewed(context: Context, viewer: Viewer, form: DrawForm, site: str, camera: str) -> Preview:
    """What a form's change, or a version's, would have given."""
    file = context.versions.file(site)
    if form.version is not None:
        version = context.versions.version_of(site, form.version)
        before, after = version.before_text or "", version.text
    else:
        before = file.text or ""
        try:
            after = new_text(context, form, site, camera)
        except ValueError as error:
            return Preview(site, camera, faults=(Fault("", str(error)),))
        if form.seen and form.seen != file.fingerprint:
            changed = f"{file.name} has changed since you began: load the page again and make your change there"
            return Preview(site, camera, faults=(Fault("", changed),))
    if before.rstrip() == after.rstrip():
        return Preview(site, camera, why="Nothing is changed yet.", version=form.version)
    diff = tuple(difference(before, after, file.name, "changed"))
    if faults := faults_of(after, camera):
        return Preview(site, camera, faults=faults, diff=diff, version=form.version)
    renamed = renames(before, after)
    counted = _counted(context, viewer, site, camera, before, after, renamed)
    return msgspec.structs.replace(counted, diff=diff, version=form.version, renamed=renamed)


def _counted(
    context: Context, viewer: Viewer, site: str, camera: str, before: str, after: str, renamed: Iterable[Rename]
) -> Preview:
    local = context.local_time(site)
    day = day_to_try(context, site, camera, local)
    if day is None:
        return Preview(site, camera, why="This camera has sent nothing yet, so there is no day to try the change on.")
    if not before or faults_of(before, camera):
        before = 'site = "' + site + '"\n'
    job = Job(site, (camera,), (before, after), day.since_us, day.until_us, LIMIT_S)
    try:
        replayed = context.replays.ask(job, f"{viewer.name} preview {site}/{camera}", _WAIT_S)
    except SectorwatchError as error:
        return Preview(site, camera, day.name, why=f"{error.detail[:1].upper()}{error.detail[1:]}.")
    now = {each.before: each.after for each in renamed if each.camera == camera}
    return preview_of(replayed, day.name, camera, local, now)


def preview_of(
    replayed: Replayed, day: str, camera: str, local: LocalTime, renamed: Mapping[str, str] | None = None
) -> Preview:
    """The figures of a replay of two texts. What `renamed` sectors had stands beside what they would have had."""
    had, would_be = (counts_of(replayed.events(text)) for text in range(2))
    now = renamed or {}
    were = Counter(
        {(what, now.get(name, name) if what == "visits" else name, of): n for (what, name, of), n in had.items()}
    )
    was = {after: before for before, after in now.items()}
    counts = tuple(
        Count(
            what,
            name,
            target,
            were[what, name, target],
            would_be[what, name, target],
            was.get(name, "") if what == "visits" else "",
        )
        for what, name, target in sorted(were | would_be)
    )
    until_us = max((span.until_us for span in replayed.spans), default=replayed.job.since_us)
    return Preview(
        replayed.job.site,
        camera,
        day,
        sum(were.values()),
        sum(would_be.values()),
        counts,
        round(replayed.share, 3),
        "" if replayed.state == "done" else local.minute(until_us),
        replayed.is_over,
        replayed.why,
    )


def counts_of(events: Iterable[Event]) -> Counter[tuple[What, str, str]]:
    """How many visits each sector had of each target, and how many crossings each line."""
    counted: Counter[tuple[What, str, str]] = Counter()
    in_order = sorted(events, key=lambda event: event.started_at)
    for visit in Joiner().join(map(unlogged, in_order)):
        first = visit.first
        if first.kind == "crossed":
            counted["crossings", first.line or "", first.label] += 1
        elif first.sector is not None and first.kind in ("entered", "presence_started"):
            counted["visits", first.sector, first.label] += 1
    return counted
