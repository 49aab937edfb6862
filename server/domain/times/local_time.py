"""The local time of a site, for people: its `timezone`, or the machine's where the site's policy sets none.

It is for display and for times that a person types. Nothing that is stored or judged depends on it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from policies.events import instant, microseconds
from server.domain.files.text_files import SETTINGS_BYTES, UnreadableText, read_text
from server.domain.records import CameraHead
from server.domain.times.clock import SECOND_US

FORMS = "90s, 30m, 1h, 2d, 1w (ago), 18:00, today, yesterday 18:00 or 2026-11-22T18:00"
"""The forms in which a person may write a time."""

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_CLOCK = r"(\d{1,2}):(\d{2})(?::(\d{2}))?"
_DAY_AND_CLOCK = re.compile(rf"(?:(today|yesterday)\b\s*)?(?:{_CLOCK})?")
_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
_DAYS_BACK = {"today": 0, "yesterday": 1}


class _Policies(Protocol):
    def policy_text(self, digest: str) -> str | None: ...


class _Store(Protocol):
    @property
    def past(self) -> _Policies: ...
    def cameras(self) -> list[CameraHead]: ...


@dataclass(frozen=True, slots=True)
class LocalTime:
    """Instants (us) in one time zone; `zone` None: the machine's."""

    zone: tzinfo | None = None

    @property
    def name(self) -> str:
        """The zone as a person calls it: `Europe/Oslo`, or the machine's abbreviation."""
        return str(self.zone) if self.zone is not None else datetime.now(UTC).astimezone().tzname() or "local time"

    def at(self, at_us: int) -> datetime:
        """The instant in this zone."""
        return instant(at_us).astimezone(self.zone)

    def us(self, wall: datetime) -> int:
        """The instant (us) at which clocks of this zone show `wall`, which names no zone."""
        return microseconds(wall.astimezone(UTC) if self.zone is None else wall.replace(tzinfo=self.zone))

    def clock(self, at_us: int) -> str:
        """`18:12:04`."""
        return f"{self.at(at_us):%H:%M:%S}"

    def precise(self, at_us: int) -> str:
        """`18:12:04.250`."""
        return self.at(at_us).isoformat(timespec="milliseconds")[11:23]

    def minute(self, at_us: int) -> str:
        """`18:12`."""
        return f"{self.at(at_us):%H:%M}"

    def dated(self, at_us: int) -> str:
        """`2026-11-22 18:12:04`."""
        return f"{self.at(at_us):%Y-%m-%d %H:%M:%S}"

    def written(self, at_us: int) -> str:
        """`2026-10-25T02:30:00+01:00`: the exact instant, for addresses and form fields. `read_when` reads it back.

        Its offset tells the two passes of the hour apart that comes twice in autumn. In an address, quote it: it has a
        plus sign.
        """
        return self.at(at_us).isoformat()

    def heading(self, at_us: int) -> str:
        """`Sunday 22 November 2026, Europe/Oslo`."""
        at = self.at(at_us)
        return f"{at:%A} {at.day} {at:%B %Y}, {self.name}"


MACHINE_TIME = LocalTime()


@dataclass(frozen=True, slots=True)
class When:
    """A time as a person wrote it: some time ago, an instant, or a day's time by the clock.

    `day` is a date, or a number of days back from today; None: the nearest day.
    """

    ago_us: int | None = None
    instant_us: int | None = None
    day: date | int | None = None
    clock: time = time()

    def us(self, local: LocalTime, now_us: int, after_us: int | None = None) -> int:
        """The instant (us). A clock without a day means the first such time after `after_us`; without `after_us`, the
        last time before now that the clock showed it.
        """
        if self.instant_us is not None:
            return self.instant_us
        if self.ago_us is not None:
            return now_us - self.ago_us
        if isinstance(self.day, date):
            return self._on(local, self.day)
        today = local.at(now_us).date()
        if self.day is not None:
            return self._on(local, today - timedelta(days=self.day))
        if after_us is None:
            same_day_us = self._on(local, today)
            return same_day_us if same_day_us <= now_us else self._on(local, today - timedelta(days=1))
        day = local.at(after_us).date()
        same_day_us = self._on(local, day)
        return same_day_us if same_day_us > after_us else self._on(local, day + timedelta(days=1))

    def _on(self, local: LocalTime, day: date) -> int:
        return local.us(datetime.combine(day, self.clock))


def read_when(text: str) -> When:
    """The time that a person wrote in one of FORMS. Raises ValueError with what can be written."""
    text = text.strip()
    if ago := _AGO.fullmatch(text):
        return When(ago_us=round(float(ago[1]) * _UNIT_S[ago[2]] * SECOND_US))
    try:
        if text and (match := _DAY_AND_CLOCK.fullmatch(text)):
            hour, minute, second = (int(part or 0) for part in match.groups()[1:])
            return When(day=_DAYS_BACK.get(match[1]), clock=time(hour, minute, second))
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is none of {FORMS}") from None
    return When(instant_us=microseconds(at)) if at.tzinfo else When(day=at.date(), clock=at.time())


def site_time(store: _Store, site: str | None = None, in_force: Mapping[str, str] | None = None) -> LocalTime:
    """The local time of a site, by its text `in_force` (by site), else by the policy that judged its newest frames.

    Without a site, the local time that all stored sites share, else the machine's.
    """
    newest: dict[str, CameraHead] = {}
    for head in sorted(store.cameras(), key=lambda head: head.changed_at_us):
        if site in (None, head.site):
            newest[head.site] = head
    # A stored text may be older than the one in force: policies with `timezone = "UTC"` and without it have one digest.
    live = in_force or {}
    texts = [live.get(name) or store.past.policy_text(head.policy) or "" for name, head in newest.items()]
    zones = {zone_of(text) for text in texts}
    return LocalTime(zones.pop() if len(zones) == 1 else None)


def zone_of(policy_text: str) -> ZoneInfo | None:
    """The zone that a site policy's text sets. None where it sets none, which its parsed form shows as UTC."""
    try:
        name = _first_keys(policy_text).get("timezone")
        return ZoneInfo(name) if isinstance(name, str) else None
    except (ValueError, LookupError, OSError):  # another version wrote it, or this machine does not know the zone
        return None


def _first_keys(text: str) -> dict[str, Any]:
    """At least the keys before the first table, which are a small part of most policies. Raises ValueError.

    A line that begins with a bracket inside a longer value is no table: what is before it cannot be parsed then.
    """
    table = _TABLE.search(text)
    try:
        return tomllib.loads(text[: table.start()] if table else text)
    except ValueError:
        return tomllib.loads(text)


def texts_in_folder(folder: Path) -> dict[str, str]:
    """Site to the text of its file. What cannot be read is left out: other commands say why."""
    texts: dict[str, str] = {}
    for file in sorted(folder.glob("[!.]*.toml")):
        with suppress(ValueError, UnreadableText):
            text = read_text(file, SETTINGS_BYTES)
            texts.setdefault(str(_first_keys(text).get("site")), text)
    return texts
