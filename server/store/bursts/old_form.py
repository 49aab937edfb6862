"""Bursts in the form of versions before 0.3, until they are converted: `bursts`, `observations` and `decisions`.

`server.store.bursts.burst_log` reads them beside the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, select

from policies.fusion.judgement import Judgement
from policies.observation import EnsembleInfo, Observation, Prediction
from server.domain.burst import Limits
from server.domain.records import BurstFacts, Recorded
from server.domain.times.clock import SECOND_US
from server.store.rows import Versions
from server.store.schema import bursts, decisions, observations

OLD_LONGEST_US = round(Limits().max_span_s * SECOND_US)
"""No burst in this form lasts longer."""

_PAGE = 1000
_answers = msgspec.json.Decoder(dict[str, tuple[Prediction, ...] | None])
_judgements = msgspec.json.Decoder(list[Judgement])
_FACTS = [bursts.c[name] for name in BurstFacts.__slots__]


@dataclass(frozen=True, slots=True)
class Times:
    """The instants of a burst, as columns of either form."""

    first_at_us: ColumnElement[int]
    last_at_us: ColumnElement[int]


Where = Callable[[Times], Iterable[ColumnElement[bool]]]

_TIMES = Times(bursts.c.first_at_us, bursts.c.last_at_us)


def meeting(longest_us: int, since_us: int | None, until_us: int | None) -> Where:
    """The condition for bursts that may have a frame from `since_us` to before `until_us` (None: without a limit), of
    a camera whose bursts last `longest_us` at most.
    """

    def where(times: Times) -> Iterator[ColumnElement[bool]]:
        if since_us is not None:  # the first instant is bounded too, or the database reads the camera's whole past
            yield times.first_at_us >= since_us - longest_us
            yield times.last_at_us >= since_us
        if until_us is not None:
            yield times.first_at_us < until_us

    return where


def ordered(query: Select[Any], times: Times, is_newest_first: bool) -> Select[Any]:
    """The query's bursts by their first instants."""
    return query.order_by(times.first_at_us.desc() if is_newest_first else times.first_at_us)


def read_old_facts(connection: Connection, burst_id: str) -> BurstFacts | None:
    row = connection.execute(select(*_FACTS).where(bursts.c.burst_id == burst_id)).one_or_none()
    return None if row is None else _facts(row)


def find_old_bursts(
    connection: Connection, site: str, camera: str, where: Where, *, is_newest_first: bool, limit: int | None
) -> Iterator[BurstFacts]:
    """A camera's bursts by their first instants; equal ones in any order."""
    query = select(*_FACTS).where(bursts.c.site == site, bursts.c.camera == camera, *where(_TIMES))
    return map(_facts, connection.execute(ordered(query, _TIMES, is_newest_first).limit(limit)))


def read_old_decisions(connection: Connection, burst_id: str) -> list[Judgement] | None:
    body = connection.execute(select(decisions.c.body).where(decisions.c.burst_id == burst_id)).scalar_one_or_none()
    return None if body is None else _judgements.decode(body)


def has_old_frames(connection: Connection, site: str, camera: str) -> bool:
    mine = (observations.c.site == site, observations.c.camera == camera)
    return connection.execute(select(observations.c.frame).where(*mine).limit(1)).first() is not None


def has_any_old_frames(connection: Connection) -> bool:
    return connection.execute(select(observations.c.frame).limit(1)).first() is not None


def has_old_bursts(connection: Connection) -> bool:
    """Whether bursts of an earlier version are not converted."""
    return connection.execute(select(bursts.c.burst_id).limit(1)).first() is not None


def read_old_burst_frames(connection: Connection, versions: Versions, burst_id: str) -> Iterator[Recorded]:
    """The frames of a burst in order; none for an unknown burst."""
    return _frames(connection, versions, observations.c.burst_id == burst_id)


def read_old_frames(
    connection: Connection, versions: Versions, site: str, camera: str, since_us: int | None, until_us: int | None
) -> Iterator[Recorded]:
    """A camera's frames from `since_us` to before `until_us`, in the order of folding."""
    at_us = observations.c.at_us
    since = () if since_us is None else (at_us >= since_us,)
    until = () if until_us is None else (at_us < until_us,)
    return _frames(connection, versions, observations.c.site == site, observations.c.camera == camera, *since, *until)


def _facts(row: Row[Any]) -> BurstFacts:
    facts: Any = row
    return replace(BurstFacts(*facts), late=bool(row.late))


def _frames(connection: Connection, versions: Versions, *where: ColumnElement[bool]) -> Iterator[Recorded]:
    """Frames, page by page. The bursts' columns are read once per burst and page."""
    query = _FRAMES.where(*where).execution_options(yield_per=_PAGE)
    for page in connection.execute(query).partitions():
        of_page = _bursts(connection, {row[0] for row in page}, versions)
        for burst_id, frame, at_us, answers, sha256, width, height, light in page:
            site, camera, mask, error_s, ensemble_info, policy = of_page[burst_id]
            predictions = _answers.decode(answers)
            size = (width, height)
            seen = Observation(
                site, camera, burst_id, frame, at_us, ensemble_info, predictions, sha256, mask, error_s, size, light
            )
            yield Recorded(policy, seen)


def _bursts(connection: Connection, burst_ids: set[str], versions: Versions) -> dict[str, _Burst]:
    return {
        burst_id: (site, camera, mask, error_s, versions.ensemble_info(connection, ensemble), policy)
        for burst_id, site, camera, mask, error_s, ensemble, policy in connection.execute(
            _BURSTS, {"burst_ids": list(burst_ids)}
        )
    }


_FRAMES = select(
    observations.c.burst_id,
    observations.c.frame,
    observations.c.at_us,
    observations.c.answers,
    observations.c.frame_sha256,
    observations.c.width_px,
    observations.c.height_px,
    observations.c.brightness,
).order_by(observations.c.at_us, observations.c.burst_id, observations.c.frame)

_BURSTS = select(
    bursts.c.burst_id,
    bursts.c.site,
    bursts.c.camera,
    bursts.c.mask_digest,
    bursts.c.uncertainty_s,
    bursts.c.ensemble,
    bursts.c.policy,
).where(bursts.c.burst_id.in_(bindparam("burst_ids", expanding=True)))

_Burst = tuple[str, str, str | None, float, EnsembleInfo, str]
"""Site, camera, mask digest, bound of the clock's error, ensemble, policy digest."""
