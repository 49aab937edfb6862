"""What is retained: the state of each camera, and of each target in each sector, as they are now.

State comes from the report on the cameras, never from events: a late or repeated event turns nothing on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from policies.events import microseconds
from policies.occupancy import Occupancy
from policies.site.site_policy import SitePolicy
from server.camera_status.reports import CameraReport
from server.camera_status.status import SectorState, is_unheard
from server.delivery.mqtt.topics import Place, Topics

_SHOWN = {Occupancy.OCCUPIED: b"ON", Occupancy.CLEAR: b"OFF", Occupancy.UNOBSERVED: b"None"}
"""`None` is Home Assistant's word for a state that is not known."""
NOT_JUDGED = "no burst was judged by this policy yet"


class Value(NamedTuple):
    """What a topic retains. `every_s`: a change waits until so long after the one before."""

    topic: str
    payload: bytes
    every_s: float = 0.0


class Camera(NamedTuple):
    """A camera's report, the policy of its site (None: there is none that can be used), and its pairs of sector and
    target.
    """

    place: Place
    report: CameraReport
    policy: SitePolicy | None
    targets: Sequence[tuple[str, str]]

    @property
    def agent_version(self) -> str | None:
        beat = self.report.last_heartbeat
        return None if beat is None else beat.heartbeat.agent.version


SELDOM_S = 30.0
"""A history of every burst would be the largest part of Home Assistant's database."""


def camera(report: CameraReport, policy: SitePolicy | None, topics: Topics, is_chosen: Callable[[str], bool]) -> Camera:
    """The camera of a report, with the sectors of the policy in force and those targets that are chosen.

    A schedule may ask for other targets by night: theirs count all the time, or entities would come and go.
    """
    pairs = _reported(report) if policy is None else _asked(policy, report.camera)
    chosen = [(sector, target) for sector, target in pairs if is_chosen(target)]
    return Camera(topics.place(report.site, report.camera), report, policy, chosen)


def _reported(report: CameraReport) -> list[tuple[str, str]]:
    return [(each.sector, each.target) for each in report.sectors]


def _asked(policy: SitePolicy, camera: str) -> list[tuple[str, str]]:
    always = policy.camera(camera)
    editions = (always, *(entry.policy for entry in always.scheduled))
    pairs = ((sector.name, target) for each in editions for sector in each.sectors for target in sector.rules.targets)
    return list(dict.fromkeys(pairs))


def is_heard(report: CameraReport, now_us: int) -> bool:
    """Whether the camera's agent is heard: within two heartbeats, or else while its bursts are not long overdue."""
    beat = report.last_heartbeat
    if beat is None:
        return report.condition.state != "silent"
    if report.condition.state == "silent" and beat.heartbeat.state in ("stopped", "finished"):
        return False
    heard_us = microseconds(beat.received_at)
    if report.last_burst is not None:
        heard_us = max(heard_us, microseconds(report.last_burst.received_at))
    return not is_unheard(beat.heartbeat, heard_us, now_us)


def values(camera: Camera, *, is_heard: bool) -> Iterator[Value]:
    """All that is retained of a camera, whose agent `is_heard` or not, but its picture.

    A state comes before it becomes available, and after it becomes unavailable.
    """
    place, report = camera.place, camera.report
    states = {(each.sector, each.target): each for each in report.sectors}
    told = [_of(states, pair, camera) for pair in camera.targets]
    yield Value(place.condition, _json(_condition(report, told)))
    if report.last_burst is not None:
        at = report.last_burst.last_at.isoformat(timespec="seconds").encode()
        yield Value(place.last_burst, at, SELDOM_S)
    for state in told:
        yield from _presence(camera, state)
    yield Value(place.available, b"online" if is_heard else b"offline")


def _of(states: dict[tuple[str, str], SectorState], pair: tuple[str, str], camera: Camera) -> SectorState:
    """The state of a target in a sector that the policy in force asks for."""
    cause = camera.report.condition.cause or NOT_JUDGED
    return states.get(pair) or SectorState(*pair, Occupancy.UNOBSERVED, None, cause)


def _condition(report: CameraReport, states: Sequence[SectorState]) -> dict[str, Any]:
    condition = report.condition
    blind = {f"{each.sector} {each.target}": each.cause for each in states if each.state is Occupancy.UNOBSERVED}
    why = condition.cause or next((cause for cause in blind.values() if cause), None)
    return {
        "site": report.site,
        "camera": report.camera,
        "condition": condition.state,
        "cause": condition.cause,
        "since": condition.since,
        "why": why or condition.state,
        "problem": "OFF" if condition.is_well and not blind else "ON",
        "unobserved": blind,
    }


def _presence(camera: Camera, state: SectorState) -> Iterator[Value]:
    presence = camera.place.presence(state.sector, state.target)
    is_observed = state.state is not Occupancy.UNOBSERVED
    attributes = {
        "site": camera.report.site,
        "camera": camera.report.camera,
        "sector": state.sector,
        "label": state.target,
        "occupancy": state.state.value,
        "since": state.since,
        "cause": state.cause,
        "policy": None if camera.policy is None else camera.policy.digest,
    }
    shown = Value(presence.state, _SHOWN[state.state])
    available = Value(presence.available, b"online" if is_observed else b"offline")
    yield Value(presence.attributes, _json(attributes))
    yield from (shown, available) if is_observed else (available, shown)


def server_values(topics: Topics, reports: Sequence[CameraReport], waiting: int) -> Iterator[Value]:
    """What is retained of the server, but that it is there."""
    unwell = sum(not report.condition.is_well for report in reports)
    state = {"cameras": len(reports), "cameras_unwell": unwell, "waiting": waiting}
    yield Value(topics.server, _json(state), SELDOM_S)


def _json(told: dict[str, Any]) -> bytes:
    return msgspec.json.encode(told)
