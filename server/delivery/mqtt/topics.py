"""Where each thing is published, and under which ids Home Assistant knows it.

Names of sites, cameras, sectors and targets have only lower-case letters, digits, `-` and `_`, so they are levels of
topics as they are. Nothing here depends on anything but names: ids are the same after every restart.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A camera's topics."""

    prefix: str
    site: str
    camera: str

    @property
    def root(self) -> str:
        return f"{self.prefix}/cameras/{self.site}/{self.camera}"

    @property
    def available(self) -> str:
        """`online` while the camera's agent is heard; retained."""
        return f"{self.root}/available"

    @property
    def condition(self) -> str:
        return f"{self.root}/condition"

    @property
    def last_burst(self) -> str:
        return f"{self.root}/last_burst"

    @property
    def picture(self) -> str:
        return f"{self.root}/picture"

    @property
    def movement(self) -> str:
        """Movement as it happens; never retained."""
        return f"{self.root}/movement"

    def sector_movement(self, sector: str) -> str:
        return f"{self.root}/sectors/{sector}/movement"

    def presence(self, sector: str, target: str) -> Presence:
        return Presence(f"{self.root}/sectors/{sector}/targets/{target}")


@dataclass(frozen=True, slots=True)
class Presence:
    """The topics of a target in a sector; all retained."""

    root: str

    @property
    def state(self) -> str:
        return f"{self.root}/state"

    @property
    def available(self) -> str:
        return f"{self.root}/available"

    @property
    def attributes(self) -> str:
        return f"{self.root}/attributes"


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics below a prefix, and those of Home Assistant's discovery (`discovery` empty: none)."""

    prefix: str
    discovery: str

    @property
    def available(self) -> str:
        return f"{self.prefix}/available"

    @property
    def server(self) -> str:
        return f"{self.prefix}/server/state"

    @property
    def server_notice(self) -> str:
        return f"{self.prefix}/server/notice"

    @property
    def event(self) -> str:
        return f"{self.prefix}/event"

    @property
    def notice(self) -> str:
        return f"{self.prefix}/notice"

    def below(self, name: str) -> str:
        """Where messages in the form of another system are published."""
        return f"{self.prefix}/{name}"

    @property
    def test(self) -> str:
        return f"{self.prefix}/test"

    @property
    def birth(self) -> str:
        """Where Home Assistant publishes `online` when it begins."""
        return f"{self.discovery}/status"

    def place(self, site: str, camera: str) -> Place:
        return Place(self.prefix, site, camera)

    def device(self, object_id: str) -> str:
        return f"{self.discovery}/device/{object_id}/config"

    def id(self, *names: str) -> str:
        """An id of `[a-zA-Z0-9_-]` for these names below the prefix; different names give different ids."""
        parts = (*self.prefix.split("/"), *names)
        joined = "_".join(parts)
        if not any("_" in part for part in parts) and "/" not in self.prefix:
            return joined
        return f"{joined}_{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:6]}"

    def entity_id(self, domain: str, *names: str) -> str:
        """What Home Assistant may call the entity when it first sees it: its user may give it another name."""
        return f"{domain}.{re.sub('[^a-z0-9]+', '_', '_'.join((self.prefix, *names)).lower()).strip('_')}"
