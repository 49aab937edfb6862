"""What is no longer kept of a camera, as turns and readers ask for it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from policies.events import instant
from server.domain.errors import Unprocessable
from server.domain.keeping import Erasure, Gone, Stretch
from server.store.schema import erasures, keeping, removals

ERASURES = select(*(erasures.c[name] for name in Erasure.__slots__))


def read_gone(connection: Connection, site: str, camera: str) -> Gone:
    """All that is no longer kept of a camera. An erasure that is under way counts as done."""
    mine = (removals.c.site == site, removals.c.camera == camera)
    stretches = [
        Stretch(row.from_us, row.until_us)
        for row in connection.execute(select(removals.c.from_us, removals.c.until_us).where(*mine))
    ]
    erased = read_erasures(connection, site, camera)
    stretches += [Stretch(each.since_us, each.until_us) for each in erased if not each.keeps_annotated]
    swept = connection.execute(
        select(keeping.c.bursts_from_us, keeping.c.events_from_us).where(
            keeping.c.site == site, keeping.c.camera == camera
        )
    ).one_or_none()
    return Gone(
        site,
        camera,
        tuple(sorted(stretches, key=lambda each: each.until_us)),
        None if swept is None else swept.bursts_from_us,
        None if swept is None else swept.events_from_us,
        tuple(erased),
    )


def read_erasures(connection: Connection, site: str | None = None, camera: str | None = None) -> list[Erasure]:
    """The erasures (of a site, of a camera) in the order in which they were asked for."""
    query = ERASURES.order_by(erasures.c.number)
    query = query if site is None else query.where(erasures.c.site == site)
    query = query if camera is None else query.where(erasures.c.camera == camera)
    return [erasure_of(row) for row in connection.execute(query)]


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
