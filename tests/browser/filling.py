"""A day and a night of two sites in a database: turns of the real pipeline over painted pictures, and kept pictures.

The yard has a gate, with visits of people and quiet hours, and a shed, whose link was down in the morning and which has
sent nothing since the night. The site `pets` has real footage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from policies.events import instant, microseconds
from server.analysis.annotations import Answer, annotation_of_event
from server.domain.burst import Burst, Limits, decode_burst
from server.domain.keeping import KeepFrames
from server.domain.people import EVERY_SITE, Role
from server.domain.records import StoredHeartbeat
from server.frames import FrameKeeper, open_place
from server.pipeline.pipeline import Pipeline
from server.pipeline.site_policies import Sites
from server.settings import ServerSettings
from server.store import Store, open_store
from tests.browser.painting import PaintedEnsemble, Person, Place, painted
from tests.server import new_sqlite
from tests.stand_ins import ManualClock

ZONE = ZoneInfo("Europe/Oslo")
SATURDAY = datetime(2026, 11, 28, tzinfo=ZONE)
SUNDAY = datetime(2026, 11, 29, tzinfo=ZONE)
NOW_US = microseconds(SUNDAY + timedelta(hours=8))
"""The server's clock when it starts: eight in the morning, in the site's zone."""

YARD = """# The yard of the tests: a gate with a road and a table, and a shed.
site = "yard"
timezone = "Europe/Oslo"
targets = ["person"]

[presence]
blind_s = 400                  # a frame comes at least every five minutes

[cameras.gate.sectors.road]
polygon = [[0, 0.55], [1, 0.55], [1, 0.75], [0, 0.75]]

[cameras.gate.sectors.table]   # where people sit
polygon = [[0.55, 0.78], [0.92, 0.78], [0.92, 1], [0.55, 1]]

[cameras.gate.lines.fence]
a = [0.3, 0.5]
b = [0.3, 0.8]
directions = ["inward", "outward"]

[cameras.shed.sectors.door]
polygon = [[0.36, 0.6], [0.68, 0.6], [0.68, 0.9], [0.36, 0.9]]
"""
PETS = Path(__file__).parents[2] / "deploy" / "sites" / "pets.toml"

OPERATOR, VIEWER, OF_YARD = "otto", "vera", "yara"
"""Users: an operator and a viewer of every site, and an operator of the yard alone."""
PASSWORD = "correct horse battery"
PHONE = "phone"
"""The channel that has something to see."""

_PER_S = 1
_QUIET_S = 300.0
_BEFORE_S, _AFTER_S = 2.0, 5.0
_MOST_FRAMES, _MOST_S = 16, 1800.0
_Path = Callable[[float], Person | None]


class Visit(NamedTuple):
    """Somebody on a path, from a time of the day (hour, minute) on, for so many seconds."""

    path: _Path
    lasts_s: float


def _inward(t: float) -> Person:
    return Person(round(0.04 + t * 0.08, 3), 0.68)


def _outward(t: float) -> Person:
    return Person(round(0.96 - t * 0.08, 3), 0.70)


def _to_the_table(t: float) -> Person:
    """In from the right, to the table, eleven seconds there, and back."""
    if t < 3:
        return Person(round(0.96 - t * 0.07, 3), 0.70)
    if t < 6:
        return Person(0.75, round(0.70 + (t - 3) * 0.07, 3))
    if t < 15:
        return Person(round(0.75 - 0.01 * (t % 2), 3), 0.91)
    if t < 18:
        return Person(0.75, round(0.91 - (t - 15) * 0.07, 3))
    return Person(round(0.75 + (t - 18) * 0.07, 3), 0.70)


def _faintly(t: float) -> Person:
    """Nobody but one model sees it, and faintly: no event."""
    return Person(round(0.96 - t * 0.08, 3), 0.70, faint=True)


def _at_the_door(t: float) -> Person:
    return Person(round(0.30 + min(t, 10 - t) * 0.05, 3), 0.78)


INWARD, OUTWARD, TABLE = Visit(_inward, 11.5), Visit(_outward, 11.5), Visit(_to_the_table, 20.5)
FAINT, DOOR = Visit(_faintly, 11.5), Visit(_at_the_door, 10)

GATE: tuple[tuple[datetime, Visit], ...] = tuple(
    (SATURDAY + timedelta(days=day, hours=hour, minutes=minute), visit)
    for day, hour, minute, visit in (
        *((0, 6, 40, INWARD), (0, 7, 2, OUTWARD), (0, 7, 31, INWARD), (0, 8, 5, TABLE), (0, 8, 50, OUTWARD)),
        *((0, 10, 15, TABLE), (0, 11, 40, INWARD), (0, 12, 3, TABLE), (0, 12, 30, TABLE), (0, 13, 20, OUTWARD)),
        *((0, 15, 10, INWARD), (0, 16, 2, TABLE), (0, 16, 30, OUTWARD), (0, 17, 45, INWARD), (0, 18, 4, TABLE)),
        *((0, 18, 12, FAINT), (0, 19, 33, OUTWARD), (0, 20, 10, INWARD), (0, 21, 5, TABLE), (0, 21, 48, OUTWARD)),
        *((1, 6, 50, INWARD), (1, 7, 14, TABLE), (1, 7, 41, OUTWARD)),
    )
)
SHED: tuple[tuple[datetime, Visit], ...] = tuple(
    (SATURDAY + timedelta(hours=hour, minutes=minute), DOOR) for hour, minute in ((5, 30), (9, 20), (14, 5), (20, 40))
)

_ROLES: Mapping[str, Mapping[str, Role]] = {
    OPERATOR: {EVERY_SITE: "operator"},
    VIEWER: {EVERY_SITE: "viewer"},
    OF_YARD: {"yard": "operator"},
}


def fill(folder: Path, footage: Sequence[bytes]) -> None:
    """Put a database, the site policies and the kept pictures into a server's data folder.

    `footage` are the frames of the second site, as JPEGs; without any there is no second site.
    """
    settings = ServerSettings(data_dir=folder)
    settings.sites_dir.mkdir(parents=True)
    (settings.sites_dir / "yard.toml").write_text(YARD, encoding="utf-8")
    if footage:
        (settings.sites_dir / "pets.toml").write_text(PETS.read_text(encoding="utf-8"), encoding="utf-8")
    new_sqlite.provide(folder / "sectorwatch.sqlite")
    clock = ManualClock(microseconds(SATURDAY))
    with closing(open_store(settings.database_url, clock, open_place(settings.frames_url))) as store:
        keeper = FrameKeeper(store.frames, lambda _site, _is_older: KeepFrames("events"), settings.max_body_bytes)
        pipeline = Pipeline(PaintedEnsemble(), store, Sites(settings.sites_dir), clock)
        for burst, is_shown in _bursts(footage):
            clock.now_us = burst.frames[-1].at_us + 1_000_000
            kept = pipeline.process(burst).burst
            if is_shown:
                keeper.offer(burst, [seen.brightness for seen in kept.observations])
                keeper.drain()
        for name, roles in _ROLES.items():
            store.users.add(name, PASSWORD, roles)
        _annotate(store)
        _send_heartbeats(store, clock)
        _fill_channels(store)


def _fill_channels(store: Store) -> None:
    """A channel that fails and has dead letters, and one that is in the settings no more."""
    for name in ("log", PHONE, "old-pager"):
        store.add_channel(name, from_start=name == PHONE)
    first, second, third, *_ = store.claim(PHONE, "the filling", 30_000_000, 10)
    for outgoing in (first, second, third):
        store.letters.add(
            PHONE, outgoing, "Undeliverable: 410 Gone from https://receiver.example.org/events/for/the/phone"
        )
    store.undelivered(PHONE, "the filling", third.seq, 3, 1_000_000, "ConnectionError: receiver.example.org is away")


def _bursts(footage: Sequence[bytes]) -> Iterator[tuple[Burst, bool]]:
    """All bursts, each with whether its pictures are kept: those of visits, and of some quiet times."""
    eight, midnight, hour = SUNDAY + timedelta(hours=8), SUNDAY, timedelta(hours=1)
    yield from _watched("gate", SATURDAY + 6 * hour, eight, GATE)
    yield from _watched("shed", SATURDAY + 4 * hour, SATURDAY + hour * 6.17, SHED[:1])
    yield from _watched("shed", SATURDAY + hour * 9.03, midnight + hour * 4.2, SHED[1:])
    noon = microseconds(SATURDAY + 12 * hour)
    if footage:
        yield _burst("pets", "view1", [(noon + index * 1_000_000, image) for index, image in enumerate(footage)]), True


def _watched(
    camera: Place, since: datetime, until: datetime, visits: Sequence[tuple[datetime, Visit]]
) -> Iterator[tuple[Burst, bool]]:
    """The bursts of a camera that sends a frame every five minutes, and one a second while somebody is there."""
    frames: list[tuple[int, Person | None, bool]] = []
    quiet_us, end_us, step_us = microseconds(since), microseconds(until), round(_QUIET_S * 1e6)
    for begun, visit in visits:
        begun_us = microseconds(begun)
        frames += [(at, None, False) for at in range(quiet_us, begun_us - 2_000_000, step_us)]
        for index in range(round((_BEFORE_S + visit.lasts_s + _AFTER_S) * _PER_S)):
            t = index / _PER_S - _BEFORE_S
            frames.append((begun_us + round(t * 1e6), visit.path(t) if 0 <= t <= visit.lasts_s else None, True))
        quiet_us = frames[-1][0] + 60_000_000
    frames += [(at, None, False) for at in range(quiet_us, end_us, step_us)]
    for number, group in enumerate(_cut(frames)):
        images = [(at, painted(camera, at, person, night=_is_night(at))) for at, person, _ in group]
        yield _burst("yard", camera, images), number % 4 == 0 or any(visited for _, _, visited in group)


def _cut(frames: Sequence[tuple[int, Person | None, bool]]) -> Iterator[Sequence[tuple[int, Person | None, bool]]]:
    first = 0
    for index in range(1, len(frames) + 1):
        if index == len(frames) or index - first == _MOST_FRAMES or frames[index][0] - frames[first][0] > _MOST_S * 1e6:
            yield frames[first:index]
            first = index


def _is_night(at_us: int) -> bool:
    return not 7 <= instant(at_us).astimezone(ZONE).hour < 17


def _burst(site: str, camera: str, images: Sequence[tuple[int, bytes]]) -> Burst:
    """A burst as it comes off the wire."""
    first_us = images[0][0]
    told = {
        "burst_id": f"{site}-{camera}-{first_us}",
        "site": site,
        "camera": camera,
        "captured_at": instant(first_us).isoformat(),
        "offsets_ms": [(at - first_us) // 1000 for at, _ in images],
        "frame_sha256": [hashlib.sha256(image).hexdigest() for _, image in images],
    }
    return decode_burst(msgspec.json.encode(told), [image for _, image in images], Limits())


def _annotate(store: Store) -> None:
    """Two events are true, and one is false."""
    logged = store.events(site="yard", limit=12)
    truths: tuple[Answer, ...] = ("true", "false", "true")
    store.annotations.add(
        [annotation_of_event(each.event, truth, "Ada") for each, truth in zip(logged[::4], truths, strict=True)]
    )


def _send_heartbeats(store: Store, clock: ManualClock) -> None:
    """The gate's agent is well for the two hours after its heartbeat; the shed's has been silent since a quarter past
    four.
    """
    hour = timedelta(hours=1)
    for camera, sent_at in (("gate", SUNDAY + 8 * hour), ("shed", SUNDAY + 4.2 * hour)):
        clock.now_us = microseconds(sent_at)
        sent = sent_at.astimezone(UTC)
        body = {
            "site": "yard",
            "camera": camera,
            "agent": {"sent_at": sent, "started_at": sent - 30 * hour, "every_s": 3600, "version": "0.3.0"},
            "state": "watching",
            "since": sent - 24 * hour,
            "last_frame_at": sent,
            "waiting": {"bursts": 0, "bytes": 0},
            "counts": {"bursts": 210, "uploaded_bytes": 9_400_000, "camera_bytes": 5_100_000},
        }
        started_us = microseconds(sent - 30 * hour)
        row = StoredHeartbeat("yard", camera, started_us, clock.now_us, 0, msgspec.json.encode(body).decode())
        store.heartbeats.keep(row)
