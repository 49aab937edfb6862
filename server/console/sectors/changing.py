"""What the forms of the page do: propose what was drawn, put a version in force, take it back."""

from __future__ import annotations

import msgspec

from server.console.access import Viewer
from server.console.context import Context
from server.console.pages import Pages, To
from server.console.sectors.preview import DrawForm, new_text
from server.console.sectors.shapes import faults_of
from server.domain.errors import Unprocessable


class VersionForm(msgspec.Struct, frozen=True):
    """The number of a version."""

    version: int


def add(pages: Pages, context: Context) -> None:
    """Register the actions. Each is for an operator of the site alone."""

    @pages.action("/sectors/<site>/<camera>/propose", form=DrawForm)
    def sectors_proposed(viewer: Viewer, form: DrawForm, site: str, camera: str) -> To:
        viewer.to_change(site)
        try:
            text = new_text(context, form, site, camera)
        except ValueError as error:
            raise Unprocessable(str(error)) from None
        if faults := faults_of(text, camera):
            raise Unprocessable("; ".join(fault.words for fault in faults))
        version = context.versions.propose(site, text, viewer.name, form.why, form.seen or None)
        return To(_address(site, camera, version.number), f"Version {version.number} is saved. It is not in force yet.")

    @pages.action("/sectors/<site>/<camera>/put-in-force", form=VersionForm)
    def sectors_put_in_force(viewer: Viewer, form: VersionForm, site: str, camera: str) -> To:
        number = context.versions.version_of(viewer.to_change(site), form.version).number
        context.versions.put_in_force(number, viewer.name)
        return To(_address(site, camera, number), f"Version {number} is in force from the next burst on.")

    @pages.action("/sectors/<site>/<camera>/take-back", form=VersionForm)
    def sectors_taken_back(viewer: Viewer, form: VersionForm, site: str, camera: str) -> To:
        number = context.versions.version_of(viewer.to_change(site), form.version).number
        context.versions.take_back(number, viewer.name)
        return To(_address(site, camera, number), f"Version {number} is taken back: the file is as it was before it.")


def _address(site: str, camera: str, number: int) -> str:
    return f"/sectors/{site}/{camera}?version={number}"
