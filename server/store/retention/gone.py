"""What is no longer kept of a camera, as turns and readers ask for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Select, Table, select

from policies.events import instant
from server.domain.errors import Unprocessable
from server.domain.keeping import Erasure, Gone, Stretch
from server.store.schema import erasures, keeping, removals

_STRETCHES = (removals.c.site, removals.c.camera, removals.c.from_us, removals.c.until_us)
ERASURES = select(*(erasures.c[name] for name in Erasure.__slots__))


def read_gone(connection: Connection, site: str, camera: str) -> Gone:
    """All that is no longer kept of a camera. An erasure that is under way counts as done."""
    return next(iter(read_all_gone(connection, site, camera)), Gone(site, camera))


def read_all_gone(connection: Connection, site: str | None = None, camera: str | None = None) -> list[Gone]:
    """As `read_gone`, of each camera (of these names) of which anything is noted, by site and camera."""
    stretches: dict[tuple[str, str], list[Stretch]] = {}
    for row in connection.execute(_of(select(*_STRETCHES), removals, site, camera)):
        stretches.setdefault((row.site, row.camera), []).append(Stretch(row.from_us, row.until_us))
    erased: dict[tuple[str, str], list[Erasure]] = {}
    for each in read_erasures(connection, site, camera):
        erased.setdefault((each.site, each.camera), []).append(each)
        if not each.keeps_annotated:
            stretches.setdefault((each.site, each.camera), []).append(Stretch(each.since_us, each.until_us))
    swept = {(row.site, row.camera): row for row in connection.execute(_of(select(keeping), keeping, site, camera))}
    return [
        Gone(
            name[0],
            name[1],
            tuple(sorted(stretches.get(name, ()), key=lambda each: each.until_us)),
            swept[name].bursts_from_us if name in swept else None,
            swept[name].events_from_us if name in swept else None,
            tuple(erased.get(name, ())),
        )
        for name in sorted(stretches.keys() | erased.keys() | swept.keys())
    ]


def read_erasures(connection: Connection, site: str | None = None, camera: str | None = None) -> list[Erasure]:
    """The erasures (of a site, of a camera) in the order in which they were asked for."""
    query = _of(ERASURES.order_by(erasures.c.number), erasures, site, camera)
    return [erasure_of(row) for row in connection.execute(query)]


def _of(query: Select[Any], table: Table, site: str | None, camera: str | None) -> Select[Any]:
    """The rows of a site, of a camera; None: of all."""
    query = query if site is None else query.where(table.c.site == site)
    return query if camera is None else query.where(table.c.camera == camera)


def erasure_of(row: Row[Any]) -> Erasure:
    values = {name: getattr(row, name) for name in Erasure.__slots__}
    return Erasure(**values | {"keeps_annotated": bool(row.keeps_annotated)})


def refuse_gone(connection: Connection, site: str, camera: str, first_us: int, last_us: int) -> None:
    """Raises Unprocessable for a burst of a time that is no longer kept: it would come back, and past the border its
    frames cannot be folded any more.
    """
    swept = connection.execute(
        select(keeping.c.bursts_from_us).where(keeping.c.site == site, keeping.c.camera == camera)
    ).one_or_none()
    if swept is not None and swept.bursts_from_us is not None and first_us < swept.bursts_from_us:
        raise Unprocessable(
            f"bursts of {site}/{camera} before {_utc(swept.bursts_from_us)} are no longer kept "
            "(`keep_observations_days`, `max_bytes`): this one is older"
        )
    erased = connection.execute(
        select(erasures.c.number, erasures.c.since_us, erasures.c.until_us)
        .where(erasures.c.site == site, erasures.c.camera == camera)
        .where(erasures.c.until_us > first_us, erasures.c.since_us <= last_us)
        .limit(1)
    ).one_or_none()
    if erased is not None:
        raise Unprocessable(
            f"{site}/{camera} from {_utc(erased.since_us)} to {_utc(erased.until_us)} was erased on request (erasure "
            f"{erased.number}): bursts of that time are not accepted again"
        )


def _utc(at_us: int) -> str:
    return instant(at_us).isoformat(timespec="seconds").replace("+00:00", "Z")
