"""The addresses of the page."""

from __future__ import annotations

from collections import Counter

from policies.site.site_policy import SitePolicy
from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import NoQuery, Pages, To
from server.console.tuning.address import AS_NOW, TuneQuery, address, from_form
from server.console.tuning.build import tuned
from server.console.tuning.page import Tune, TuneCamera, TunePlaces, TuneSector
from server.console.tuning.place import found
from server.console.tuning.saving import TuneForm, saved, version_shown
from server.console.tuning.trial import Trials
from server.domain.errors import ConfigurationError, RetryLater
from server.web.openapi import Twin

_PARTS = (("site", "The site."), ("camera", "The camera."), ("sector", "The sector; `view` is the whole view."))

PLACES = Twin("/v1/tune", "listTunePlaces", "List the places whose settings can be tried.", NoQuery, TunePlaces)
TUNE = Twin(
    "/v1/tune/<site>/<camera>/<sector>",
    "tryPolicy",
    "Try a changed policy on the past of a camera.",
    TuneQuery,
    Tune,
    _PARTS,
)
TWINS = (PLACES, TUNE)


def add(pages: Pages, context: Context) -> None:
    """Register the pages."""
    trials = Trials(context)

    @pages.page("/tune", twin=PLACES, template="tune_places.html")
    def tune_places(viewer: Viewer, query: NoQuery) -> TunePlaces:
        return TunePlaces(tuple(_cameras(context, viewer)))

    @pages.page("/tune/<site>/<camera>/<sector>", twin=TUNE, template="tune.html", query=TuneQuery)
    def tune(viewer: Viewer, query: TuneQuery, site: str, camera: str, sector: str) -> Tune | To:
        viewer.to_read(site)
        here = found(context, site, camera, sector, query.target)
        if query.moved is not None:
            return To(address(site, camera, sector, from_form(query, here.text, here.policy, here.place, here.models)))
        version = None
        if query.version is not None:
            version = version_shown(context, site, query.version, here.local)
        return tuned(context, trials, viewer, query, here, version)

    @pages.action("/tune/<site>/<camera>/<sector>", form=TuneForm)
    def tune_saved(viewer: Viewer, form: TuneForm, site: str, camera: str, sector: str) -> To:
        return saved(context, viewer, form, site, camera, sector)


def _cameras(context: Context, viewer: Viewer) -> list[TuneCamera]:
    heads = [(head.site, head.camera) for head in context.store.cameras() if viewer.reads(head.site)]
    sites = sorted({site for site, _ in heads} | {site for site in context.sites.sites() if viewer.reads(site)})
    cameras = []
    for site in sites:
        try:
            policy = context.sites.policy(site)
        except (ConfigurationError, RetryLater):  # `/now` says what is wrong with it
            continue
        annotated = Counter(each.camera for each in context.store.annotations.current(site) if each.truth != "unsure")
        names = sorted({*policy.cameras, *(camera for of, camera in heads if of == site)})
        cameras += [TuneCamera(site, name, _sectors(policy, name), annotated[name]) for name in names]
    return cameras


def _sectors(policy: SitePolicy, camera: str) -> tuple[TuneSector, ...]:
    return tuple(
        TuneSector(sector.name, tuple(sector.rules.targets), address(policy.site, camera, sector.name, AS_NOW))
        for sector in policy.camera(camera).sectors
    )
