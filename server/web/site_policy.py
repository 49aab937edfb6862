"""`GET /v1/site-policy`: what the server makes of a site's file, for one of its cameras.

An agent asks at its owner's check, so that a faulty file shows where the camera is, and not only in the server's log.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from flask import Blueprint, Response, request

from policies.observation import EnsembleInfo
from policies.site.toml_errors import ready
from server.domain.ensemble_protocol import Ensemble
from server.domain.errors import RetryLater
from server.pipeline.remarks import nearest_site, remarks
from server.pipeline.site_policies import InForce, Standing
from server.web.auth import Authenticator
from server.web.json_http import json_response, query_parameters


class SitePolicyReport(msgspec.Struct, frozen=True):
    """The policy that judges a camera. `file` is a name without folders, or says which version in the database it is.

    `in_force`: the file as it is, or the last good policy, or none. `faults` say why the newest file cannot be used;
    `remarks` what is usable and probably not meant.
    """

    site: str
    camera: str
    file: str | None
    policy: str | None
    in_force: InForce
    faults: tuple[str, ...]
    remarks: tuple[str, ...]


class SitePolicyQuery(msgspec.Struct, frozen=True):
    """Whose policy is asked for. Both are needed."""

    site: str
    camera: str


ready(SitePolicyQuery)


def routes(
    standing: Callable[[str], Standing],
    sites: Callable[[], tuple[str, ...]],
    ensemble: Callable[[], Ensemble],
    authenticator: Authenticator,
) -> Blueprint:
    """The endpoint, for the camera itself and for readers of its site. While `ensemble` raises RetryLater, nothing is
    said about models.
    """
    blueprint = Blueprint("site_policy", __name__, url_prefix="/v1")

    @blueprint.get("/site-policy")
    def site_policy() -> Response:
        permissions = authenticator.authenticate(request)
        query = query_parameters(SitePolicyQuery)
        permissions.to_read_policy(query.site, query.camera)
        of_site = standing(query.site)
        return json_response(
            SitePolicyReport(
                site=query.site,
                camera=query.camera,
                file=of_site.name,
                policy=None if of_site.policy is None else of_site.policy.digest,
                in_force=of_site.in_force,
                faults=of_site.faults,
                remarks=_remarks(of_site, query),
            )
        )

    def _remarks(of_site: Standing, query: SitePolicyQuery) -> tuple[str, ...]:
        if of_site.policy is not None:
            name = of_site.name or f"the last good policy of `{query.site}`"
            return remarks(name, of_site.policy, _ensemble_info(), query.camera)
        close = nearest_site(query.site, sites())
        meant = f"; did you mean `{close}`?" if close else ""
        return () if of_site.faults else (f'the server has no policy with site = "{query.site}"{meant}',)

    def _ensemble_info() -> EnsembleInfo | None:
        try:
            return ensemble().ensemble_info
        except RetryLater:
            return None

    return blueprint
