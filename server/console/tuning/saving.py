"""Saves a changed policy as a proposal, puts it in force, takes it back: one click each, by an operator of the site."""

from __future__ import annotations

from typing import Literal

import msgspec

from server.analysis.policy_diff import difference
from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import To
from server.console.tuning.address import address, read, without_change
from server.console.tuning.build import candidate_of
from server.console.tuning.page import TuneVersion
from server.console.tuning.place import Found, found
from server.domain.errors import Unprocessable
from server.domain.policy_versions import PolicyVersion
from server.domain.times.local_time import LocalTime


class TuneForm(msgspec.Struct, frozen=True):
    """What to do: `propose` the change of the page whose query is `state`, made from the file with the fingerprint
    `seen`; or put version `number` in force, or take it back.
    """

    do: Literal["propose", "put_in_force", "take_back"]
    state: str = ""
    seen: str = ""
    why: str = ""
    number: int = 0


def saved(context: Context, viewer: Viewer, form: TuneForm, site: str, camera: str, sector: str) -> To:
    """Do it, and where to go then. Raises Forbidden for who only reads, and what the versions raise."""
    viewer.to_change(site)
    query = read(form.state)
    if form.do == "propose":
        here = found(context, site, camera, sector, query.target)
        version = _propose(context, viewer, form, here)
        there = msgspec.structs.replace(query, version=version.number)
        return To(
            address(site, camera, sector, there), f"Proposed as version {version.number}. It is not in force yet."
        )
    context.versions.version_of(site, form.number)
    there = msgspec.structs.replace(without_change(query), version=form.number)
    if form.do == "put_in_force":
        context.versions.put_in_force(form.number, viewer.name)
        return To(address(site, camera, sector, there), f"Version {form.number} is in force: it judges the next burst.")
    context.versions.take_back(form.number, viewer.name)
    note = f"Version {form.number} is taken back: the policy of before judges the next burst."
    return To(address(site, camera, sector, there), note)


def _propose(context: Context, viewer: Viewer, form: TuneForm, here: Found) -> PolicyVersion:
    candidate, refusal = candidate_of(here, read(form.state))
    if refusal or not candidate.changes:
        raise Unprocessable(refusal or "nothing is changed, so there is nothing to propose: move a control first")
    return context.versions.propose(here.site, candidate.text, viewer.name, form.why, form.seen or None)


def version_shown(context: Context, site: str, number: int, local: LocalTime) -> TuneVersion:
    """A version of the site. Raises Unknown, also for one of another site."""
    version = context.versions.version_of(site, number)
    name = f"{site}.toml"
    return TuneVersion(
        version.number,
        context.versions.file(site).standing(version),
        version.author,
        version.why,
        local.dated(version.made_at_us),
        tuple(difference(version.before_text or "", version.text, name, f"{name}, version {version.number}")),
    )
