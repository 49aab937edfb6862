"""Rows to values: the joins and decodings that reading and turns share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import msgspec
from sqlalchemy import Connection, Row, Select, select

from policies.events import Event
from policies.observation import Observation, Panel, Sighting
from policies.site_policy import SitePolicy
from server.records import Known, LoggedEvent, Recorded, Status
from server.store.schema import bursts, events, observations, panels, policies

_PAGE = 2000

_answers = msgspec.json.Decoder(dict[str, tuple[Sighting, ...] | None])
_event = msgspec.json.Decoder(Event)
_panel = msgspec.json.Decoder(Panel)
_policy = msgspec.json.Decoder(SitePolicy)
_ids = msgspec.json.Decoder(tuple[str, ...])
_NOTHING: tuple[str, ...] = ()


def encoded(value: object) -> str:
    """JSON text, the same for equal values: sets and mappings in sorted order, floats to the last bit."""
    return msgspec.json.encode(value, order="deterministic").decode()


def read_known(connection: Connection, burst_id: str) -> Known | None:
    row = connection.execute(
        select(bursts.c.burst_id, bursts.c.digest, bursts.c.status).where(bursts.c.burst_id == burst_id)
    ).one_or_none()
    return Known(row.burst_id, row.digest, cast(Status, row.status)) if row else None


class Versions:
    """Panels and policies by digest. What a digest names never changes, so each is read once."""

    def __init__(self) -> None:
        self._panels: dict[str, Panel] = {}
        self._policies: dict[str, SitePolicy] = {}

    def panel(self, connection: Connection, ensemble: str) -> Panel:
        """The models that were asked. Raises NoResultFound."""
        if ensemble not in self._panels:
            body = connection.execute(select(panels.c.body).where(panels.c.ensemble == ensemble)).scalar_one()
            self._panels[ensemble] = _panel.decode(body)
        return self._panels[ensemble]

    def policy(self, connection: Connection, digest: str) -> SitePolicy:
        """The policy as it was when it judged its first burst. Raises NoResultFound."""
        if digest not in self._policies:
            body = connection.execute(select(policies.c.body).where(policies.c.policy == digest)).scalar_one()
            self._policies[digest] = _policy.decode(body)
        return self._policies[digest]


def read_observations(connection: Connection, query: Select[Any], versions: Versions) -> Iterator[Recorded]:
    """Stored observations of `query` (made by `observation_query`), page by page: memory stays flat."""
    named, panel = None, None
    for row in connection.execute(query.execution_options(yield_per=_PAGE)):
        # The hot loop of every replay: positions instead of names, and one look-up per run of one ensemble.
        site, camera, burst_id, frame, at_us, answers, sha256, width, height, light, *of_burst = row
        mask, error_s, ensemble, policy = of_burst
        if panel is None or ensemble != named:
            named, panel = ensemble, versions.panel(connection, ensemble)
        said = _answers.decode(answers)
        size = (width, height)
        seen = Observation(site, camera, burst_id, frame, at_us, panel, said, sha256, mask, error_s, size, light)
        yield Recorded(policy, seen)


def observation_query() -> Select[Any]:
    """All observations with what their bursts say about them, in the order a camera is folded in."""
    return (
        select(
            observations.c.site,
            observations.c.camera,
            observations.c.burst_id,
            observations.c.frame,
            observations.c.at_us,
            observations.c.answers,
            observations.c.frame_sha256,
            observations.c.width_px,
            observations.c.height_px,
            observations.c.brightness,
            bursts.c.mask_digest,
            bursts.c.uncertainty_s,
            bursts.c.ensemble,
            bursts.c.policy,
        )
        .join(bursts, bursts.c.burst_id == observations.c.burst_id)
        .order_by(observations.c.at_us, observations.c.burst_id, observations.c.frame)
    )


EVENT_COLUMNS = (
    events.c.seq,
    events.c.body,
    events.c.late,
    events.c.withdrawn_at_us,
    events.c.burst_id,
    events.c.supersedes,
)


def logged(row: Row[*tuple[Any, ...]]) -> LoggedEvent:
    """The event of a row that holds EVENT_COLUMNS."""
    return LoggedEvent(
        seq=row.seq,
        event=_event.decode(row.body),
        late=bool(row.late),
        withdrawn_at_us=row.withdrawn_at_us,
        burst_id=row.burst_id,
        supersedes=_NOTHING if row.supersedes is None else _ids.decode(row.supersedes),
    )
