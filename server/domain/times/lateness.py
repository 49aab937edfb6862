"""The setting `late_within`: how much older than its camera's newest frame a burst may be and still change the log.

It is one span for all sites, and others for some: `7d`, or `7d, north-yard=30d, gate-house=12h`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.site.toml_errors import NAME
from server.domain.times.clock import SECOND_US

DEFAULT = "7d"

_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(\d{1,9}) ?(s|min|h|d)")


@dataclass(frozen=True, slots=True)
class Lateness:
    """The bound of all sites, and that of each site that has its own (us)."""

    every_us: int
    of_site_us: Mapping[str, int] = field(default_factory=dict)

    def within_us(self, site: str) -> int:
        """The bound of a site."""
        return self.of_site_us.get(site, self.every_us)


def read_lateness(text: str) -> Lateness:
    """The bounds in a setting. Raises ValueError that names the faulty part."""
    every_us, of_site_us = _span_us(DEFAULT), dict[str, int]()
    for part in filter(None, (part.strip() for part in text.split(","))):
        site, is_named, span = (piece.strip() for piece in part.rpartition("="))
        if not is_named:
            every_us = _span_us(span)
        elif NAME.fullmatch(site):
            of_site_us[site] = _span_us(span)
        else:
            raise ValueError(f"`{site}` is not the name of a site")
    return Lateness(every_us, of_site_us)


def _span_us(text: str) -> int:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError(f"`{text}` is not a span of time: write it like 90 s, 30 min, 12 h or 7 d")
    return int(found[1]) * _UNITS_S[found[2]] * SECOND_US


DEFAULT_LATENESS = read_lateness(DEFAULT)
