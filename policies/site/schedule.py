"""When other rules are in force: by clock, day, sun and the brightness of the frame.

The clock is the site's own (`timezone`), taken from the frame's instant; nothing here reads the current time.
"""

from __future__ import annotations

import math
from datetime import time
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import msgspec

from policies.events import instant

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TWILIGHT_DEG = -6.0
"""Civil twilight: with the sun lower than this, things out of doors are not seen without lamps."""


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a site is and which clock it keeps; degrees, north and east positive."""

    timezone: str = "UTC"
    latitude: Annotated[float, msgspec.Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, msgspec.Meta(ge=-180, le=180)] | None = None


class When(msgspec.Struct, frozen=True):
    """A part of time: all of what is given must hold.

    `start` to before `end` on the site's clock, over midnight if `end` is the earlier one; a night belongs to the
    day on which it began. `days` of the week. `sun` up or down, by civil twilight. `darker_than`, `brighter_than`: of
    the frame's mean brightness in 0..1; where that is not known, neither holds.
    """

    start: time | None = None
    end: time | None = None
    days: tuple[Day, ...] = ()
    sun: Literal["up", "down"] | None = None
    darker_than: float | None = None
    brighter_than: float | None = None

    def holds(self, place: Place, at_us: int, brightness: float | None = None) -> bool:
        """Whether this part of time holds the instant (microseconds of Unix time) of a frame."""
        return self._is_lit(brightness) and self._is_hour(place, at_us) and self._is_sun(place, at_us)

    def _is_lit(self, brightness: float | None) -> bool:
        if brightness is None:
            return self.darker_than is None and self.brighter_than is None
        is_dark = self.darker_than is None or brightness < self.darker_than
        return is_dark and (self.brighter_than is None or brightness > self.brighter_than)

    def _is_hour(self, place: Place, at_us: int) -> bool:
        """Whether the hours hold the instant, and the days the day on which those hours began."""
        local = instant(at_us).astimezone(ZoneInfo(place.timezone))
        now, day = local.time(), local.weekday()
        if self.start is not None and self.end is not None and self.start != self.end:
            is_over_midnight = self.start > self.end
            if self.end <= now < self.start if is_over_midnight else not self.start <= now < self.end:
                return False
            day -= is_over_midnight and now < self.end
        return not self.days or DAYS[day] in self.days

    def _is_sun(self, place: Place, at_us: int) -> bool:
        if self.sun is None or place.latitude is None or place.longitude is None:
            return True
        return (sun_elevation_deg(at_us, place.latitude, place.longitude) > TWILIGHT_DEG) == (self.sun == "up")


def sun_elevation_deg(at_us: int, latitude: float, longitude: float) -> float:
    """The sun's elevation above the horizon in degrees, to about half a degree, refraction left out.

    The low-precision formulas of the Astronomical Almanac (good between 1950 and 2050).
    """
    days = at_us / 86_400e6 - 10_957.5  # since noon of 2000-01-01
    mean_longitude = 280.460 + 0.9856474 * days
    anomaly = math.radians(357.528 + 0.9856003 * days)
    ecliptic = math.radians(mean_longitude + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly))
    obliquity = math.radians(23.439 - 0.0000004 * days)
    ascension = math.atan2(math.cos(obliquity) * math.sin(ecliptic), math.cos(ecliptic))
    declination = math.asin(math.sin(obliquity) * math.sin(ecliptic))
    sidereal_deg = 280.46062 + 360.98564737 * days + longitude
    hour_angle = math.radians(sidereal_deg) - ascension
    phi = math.radians(latitude)
    sine = math.sin(phi) * math.sin(declination) + math.cos(phi) * math.cos(declination) * math.cos(hour_angle)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))
