"""What Home Assistant is told of the server and of each camera: one device each, with its entities as components.

Keys and values are those of https://www.home-assistant.io/integrations/mqtt/ (device discovery) and of the pages of the
platforms `binary_sensor`, `sensor`, `event` and `image`. No abbreviations are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args

from server.delivery.mqtt.topics import Place, Topics
from server.domain.announcements import Noticed

MOVEMENTS = ("entered", "left", "moved", "crossed", "lingered")
"""Kinds of events that are movement: the `event_types` of a camera."""
SECTOR_MOVEMENTS = ("entered", "left", "moved", "lingered")

Component = dict[str, Any]
Components = dict[tuple[str, ...], Component]
"""By the names that tell them apart on their device."""


class Device(NamedTuple):
    """A device: its id, what is said of it, and its components by id."""

    id: str
    config: dict[str, Any]
    components: Mapping[str, Component]

    def payload(self, known: Mapping[str, str]) -> dict[str, Any]:
        """The message. `known` maps ids of components to their platforms, those that are no more too: with a platform
        alone, Home Assistant deletes the entity.
        """
        deleted = {name: {"platform": platform} for name, platform in known.items() if name not in self.components}
        return {**self.config, "components": {**self.components, **deleted}}


class Described(NamedTuple):
    """What is to be known of a camera to describe it. `targets` are pairs of sector and target."""

    place: Place
    targets: Iterable[tuple[str, str]]
    has_picture: bool
    agent_version: str | None


class Discovery:
    """Describes devices. `console_url` empty: devices have no link."""

    def __init__(self, topics: Topics, version: str, console_url: str) -> None:
        self._topics = topics
        self._origin = {"name": "Sectorwatch", "sw_version": version}
        self._version = version
        self._link = {"configuration_url": console_url} if console_url else {}

    def server(self) -> Device:
        """The server. It is the device over which the cameras are reached."""
        topics = self._topics
        device = {
            "identifiers": [self._server_id],
            "name": "Sectorwatch" if topics.prefix == "sectorwatch" else f"Sectorwatch {topics.prefix}",
            "manufacturer": "Sectorwatch",
            "model": "Ensemble server",
            "sw_version": self._version,
            **self._link,
        }
        available = {"availability": [_on(topics.available)], "availability_mode": "all"}
        components: Components = {
            ("connectivity",): _connectivity(topics.available),
            ("cameras_unwell",): self._count("Cameras with a problem", "cameras_unwell") | available,
            ("cameras",): self._count("Cameras", "cameras") | available,
            ("waiting",): self._count("Announcements that wait", "waiting") | available,
            ("notice",): {
                "platform": "event",
                "name": "Notice",
                "entity_category": "diagnostic",
                "state_topic": topics.server_notice,
                "event_types": list(get_args(Noticed)),
            }
            | available,
        }
        return self._device(self._server_id, device, components, {}, ("server",), ("server",))

    @property
    def _server_id(self) -> str:
        return self._topics.id("server")

    def _count(self, name: str, key: str) -> Component:
        return {
            "platform": "sensor",
            "name": name,
            "entity_category": "diagnostic",
            "state_class": "measurement",
            "state_topic": self._topics.server,
            "value_template": f"{{{{ value_json.{key} }}}}",
        }

    def camera(self, described: Described) -> Device:
        """A camera: the entities of its sectors, and what it says of itself."""
        place, topics = described.place, self._topics
        object_id = topics.id("cameras", place.site, place.camera)
        device = {
            "identifiers": [object_id],
            "name": f"{place.site} {place.camera}",
            "manufacturer": "Sectorwatch",
            "model": "Camera",
            "via_device": self._server_id,
            **({"sw_version": described.agent_version} if described.agent_version else {}),
            **self._link,
        }
        components: Components = {
            (key,): component for key, component in _camera_components(place, described.has_picture)
        }
        for sector, target in described.targets:
            components["occupancy", sector, target] = self._presence(place, sector, target)
            components["movement", sector] = _movement(
                f"{sector} movement", place.sector_movement(sector), SECTOR_MOVEMENTS
            )
        shared = {"availability": [_on(topics.available)], "availability_mode": "all"}
        names = place.site, place.camera
        return self._device(object_id, device, components, shared, ("cameras", *names), names)

    def _presence(self, place: Place, sector: str, target: str) -> Component:
        presence = place.presence(sector, target)
        return {
            "platform": "binary_sensor",
            "name": f"{sector} {target}",
            "device_class": "occupancy",
            "state_topic": presence.state,
            "payload_on": "ON",
            "payload_off": "OFF",
            "json_attributes_topic": presence.attributes,
            "availability": [_on(self._topics.available), _on(place.available), _on(presence.available)],
            "availability_mode": "all",
        }

    def _device(
        self,
        object_id: str,
        device: dict[str, Any],
        components: Components,
        shared: Mapping[str, Any],
        id_names: tuple[str, ...],
        entity_names: tuple[str, ...],
    ) -> Device:
        """A device whose components have ids of their own, made of the names of what they belong to."""
        named = {}
        for key, component in components.items():
            unique_id = self._topics.id(*id_names, *key)
            shown = key[1:] if key[0] == "occupancy" else key
            entity_id = self._topics.entity_id(component["platform"], *entity_names, *shown)
            named[unique_id] = {**component, "unique_id": unique_id, "default_entity_id": entity_id, "qos": 1}
        return Device(object_id, {"device": device, "origin": self._origin, **shared}, named)


def _camera_components(place: Place, has_picture: bool) -> Iterator[tuple[str, Component]]:
    yield "movement", _movement("Movement", place.movement, MOVEMENTS)
    yield "connectivity", _connectivity(place.available)
    yield (
        "problem",
        {
            "platform": "binary_sensor",
            "name": "Problem",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": place.condition,
            "value_template": "{{ value_json.problem }}",
            "json_attributes_topic": place.condition,
        },
    )
    yield (
        "condition",
        {
            "platform": "sensor",
            "name": "Condition",
            "entity_category": "diagnostic",
            "state_topic": place.condition,
            "value_template": "{{ value_json.why }}",
            "json_attributes_topic": place.condition,
        },
    )
    yield (
        "burst",
        {
            "platform": "sensor",
            "name": "Last burst",
            "device_class": "timestamp",
            "entity_category": "diagnostic",
            "state_topic": place.last_burst,
        },
    )
    if has_picture:
        yield (
            "picture",
            {"platform": "image", "name": "Picture", "image_topic": place.picture, "content_type": "image/jpeg"},
        )


def _connectivity(topic: str) -> Component:
    return {
        "platform": "binary_sensor",
        "name": "Connectivity",
        "device_class": "connectivity",
        "entity_category": "diagnostic",
        "state_topic": topic,
        "payload_on": "online",
        "payload_off": "offline",
    }


def _movement(name: str, topic: str, kinds: tuple[str, ...]) -> Component:
    return {
        "platform": "event",
        "name": name,
        "device_class": "motion",
        "state_topic": topic,
        "event_types": list(kinds),
    }


def _on(topic: str) -> dict[str, str]:
    return {"topic": topic, "payload_available": "online", "payload_not_available": "offline"}
