"""Sectors that a changed policy only gives another name."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from policies.site.sectors import Sector
from policies.site.site_policy import InvalidPolicy, SitePolicy, parse_site_policy


class Rename(msgspec.Struct, frozen=True):
    """A sector of a camera that has another name, and all else as it was."""

    camera: str
    before: str
    after: str

    @property
    def words(self) -> str:
        """What follows of it for whoever reads events."""
        return (
            f"Camera {self.camera}: sector `{self.before}` is renamed `{self.after}`. Events from before keep the name "
            f"`{self.before}`; channels and Home Assistant know `{self.after}` as a new sector."
        )


def renames(before: str, after: str) -> tuple[Rename, ...]:
    """The renamed sectors between two texts of a site policy; none where one of them cannot be used.

    A sector that has another outline or other settings besides is one that is gone and one that is new.
    """
    try:
        return tuple(_renames(parse_site_policy(before), parse_site_policy(after)))
    except InvalidPolicy:
        return ()


def _renames(before: SitePolicy, after: SitePolicy) -> Iterator[Rename]:
    for camera in before.cameras.keys() & after.cameras.keys():
        were, are = before.cameras[camera].by_name, after.cameras[camera].by_name
        new = [name for name in are if name not in were]
        for name, sector in were.items():
            if name in are:
                continue
            same = next((each for each in new if _is_same(sector, are[each])), None)
            if same is not None:
                new.remove(same)
                yield Rename(camera, name, same)


def _is_same(before: Sector, after: Sector) -> bool:
    return msgspec.structs.replace(before, name=after.name) == after
