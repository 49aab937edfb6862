"""A package written whole: tables, pictures, description."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from policies.events import instant, microseconds
from policies.site.site_policy import SitePolicy
from server.analysis.exports.camtrap import media
from server.analysis.exports.camtrap.columns import SCHEMAS, TABLES, Row, Writer, writing, written
from server.analysis.exports.camtrap.kinds import Kinds, ObservationType
from server.analysis.exports.camtrap.media import Medium, Pictures
from server.analysis.exports.camtrap.observations import deployment_of, frame_rows, presence_rows
from server.analysis.exports.stretches import HOUR_US
from server.domain.errors import Unknown, Unprocessable
from server.domain.records import BurstFacts, CameraHead, LoggedEvent, Recorded

PolicyOf = Callable[[str], SitePolicy]
_NOT_SHOWN = "Deployments say for how long nobody watched, and what is no longer kept."
_ABOUT = {
    "event": f"Each observation is one presence of a target in a sector. {_NOT_SHOWN}",
    "media": f"Each observation is one label of one model for one kept frame. {_NOT_SHOWN}",
}


class Past(media.Past, Protocol):
    def after(self, site: str, camera: str, at_us: int, limit: int) -> list[BurstFacts]: ...


class Store(Protocol):
    @property
    def past(self) -> Past: ...
    @property
    def frames(self) -> media.Frames: ...
    def policy(self, digest: str) -> SitePolicy: ...
    def events(
        self,
        since_us: int | None = ...,
        until_us: int | None = ...,
        site: str | None = ...,
        camera: str | None = ...,
        *,
        limit: int | None = ...,
    ) -> list[LoggedEvent]: ...
    def history(
        self, site: str, camera: str, since_us: int | None = ..., until_us: int | None = ...
    ) -> Iterator[Recorded]: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """What goes into a package, and what nobody but its maker knows.

    `level`: observations of events (presences), or of media (each label of each kept frame). `place` (latitude and
    longitude, degrees) stands for that of the sites' policies. `types` says of which type a target is. Pictures are
    copied, unless `address` says where a server shows them. `notes` say by camera what the package does not show.
    """

    level: Literal["event", "media"]
    cameras: Sequence[CameraHead]
    since_us: int | None
    until_us: int | None
    contributor: str
    created_us: int
    made_by: str
    place: tuple[float, float] | None = None
    types: Mapping[str, ObservationType] = field(default_factory=dict)
    address: str | None = None
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Written(NamedTuple):
    """What a package has; `lost` pictures had a row and no bytes."""

    deployments: int
    media: int
    observations: int
    lost: int


class _Deployment(NamedTuple):
    """A camera with the instants (us) of its first and last frame in the package, and its place."""

    head: CameraHead
    first_us: int
    last_us: int
    latitude: float
    longitude: float


def write_package(store: Store, folder: Path, asked: Asked, events: Iterable[LoggedEvent]) -> Written:
    """Write a package into an empty folder. `events` are those of its time, in order; level `media` uses none.

    Memory is flat: an hour of a camera at once. Raises Unprocessable for a camera without a place, Unknown where no
    frame is of that time, OSError.
    """
    policy_of = cache(store.policy)
    deployments = list(_deployments(store, asked, policy_of))
    if not deployments:
        raise Unknown("no frame of these cameras is of that time: a package needs one")
    kinds, pictures = Kinds(asked.types), Pictures(store, folder, asked.address)
    with writing(folder, "deployments") as table:
        for each in deployments:
            name = deployment_of(each.head.site, each.head.camera)
            table.writerow(_deployment_row(each, asked.notes.get(name, ())))
    count = 0
    with writing(folder, "media") as table, writing(folder, "observations") as observed:
        for each in deployments:
            for hour in _hours(each):
                mine = list(pictures.media(each.head.site, each.head.camera, *hour))
                for medium in mine:
                    table.writerow(medium.row)
                if asked.level == "media" and mine:
                    count += _write(observed, _of_media(store, each.head, hour, mine, kinds, policy_of))
        if asked.level == "event":
            last_us = {(each.head.site, each.head.camera): each.last_us for each in deployments}
            inside = (logged for logged in events if (logged.event.site, logged.event.camera) in last_us)
            count += _write(observed, presence_rows(inside, kinds, policy_of, lambda *name: last_us[name]))
    description = _description(asked, deployments, pictures.methods)
    (folder / "datapackage.json").write_bytes(msgspec.json.format(msgspec.json.encode(description)) + b"\n")
    return Written(len(deployments), pictures.found, count, pictures.lost)


def _write(table: Writer, rows: Iterable[Row]) -> int:
    count = 0
    for row in rows:
        table.writerow(row)
        count += 1
    return count


def _deployments(store: Store, asked: Asked, policy_of: PolicyOf) -> Iterator[_Deployment]:
    for head in asked.cameras:
        end_us = head.last_at_us + 1 if asked.until_us is None else min(head.last_at_us + 1, asked.until_us)
        first_us = _first_us(store, head, asked, end_us)
        if first_us is None:
            continue
        policy = policy_of(head.policy).camera(head.camera).place
        latitude, longitude = asked.place or (policy.latitude, policy.longitude)
        if latitude is None or longitude is None:
            raise Unprocessable(
                f"Camtrap DP needs the place of {head.site}/{head.camera}: give --latitude and --longitude, or write "
                f"`latitude` and `longitude` into the policy of {head.site}"
            )
        yield _Deployment(head, first_us, end_us - 1, latitude, longitude)


def _first_us(store: Store, head: CameraHead, asked: Asked, end_us: int) -> int | None:
    """The first frame of a camera, or what an event tells, if that is earlier: events may be kept longer."""
    name, since_us = (head.site, head.camera), asked.since_us or 0
    if since_us >= end_us:
        return None
    bursts = store.past.bursts(*name, since_us, since_us + 1) or store.past.after(*name, since_us, 1)
    events = store.events(asked.since_us, asked.until_us, *name, limit=1)
    begins_us = [each.first_at_us for each in bursts if each.first_at_us < end_us]
    begins_us += [microseconds(each.event.started_at) for each in events]
    return max(min(begins_us), since_us) if begins_us else None


def _hours(deployment: _Deployment) -> Iterator[tuple[int, int]]:
    edges = range(deployment.first_us // HOUR_US * HOUR_US, deployment.last_us + 1, HOUR_US)
    for edge_us in edges:
        yield max(edge_us, deployment.first_us), min(edge_us + HOUR_US, deployment.last_us + 1)


def _of_media(
    store: Store, head: CameraHead, hour: tuple[int, int], mine: Sequence[Medium], kinds: Kinds, policy_of: PolicyOf
) -> Iterator[Row]:
    """The observations of an hour's kept frames."""
    ids = {(medium.frame.at_us, medium.frame.sha256): medium.id for medium in mine}
    for recorded in store.history(head.site, head.camera, *hour):
        seen = recorded.observation
        media_id = ids.pop((seen.at_us, seen.frame_sha256), None)
        if media_id is not None:
            yield from frame_rows(recorded, media_id, kinds, policy_of)


def _deployment_row(deployment: _Deployment, notes: Sequence[str]) -> Row:
    head = deployment.head
    return {
        "deploymentID": deployment_of(head.site, head.camera),
        "locationID": head.site,
        "locationName": f"{head.site} {head.camera}",
        "latitude": deployment.latitude,
        "longitude": deployment.longitude,
        "deploymentStart": written(deployment.first_us),
        "deploymentEnd": written(deployment.last_us),
        "cameraID": head.camera,
        "deploymentComments": "; ".join(notes),
    }


def _description(asked: Asked, deployments: Sequence[_Deployment], methods: Iterable[str]) -> dict[str, Any]:
    """The content of `datapackage.json`."""
    sites = sorted({each.head.site for each in deployments})
    places = sorted({(each.longitude, each.latitude) for each in deployments})
    return {
        "profile": f"{SCHEMAS}/camtrap-dp-profile.json",
        "name": "sectorwatch-export",
        "created": written(asked.created_us),
        "title": f"Sectorwatch: {', '.join(sites)}",
        "description": _ABOUT[asked.level],
        "contributors": [{"title": asked.contributor, "role": "contact"}],
        "sources": [{"title": "Sectorwatch", "version": asked.made_by}],
        "project": {
            "title": f"Sectorwatch: {', '.join(sites)}",
            "samplingDesign": "opportunistic",
            "captureMethod": sorted(methods) or ["timeLapse"],
            "individualAnimals": False,
            "observationLevel": [asked.level],
        },
        "spatial": {"type": "MultiPoint", "coordinates": places},
        "temporal": {
            "start": f"{instant(min(each.first_us for each in deployments)):%Y-%m-%d}",
            "end": f"{instant(max(each.last_us for each in deployments)):%Y-%m-%d}",
        },
        "taxonomic": [],
        "resources": [
            {
                "name": name,
                "path": f"{name}.csv",
                "profile": "tabular-data-resource",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "schema": f"{SCHEMAS}/{name}-table-schema.json",
            }
            for name in TABLES
        ],
    }
