"""What is said of each camera, worked out again only where something of it has changed: there may be thousands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from policies.site.site_policy import SitePolicy
from server.camera_status.reports import CameraReport
from server.delivery.mqtt import states
from server.delivery.mqtt.discovery import Described, Device, Discovery
from server.delivery.mqtt.states import Value
from server.delivery.mqtt.topics import Topics

Name = tuple[str, str]


class _Basis(NamedTuple):
    """All that decides what is said of a camera."""

    report: CameraReport
    policy: SitePolicy | None
    is_heard: bool
    has_picture: bool


class Shown(NamedTuple):
    """What is said of a camera: what topics retain, these topics, and the device that Home Assistant is told of, with
    what it was made of.
    """

    values: tuple[Value, ...]
    topics: frozenset[str]
    described: Described
    device_topic: str
    device: Device


class ShownCameras:
    """What is said of cameras. The same object comes again while nothing of a camera changes."""

    def __init__(self, topics: Topics, discovery: Discovery, is_chosen: Callable[[str], bool]) -> None:
        self._topics = topics
        self._discovery = discovery
        self._is_chosen = is_chosen
        self._known: dict[Name, tuple[_Basis, Shown]] = {}

    def of(
        self,
        reports: Iterable[CameraReport],
        policy: Callable[[str], SitePolicy | None],
        pictures: Collection[Name],
        now_us: int,
    ) -> dict[Name, Shown]:
        """By site and camera, in the order of the reports. `pictures` are the cameras of which one is kept."""
        known, self._known = self._known, {}
        for report in reports:
            name = report.site, report.camera
            basis = _Basis(report, policy(report.site), states.is_heard(report, now_us), name in pictures)
            before = known.get(name)
            if before is not None and _is_same(before[0], basis):
                self._known[name] = before
            else:
                self._known[name] = basis, self._shown(basis, None if before is None else before[1])
        return {name: shown for name, (_, shown) in self._known.items()}

    def _shown(self, basis: _Basis, before: Shown | None) -> Shown:
        camera = states.camera(basis.report, basis.policy, self._topics, self._is_chosen)
        values = tuple(states.values(camera, is_heard=basis.is_heard))
        described = Described(camera.place, camera.targets, basis.has_picture, camera.agent_version)
        topics = frozenset(value.topic for value in values)
        if before is not None and before.described == described:
            return before._replace(values=values, topics=topics)
        device = self._discovery.camera(described)
        return Shown(values, topics, described, self._topics.device(device.id), device)


def _is_same(one: _Basis, other: _Basis) -> bool:
    if one.policy is not other.policy or one[2:] != other[2:]:
        return False
    return one.report is other.report or one.report == other.report
