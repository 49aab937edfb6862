"""The channel of kind `mqtt`: holds one connection, keeps what the broker retains up to date, and sends events."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from policies.site.site_policy import SitePolicy
from server.camera_status.reports import CameraReport
from server.delivery.channel import Answered, Undeliverable
from server.delivery.choice import Choice
from server.delivery.gone import Gone
from server.delivery.mqtt import announcing, frigate, states
from server.delivery.mqtt.discovery import Device, Discovery
from server.delivery.mqtt.retained import Announced, Retained, fits
from server.delivery.mqtt.session import Address, Message, PublishRefused, Session, VersionRefused, new_client_id
from server.delivery.mqtt.shown import Name, Shown, ShownCameras
from server.delivery.mqtt.states import Value
from server.delivery.mqtt.topics import Topics
from server.delivery.surroundings import Surroundings
from server.domain.announcements import NoticeGiven, Outgoing

log = logging.getLogger(__name__)

PICTURE_EVERY_S = 10.0
CAMERAS_AT_ONCE = 500
"""Cameras that have changed, in one call: between calls the right to send has to be prolonged."""
_SHARE = 0.1
"""Of a processor that looking for changes takes at most."""
_LONGEST_PAUSE_S = 1.0


class Memory(msgspec.Struct, frozen=True):
    """What outlasts a restart: who we are, what has to be deleted from the broker one day, and what Frigate's messages
    refer to.
    """

    client_id: str
    topics: tuple[str, ...] = ()
    devices: Mapping[str, Mapping[str, str]] = {}
    happenings: dict[str, frigate.Happening] = {}


_memory = msgspec.json.Decoder(Memory)


class Options(msgspec.Struct, frozen=True):
    """What is published, and as whom. `client_id` empty: one is chosen and remembered."""

    client_id: str
    frigate: bool
    pictures: bool
    fresh_s: float


class MqttChannel:
    """A channel to a broker of MQTT. See `server.delivery.channel.Lasting` for how it is called."""

    def __init__(
        self, name: str, address: Address, topics: Topics, options: Options, choice: Choice, around: Surroundings
    ) -> None:
        self.name = name
        self._address = address
        self._topics = topics
        self._options = options
        self._choice = choice
        self._around = around
        discovery = Discovery(topics, around.version, around.console_url)
        self._server = discovery.server()
        self._cameras = ShownCameras(topics, discovery, choice.takes_target)
        self._tried: Mapping[Name, Shown] = {}
        self._settled: Mapping[Name, Shown] = {}
        self._later: Sequence[Name] = ()
        self._session: Session | None = None
        self._memory = Memory(options.client_id or new_client_id())
        self._encoded: tuple[Memory, str] | None = None
        self._gone = Gone(around.erasures)
        self._retained = Retained(around.picture)
        self._announced = Announced()
        self._policies: dict[str, SitePolicy] = {}
        self._next_s = 0.0
        self._waiting: tuple[float, int] = (0.0, 0)

    @property
    def memory(self) -> str:
        if self._encoded is None or self._encoded[0] is not self._memory:
            self._encoded = self._memory, msgspec.json.encode(self._memory).decode()
        return self._encoded[1]

    def begin(self, memory: str | None) -> None:
        self._memory = self._remembered(memory)
        self._gone.again()
        self._retained.begin(self._memory.topics)
        self._tried = self._settled = {}
        self._announced.again()
        self._next_s = 0.0
        will = Message(self._topics.available, b"offline", retain=True)
        listen_to = [self._topics.available, *([self._topics.birth] if self._topics.discovery else [])]
        self._session = self._opened(self._memory.client_id, will, listen_to)
        log.info("connected with the broker", extra={"channel": self.name, "broker": self._address.place})

    def _remembered(self, memory: str | None) -> Memory:
        """What was remembered, else what this process knows. The settings say who we are, if they do."""
        known = self._memory
        if memory:
            try:
                known = _memory.decode(memory)
            except msgspec.MsgspecError as error:
                log.warning("memory not readable", extra={"channel": self.name, "error": str(error)})
        return replace(known, client_id=self._options.client_id or known.client_id)

    def refresh(self) -> None:
        session = self._open()
        session.check()
        self._forget_erased()
        self._listen(session)
        began_s = time.monotonic()
        if began_s < self._next_s:
            return
        is_complete = self._update(session)
        ended_s = time.monotonic()
        self._next_s = ended_s + min((ended_s - began_s) / _SHARE, _LONGEST_PAUSE_S) if is_complete else 0.0

    def without_erased(self, memory: str) -> str:
        self._memory = self._remembered(memory)
        self._gone.again()
        self._forget_erased()
        return self.memory

    def _forget_erased(self) -> None:
        erasures = self._gone.look(self._around.clock())
        if erasures is not None:
            self._remember(happenings=dict(frigate.without_erased(self._memory.happenings, erasures)))

    def send(self, outgoing: Outgoing) -> None:
        if not self._choice.takes(outgoing):
            return
        session, now_us, fresh_s = self._open(), self._around.clock(), self._options.fresh_s
        happenings: frigate.Happenings = self._memory.happenings
        if isinstance(outgoing, NoticeGiven):
            messages = list(announcing.notice_messages(self._topics, outgoing, now_us, fresh_s))
        else:
            messages = list(announcing.event_messages(self._topics, outgoing, now_us, fresh_s))
            if self._options.frigate:
                told, happenings = frigate.tell(outgoing, happenings)
                messages += [Message(self._topics.below(kind), msgspec.json.encode(body)) for kind, body in told]
        large = next((message.topic for message in messages if not fits(session, message.payload)), None)
        if large is not None:
            raise Undeliverable(f"a message on {large} is larger than the broker takes ({session.largest_bytes} bytes)")
        try:
            session.publish(messages)
        except PublishRefused as error:
            raise (Undeliverable if error.is_final else Answered)(str(error)) from error
        self._memory = replace(self._memory, happenings=dict(happenings))

    def end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close(Message(self._topics.available, b"offline", retain=True))

    def test(self) -> str:
        """Publish a message on the topic `test`, as a client of its own. Raises ConnectionError, PublishRefused."""
        session = self._opened(new_client_id(), None, ())
        try:
            text = f"A test of the channel `{self.name}` of Sectorwatch {self._around.version}."
            session.publish([Message(self._topics.test, msgspec.json.encode({"test": text}))])
        finally:
            session.close()
        return f"a message on the topic {self._topics.test} of the broker at {self._address.place}"

    def retract(self, memory: str | None) -> str:
        """Delete what the broker retains of us: the devices of Home Assistant first, then states and pictures."""
        self._memory = self._remembered(memory)
        topics = dict.fromkeys((*self._memory.devices, *self._memory.topics, self._topics.available))
        session = self._opened(self._memory.client_id, None, ())
        try:
            session.publish([Message(topic, b"", retain=True) for topic in topics])
        finally:
            session.close()
        return f"the broker at {self._address.place} has deleted the {len(topics)} topics that it retained of it"

    def _opened(self, client_id: str, will: Message | None, listen_to: Sequence[str]) -> Session:
        """A connection; in MQTT 3.1.1 where the broker does not speak 5."""
        try:
            return Session(self._address, client_id, will, listen_to)
        except VersionRefused as error:
            if self._address.version == "3.1.1":
                raise
            older = self._address._replace(version="3.1.1")
            session = Session(older, client_id, will, listen_to)
            log.warning(
                'connected by MQTT 3.1.1: set version = "3.1.1" for this broker',
                extra={"channel": self.name, "cause": str(error)},
            )
            self._address = older
            return session

    def _open(self) -> Session:
        if self._session is None:
            raise ConnectionError(f"no connection with the broker at {self._address.place}")
        return self._session

    def _listen(self, session: Session) -> None:
        """Heed what others publish: Home Assistant begins anew, or the will of a process before us came late."""
        for heard in session.heard():
            if heard.topic == self._topics.birth:
                if heard.payload == b"online" and not heard.is_retained:
                    self._announced.again()
                    self._next_s = 0.0
            elif heard.payload != b"online" and self._retained.forget(self._topics.available):
                self._next_s = 0.0

    def _update(self, session: Session) -> bool:
        """Publish what has changed: states, then devices, and that the server is there once every camera is told. Of
        many changed cameras some wait for the next call, in which they come first; whether none does.
        """
        topics, retained = self._topics, self._retained
        reports = [report for report in self._around.reports(None) if self._choice.takes_site(report.site)]
        pictures = self._pictures(reports)
        cameras = self._cameras.of(reports, self._policy, pictures.keys(), self._around.clock())
        changed = {name: None for name, shown in cameras.items() if self._tried.get(name) is not shown}
        first_come = [*({name: None for name in self._later if name in changed} | changed)]
        self._later = first_come[CAMERAS_AT_ONCE:]
        later = {*self._later}
        tried = {name: shown for name, shown in cameras.items() if name not in later}
        unsettled = {name: shown for name, shown in tried.items() if self._settled.get(name) is not shown}
        of_server = [*states.server_values(topics, reports, self._backlog())]
        here = [topics.available, *(value.topic for value in (*of_server, *pictures.values()))]
        retained.delete_others(session, {*here}.union(*(shown.topics for shown in cameras.values())))
        values = [value for shown in unsettled.values() for value in shown.values]
        retained.publish(session, [*values, *of_server], [*pictures.values()])
        self._remember(topics=retained.topics)
        devices, waiting = self._devices(cameras), {cameras[name].device_topic for name in later}
        self._remember(devices=self._announced.publish(session, devices, self._memory.devices, waiting))
        before = {name: shown for name, shown in self._tried.items() if name in later}
        if len(before) == len(later):  # each has been told once
            retained.publish(session, [Value(topics.available, b"online")])
            self._remember(topics=retained.topics)
        settled = {name: shown for name, shown in unsettled.items() if retained.holds(shown.values)}
        self._settled = {name: shown for name, shown in tried.items() if name not in unsettled} | settled
        self._tried = tried | before
        return not later

    def _remember(self, **changes: object) -> None:
        if any(getattr(self._memory, name) is not value for name, value in changes.items()):
            self._memory = replace(self._memory, **changes)

    def _policy(self, site: str) -> SitePolicy | None:
        """The policy in force; while its file is broken, the one before."""
        policy = self._around.policy(site) or self._policies.get(site)
        if policy is not None:
            self._policies[site] = policy
        return policy

    def _backlog(self) -> int:
        """Announcements that wait on all channels; looked up as often as it is published."""
        now_s = time.monotonic()
        if now_s >= self._waiting[0]:
            self._waiting = now_s + states.SELDOM_S, self._around.waiting()
        return self._waiting[1]

    def _pictures(self, reports: Sequence[CameraReport]) -> dict[Name, Value]:
        """The newest kept frame of each camera that has one: its SHA-256 stands for it."""
        if not self._options.pictures:
            return {}
        newest = self._around.newest_frames(None)
        names = [(report.site, report.camera) for report in reports]
        return {
            name: Value(self._topics.place(*name).picture, newest[name].sha256.encode(), PICTURE_EVERY_S)
            for name in names
            if name in newest
        }

    def _devices(self, cameras: Mapping[Name, Shown]) -> dict[str, Device]:
        if not self._topics.discovery:
            return {}
        server = self._server
        return {self._topics.device(server.id): server} | {
            shown.device_topic: shown.device for shown in cameras.values()
        }
