"""A yard with a camera, the server's parts around its store, and a channel to a broker."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import msgspec

from policies.events import instant
from policies.site.site_policy import SitePolicy
from server.camera_status.duplicate_agents import DuplicateAgents
from server.camera_status.reports import CameraReports
from server.camera_status.status import StatusThresholds
from server.delivery.dispatcher import Dispatcher
from server.delivery.mqtt import MqttChannel, make
from server.delivery.surroundings import Surroundings
from server.domain.errors import ConfigurationError, RetryLater
from server.domain.pictures.kept_frames import KeptFrame
from server.domain.records import Folded, Settled, StoredHeartbeat
from server.domain.times.local_time import LocalTime
from server.settings.channels import MqttSettings
from server.store import Store
from tests.server.scenes import START_US, Yard, across
from tests.stand_ins import ManualClock

SECOND = 1_000_000
EVERY_S = 60.0
"""Between heartbeats of the camera's agent."""


class World:
    """The clock goes with the camera: it is that of the newest frame, as long as `live` is called."""

    def __init__(self, folder: Path, store: Store, clock: ManualClock, url: str, **settings: Any) -> None:
        self.store, self.clock, self.url = store, clock, url
        clock.now_us = START_US
        self.yard = Yard(folder / "sites", store, clock)
        self.reports = CameraReports(store.heartbeats, store.policy, clock, StatusThresholds(), DuplicateAgents())
        self.pictures: dict[str, bytes] = {}
        self.newest: dict[tuple[str, str], KeptFrame] = {}
        self.channel, self.dispatcher = self.start(**settings)

    def surroundings(self) -> Surroundings:
        return Surroundings(
            version="9.9.9",
            clock=self.clock,
            reports=self.reports.all,
            policy=self._policy,
            newest_frames=lambda _site: self.newest,
            picture=self.pictures.get,
            local_time=lambda _site: LocalTime(None),
            waiting=lambda: sum(state.backlog for state in self.store.channel_states()),
            erasures=self.store.retention.erasures,
            kept_events=self.store.kept_events,
            console_url="https://yard.example",
        )

    def _policy(self, site: str) -> SitePolicy | None:
        try:
            return self.yard.sites.policy(site)
        except (ConfigurationError, RetryLater):
            return None

    def start(self, **settings: Any) -> tuple[MqttChannel, Dispatcher]:
        """A channel as a server makes it that starts now."""
        given = {"url": self.url, "fresh_s": 1e9} | settings
        channel = make("mqtt", msgspec.convert(given, MqttSettings), self.surroundings())
        self.channel, self.dispatcher = channel, Dispatcher(self.store, [channel])
        return channel, self.dispatcher

    def drain(self) -> None:
        """Send all that waits, and say what there is to be said."""
        self.channel._next_s = 0.0
        while self.dispatcher.drain_once():
            self.channel._next_s = 0.0

    def stop(self) -> None:
        """The server stops as it should."""
        stop = threading.Event()
        stop.set()
        self.dispatcher.run(stop)

    def live(self, until_s: float, *, begin_s: float = 0.0) -> None:
        """Bursts of a person who walks across the yard, each as soon as it is complete."""
        for number, burst in enumerate(self.yard.walked(across, until_s)):
            if number * 2.0 >= begin_s:
                self.clock.now_us = START_US + (number + 1) * 2 * SECOND
                self.yard.pipeline.process(burst)

    def beat(self, state: str = "watching", **more: Any) -> None:
        """A heartbeat of the agent now."""
        now = instant(self.clock.now_us)
        told = {
            "site": "yard",
            "camera": "gate",
            "state": state,
            "since": now,
            "next_burst_by": instant(self.clock.now_us + 2 * SECOND),
            "agent": {"sent_at": now, "started_at": instant(START_US), "every_s": EVERY_S, "version": "1.2.3"},
        } | more
        now_us = self.clock.now_us
        body = msgspec.json.encode(told).decode()
        assert self.store.heartbeats.keep(StoredHeartbeat("yard", "gate", START_US, now_us, now_us, body))

    def keep_frame(self, picture: bytes, sha256: str) -> None:
        """A picture of the camera is kept."""
        self.pictures[sha256] = picture
        self.newest["yard", "gate"] = KeptFrame("yard", "gate", self.clock.now_us, sha256, len(picture))

    def many(self, count: int) -> list[str]:
        """So many events at once, made from one that there is; their ids in order."""
        template = next(each for each in self.store.events(after_seq=0) if each.event.kind == "presence_started")
        with self.store.turn("yard", "gate") as turn:
            start = turn.rewind(1 << 62)
            assert start.at_us is not None
            assert start.state is not None
            at_us = start.at_us
            events = [
                msgspec.structs.replace(
                    template.event,
                    id=f"{number:032x}",
                    started_at=instant(at_us + number),
                    confirmed_at=instant(at_us + number),
                )
                for number in range(1, count + 1)
            ]
            settled = tuple(Settled(event, template.burst_id, index) for index, event in enumerate(events))
            policy, newest_us = template.event.provenance.policy, at_us + count
            turn.settle(start, Folded(1, 0, newest_us, at_us, start.state, policy, settled, {newest_us: start.state}))
        return [event.id for event in events]

    def end(self) -> None:
        self.channel.end()
