"""A consumer that does what Home Assistant's integration of MQTT does, as its documentation describes it.

It connects, listens to discovery, and says `online` on its birth topic. It checks every message of discovery by the
tables of fields of the documentation, is told of entities, deletes them, and gives them states and availability.
Sources: https://www.home-assistant.io/integrations/mqtt/ (device discovery, birth, availability) and the pages of
`binary_sensor.mqtt`, `sensor.mqtt`, `event.mqtt` and `image.mqtt`. Unlike Home Assistant it takes no key that it does
not know, and no abbreviation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.server.delivery.mqtt.brokers import Consumer

DISCOVERY = "homeassistant"
STATUS = f"{DISCOVERY}/status"
_CONFIG = re.compile(rf"{DISCOVERY}/(?P<component>\w+)/(?:(?P<node>[a-zA-Z0-9_-]+)/)?(?P<object>[a-zA-Z0-9_-]+)/config")
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_ENTITY_ID = re.compile(r"(?!.+__)(?!_)[\da-z_]+(?<!_)\.(?!_)[\da-z_]+(?<!_)")

# Tables of fields: (required, optional).
DEVICE_MESSAGE = (
    {"device", "origin", "components"},
    {"availability", "availability_mode", "state_topic", "command_topic", "qos", "encoding"},
)
ORIGIN = ({"name"}, {"sw_version", "support_url"})
DEVICE = (
    {"identifiers"},
    {
        "name",
        "manufacturer",
        "model",
        "model_id",
        "hw_version",
        "serial_number",
        "sw_version",
        "via_device",
        "suggested_area",
        "configuration_url",
        "connections",
    },
)
AVAILABILITY = ({"topic"}, {"payload_available", "payload_not_available", "value_template"})
_ENTITY = {
    "availability",
    "availability_mode",
    "availability_topic",
    "default_entity_id",
    "enabled_by_default",
    "encoding",
    "entity_category",
    "entity_picture",
    "icon",
    "json_attributes_template",
    "json_attributes_topic",
    "name",
    "payload_available",
    "payload_not_available",
    "qos",
}
PLATFORMS = {
    "binary_sensor": (
        {"platform", "unique_id", "state_topic"},
        _ENTITY
        | {"device_class", "expire_after", "force_update", "off_delay", "payload_off", "payload_on", "value_template"},
    ),
    "sensor": (
        {"platform", "unique_id", "state_topic"},
        _ENTITY
        | {
            "device_class",
            "expire_after",
            "force_update",
            "last_reset_value_template",
            "options",
            "suggested_display_precision",
            "state_class",
            "unit_of_measurement",
            "value_template",
        },
    ),
    "event": ({"platform", "unique_id", "state_topic", "event_types"}, _ENTITY | {"device_class", "value_template"}),
    "image": (
        {"platform", "unique_id", "image_topic"},
        _ENTITY | {"content_type", "image_encoding", "url_template"},
    ),
}
DEVICE_CLASSES = {
    "binary_sensor": {"occupancy", "connectivity", "problem", "motion"},
    "sensor": {"timestamp"},
    "event": {"motion", "button", "doorbell"},
    "image": set[str](),
}


def fields(what: str, told: dict[str, Any], table: tuple[set[str], set[str]]) -> None:
    required, optional = table
    assert required <= told.keys(), f"{what} lacks {required - told.keys()}"
    assert told.keys() <= required | optional, f"{what} has {told.keys() - required - optional}"


@dataclass
class Entity:
    """An entity as Home Assistant has it: `state` None is unknown."""

    config: dict[str, Any]
    device: str
    state: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)
    availability: dict[str, bool] = field(default_factory=dict)
    picture: bytes | None = None
    fired: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_available(self) -> bool:
        return all(self.availability.values())


class HomeAssistant(Consumer):
    """Entities by unique id. `faults` is what it would refuse, or ignore with a warning in its log."""

    def __init__(self, port: int, **more: Any) -> None:
        self.entities: dict[str, Entity] = {}
        self.devices: dict[str, dict[str, Any]] = {}
        self.faults: list[str] = []
        self.seen: set[str] = set()
        """Every unique id that there ever was."""
        self._listened: set[str] = set()
        super().__init__(port, f"{DISCOVERY}/#", **more)
        self.say(STATUS, b"online")
        self.settle()

    def follow(self) -> None:
        """Listen to the topics of all entities, as Home Assistant does once it knows them."""
        with self._changed:
            topics = {topic for entity in self.entities.values() for topic in _topics(entity.config)}
            topics -= self._listened
        self._listened |= topics
        if topics:
            self.listen(*sorted(topics))

    def settle(self) -> None:
        """Wait until everything that was published before has come, and is followed."""
        self.listen("mark/#")
        super().settle()
        self.follow()
        super().settle()

    def named(self, ending: str) -> Entity:
        """The entity whose id ends so."""
        found = [entity for unique_id, entity in self.entities.items() if unique_id.endswith(ending)]
        assert len(found) == 1, f"{ending}: {sorted(self.entities)}"
        return found[0]

    def got(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        try:
            if match := _CONFIG.fullmatch(topic):
                self._discovered(match["component"], match["object"], payload)
            for entity in self.entities.values():
                _take(entity, topic, payload, is_retained)
        except (AssertionError, ValueError) as fault:
            self.faults.append(f"{topic}: {fault!r}")

    def _discovered(self, component: str, object_id: str, payload: bytes) -> None:
        assert component == "device", "only messages of devices are expected"
        if not payload:
            for unique_id in [uid for uid, entity in self.entities.items() if entity.device == object_id]:
                del self.entities[unique_id]
            self.devices.pop(object_id, None)
            return
        told = msgspec.json.decode(payload)
        check_device(told)
        self.devices[object_id] = told["device"]
        shared = {key: told[key] for key in ("availability", "availability_mode", "state_topic") if key in told}
        now = {}
        for component_id, config in told["components"].items():
            if len(config) == 1:
                self.entities.pop(component_id, None)
                continue
            now[config["unique_id"]] = {**shared, **config}
        mine = {uid for uid, entity in self.entities.items() if entity.device == object_id}
        assert mine <= now.keys(), f"left out without being deleted: {mine - now.keys()}"
        for unique_id, config in now.items():
            self.seen.add(unique_id)
            entity = self.entities.setdefault(unique_id, Entity(config, object_id))
            entity.config = config
            for each in config.get("availability", ()):
                entity.availability.setdefault(each["topic"], False)


def check_device(told: dict[str, Any]) -> None:
    """Whether a message of discovery has all keys that it must have, and none that is unknown."""
    fields("the message", told, DEVICE_MESSAGE)
    fields("the origin", told["origin"], ORIGIN)
    fields("the device", told["device"], DEVICE)
    assert told["device"]["identifiers"]
    _check_availability(told)
    for component_id, config in told["components"].items():
        assert _ID.fullmatch(component_id), component_id
        assert config.get("platform") in PLATFORMS, config
        if len(config) > 1:
            _check_component(config)


def _check_component(config: dict[str, Any]) -> None:
    platform = config["platform"]
    fields(config.get("unique_id", platform), config, PLATFORMS[platform])
    assert _ID.fullmatch(config["unique_id"])
    entity_id = config.get("default_entity_id", f"{platform}.x")
    assert _ENTITY_ID.fullmatch(entity_id), entity_id
    assert entity_id.startswith(f"{platform}.")
    assert config.get("qos", 0) in (0, 1, 2)
    assert config.get("entity_category", "diagnostic") in ("config", "diagnostic")
    assert config.get("device_class") in DEVICE_CLASSES[platform] | {None}
    assert config.get("state_class", "measurement") in ("measurement", "total", "total_increasing")
    assert config.get("event_types", ["x"])
    for key, value in config.items():
        if key.endswith("_topic"):
            assert re.fullmatch(r"[^+#\0]+", value), value
    _check_availability(config)


def _check_availability(told: dict[str, Any]) -> None:
    assert told.get("availability_mode", "latest") in ("all", "any", "latest")
    for each in told.get("availability", ()):
        fields("availability", each, AVAILABILITY)


def _topics(config: dict[str, Any]) -> set[str]:
    own = {value for key, value in config.items() if key.endswith("_topic")}
    return own | {each["topic"] for each in config.get("availability", ())}


def _take(entity: Entity, topic: str, payload: bytes, is_retained: bool) -> None:
    config = entity.config
    for each in config.get("availability", ()):
        if each["topic"] == topic and payload in (b"online", b"offline"):
            entity.availability[topic] = payload.decode() == each.get("payload_available", "online")
    if config.get("json_attributes_topic") == topic and payload:
        entity.attributes = msgspec.json.decode(payload)
    if config.get("image_topic") == topic:
        entity.picture = payload or None
    if config.get("state_topic") != topic or not payload:
        return
    if config["platform"] == "event":
        if not is_retained:
            told = msgspec.json.decode(payload)
            assert told["event_type"] in config["event_types"], told
            entity.fired.append(told)
        return
    value = _rendered(config.get("value_template"), payload)
    if config["platform"] == "binary_sensor":
        known = {config.get("payload_on", "ON"): True, config.get("payload_off", "OFF"): False, "None": None}
        assert value in known, f"no state of {config['unique_id']}: {value}"
        entity.state = known[value]
    else:
        entity.state = value


def _rendered(template: str | None, payload: bytes) -> str:
    if template is None:
        return payload.decode()
    match = re.fullmatch(r"\{\{ value_json\.(\w+) \}\}", template)
    assert match, template
    return str(msgspec.json.decode(payload)[match[1]])
