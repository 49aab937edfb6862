"""The page itself: the picture with its shapes, the text of the file, and the versions of the policy."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import msgspec

from policies.events import instant
from policies.site.toml_errors import NAME
from server.analysis.policy_diff import difference
from server.analysis.renames import Rename, renames
from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import NoQuery, Pages
from server.console.sectors.preview import DrawForm, Paths, Preview, paths_of, previewed
from server.console.sectors.shapes import Fault, Shapes, faults_of, shapes_of
from server.domain.errors import ConfigurationError, RetryLater, Unknown
from server.domain.policy_versions import PolicyVersion
from server.domain.policy_versions import Standing as VersionStanding
from server.domain.times.local_time import LocalTime
from server.pipeline.site_policies import InForce
from server.pipeline.site_versions import SiteFile
from server.web.openapi import Twin

MOST_VERSIONS = 10


class SectorsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version to show instead of the file as it is."""

    version: int | None = None


class Still(msgspec.Struct, frozen=True):
    """The picture to draw on: the newest that is kept."""

    sha256: str
    at: datetime
    at_local: str


class VersionLine(msgspec.Struct, frozen=True):
    """A version: what it is, since when and by whom, and its reason."""

    number: int
    standing: VersionStanding
    since: datetime
    since_local: str
    by: str
    author: str
    why: str | None
    digest: str


class ChosenVersion(msgspec.Struct, frozen=True):
    """The version that is shown: its text, its diff to the file from which it was made, and the sectors that it only
    renames.
    """

    line: VersionLine
    text: str
    diff: tuple[str, ...]
    can_be_put: bool
    can_be_taken_back: bool
    renamed: tuple[Rename, ...]


class Sectors(msgspec.Struct, frozen=True):
    """The sectors, lines and ignored areas of a camera, as the policy in force has them, or as a version does.

    `text` is the whole file; `fingerprint` changes with it. `in_force` says whether that file counts, or its last good
    version. `can_change`: whether the viewer may change them. `day` and `paths` show where tracks went.
    """

    site: str
    camera: str
    zone: str
    picture: Still | None
    shapes: Shapes
    file: str
    text: str
    fingerprint: str
    in_force: InForce
    faults: tuple[Fault, ...]
    versions: tuple[VersionLine, ...]
    chosen: ChosenVersion | None
    can_change: bool
    paths: Paths
    preview: Preview | None = None

    @property
    def shapes_json(self) -> str:
        """The shapes for the page's script."""
        return msgspec.json.encode(self.shapes).decode()


class CameraLink(msgspec.Struct, frozen=True):
    """A camera whose sectors can be drawn."""

    site: str
    camera: str
    sectors: int


class SectorsIndex(msgspec.Struct, frozen=True):
    """The cameras whose sectors the viewer may see."""

    cameras: tuple[CameraLink, ...]


_PARTS = (("site", "Site."), ("camera", "Camera."))
TWIN = Twin(
    "/v1/sectors/<site>/<camera>",
    "showSectors",
    "Show the sectors, lines and ignored areas of a camera, and the versions of the site's policy.",
    SectorsQuery,
    Sectors,
    _PARTS,
)
INDEX_TWIN = Twin("/v1/sectors", "listSectors", "List the cameras whose sectors can be drawn.", NoQuery, SectorsIndex)


def add(pages: Pages, context: Context) -> None:
    """Register the pages."""

    @pages.page("/sectors", twin=INDEX_TWIN, template="sectors_index.html")
    def sectors_index(viewer: Viewer, query: NoQuery) -> SectorsIndex:
        found = {(head.site, head.camera) for head in context.store.cameras()}
        for site in context.sites.sites():
            with suppress(ConfigurationError, RetryLater):  # its file is gone since
                found |= {(site, camera) for camera in context.sites.policy(site).cameras}
        seen = sorted(each for each in found if viewer.reads(each[0]))
        return SectorsIndex(tuple(CameraLink(*each, _sectors(context, *each)) for each in seen))

    @pages.page("/sectors/<site>/<camera>", twin=TWIN, template="sectors.html", query=SectorsQuery)
    def sectors(viewer: Viewer, query: SectorsQuery, site: str, camera: str) -> Sectors:
        if not (NAME.fullmatch(viewer.to_read(site)) and NAME.fullmatch(camera)):
            raise Unknown("names of sites and cameras are lower-case letters, digits, - and _")
        return _page(context, viewer, query, site, camera)


def _page(context: Context, viewer: Viewer, query: SectorsQuery, site: str, camera: str) -> Sectors:
    local = context.local_time(site)
    file = context.versions.file(site)
    versions = context.versions.versions(site)
    chosen = None if query.version is None else context.versions.version_of(site, query.version)
    text = file.text or ""
    still = context.store.frames.latest(site).get((site, camera))
    preview = None
    if chosen is not None and viewer.changes(site):
        preview = previewed(context, viewer, DrawForm(version=chosen.number), site, camera)
    return Sectors(
        site,
        camera,
        local.name,
        None if still is None else Still(still.sha256, instant(still.at_us), local.dated(still.at_us)),
        shapes_of(text if chosen is None else chosen.text, camera),
        file.name,
        text,
        file.fingerprint,
        context.sites.standing(site).in_force,
        faults_of(text, camera) if text else (),
        tuple(_line(each, file, local) for each in versions[:MOST_VERSIONS]),
        None if chosen is None else _chosen(chosen, file, local),
        viewer.changes(site),
        paths_of(context, viewer, site, camera, 0.0),
        preview,
    )


def _sectors(context: Context, site: str, camera: str) -> int:
    try:
        return len(context.sites.policy(site).camera(camera).sectors)
    except (ConfigurationError, RetryLater):
        return 0


def _line(version: PolicyVersion, file: SiteFile, local: LocalTime) -> VersionLine:
    at_us, by = version.newest_step
    return VersionLine(
        version.number,
        file.standing(version),
        instant(at_us),
        local.dated(at_us),
        by,
        version.author,
        version.why,
        version.digest,
    )


def _chosen(version: PolicyVersion, file: SiteFile, local: LocalTime) -> ChosenVersion:
    return ChosenVersion(
        _line(version, file, local),
        version.text,
        tuple(difference(version.before_text or "", version.text, file.name, f"version {version.number}")),
        can_be_put=version.in_force_at_us is None and version.before_text == file.text,
        can_be_taken_back=file.standing(version) == "in force" and version.before_text is not None,
        renamed=renames(version.before_text or "", version.text),
    )
