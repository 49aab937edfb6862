"""One minute of a camera: what is known of it, and one sentence that says what came of it.

The command `explain` and the console's page "Why" share this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from policies.events import Event, microseconds
from policies.site.site_policy import CameraPolicy
from server.analysis.explain.conclusion import conclude, goes_on, of_minute
from server.analysis.explain.explanation import Explanation, explain
from server.analysis.gaps import Causes
from server.analysis.stored import Store as ReadStore
from server.camera_status.heartbeat import decode_heartbeat
from server.domain.records import StoredHeartbeat
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import LocalTime

MINUTE_US = 60 * SECOND_US
_LOOK_BACK = 100


class Heartbeats(Protocol):
    def newest(self, site: str, camera: str) -> StoredHeartbeat | None: ...


class Store(ReadStore, Protocol):
    @property
    def heartbeats(self) -> Heartbeats: ...


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What came of a minute. `events` happened in it; `presence` began one that goes on through it.

    `shown` are these and all that its bursts settled, withdrawn ones too. `short` holds the short id of each.
    """

    sentence: str
    events: tuple[Event, ...]
    presence: Event | None
    shown: tuple[Event, ...]
    short: Mapping[str, str]


def explain_minute(
    store: Store, site: str, camera: str, at_us: int, now_us: int, time_of: Callable[[int], str]
) -> Explanation:
    """The minute that an instant (us) lies in. `time_of` writes the instant of a heartbeat that names a cause."""
    since_us = at_us - at_us % MINUTE_US
    causes = _heartbeat(store, site, camera, time_of)
    return explain(store, site, camera, since_us, since_us + MINUTE_US, causes, now_us)


def concluded(store: Store, explanation: Explanation, local: LocalTime) -> Conclusion:
    """What came of an explained minute, in one sentence with times in `local` time."""
    since_us, until_us = explanation.since_us, explanation.until_us
    of_bursts = [logged for burst in explanation.bursts for logged in burst.events]
    begun = store.begun(since_us, until_us, explanation.site, explanation.camera)
    holding = [logged.event for logged in (*begun, *of_bursts) if not logged.is_withdrawn]
    inside = of_minute(holding, since_us, until_us)
    presence = _begun_before(store, explanation)
    shown = [*holding, *(logged.event for logged in of_bursts), *([presence] if presence else [])]
    short = store.past.short_ids([event.id for event in shown])
    sentence = conclude(explanation, _policy(store, explanation), inside, presence, local, short)
    return Conclusion(sentence, tuple(inside), presence, tuple({each.id: each for each in shown}.values()), short)


def _policy(store: Store, explanation: Explanation) -> CameraPolicy | None:
    """The policy that was in force in the last burst."""
    if not explanation.bursts:
        return None
    last = explanation.bursts[-1]
    brightness = store.kept(last.facts.burst_id).observations[0].brightness
    return store.policy(last.facts.policy).camera(last.facts.camera).in_force(last.facts.first_at_us, brightness)


def _begun_before(store: Store, explanation: Explanation) -> Event | None:
    """The begin of a presence that goes on through the minute."""
    wanted = set(goes_on(explanation))
    if not wanted:
        return None
    began = store.begun(
        None,
        explanation.since_us,
        explanation.site,
        explanation.camera,
        "presence_started",
        backwards=True,
        limit=_LOOK_BACK,
    )
    return next((each.event for each in began if (each.event.label, each.event.sector) in wanted), None)


def _heartbeat(store: Store, site: str, camera: str, time_of: Callable[[int], str]) -> Causes:
    """The cause of a gap in the camera's newest heartbeat; older heartbeats are not stored."""
    stored = store.heartbeats.newest(site, camera)

    def causes(since_us: int, until_us: int) -> list[str]:
        reasons = []
        for heartbeat in [decode_heartbeat(stored.body)] if stored else []:
            sent_us, state_us = microseconds(heartbeat.agent.sent_at), microseconds(heartbeat.since)
            if state_us < until_us and sent_us >= since_us:
                why = f" ({heartbeat.cause})" if heartbeat.cause else ""
                reasons.append(f"the heartbeat of {time_of(sent_us)} says: {heartbeat.state}{why}")
        return reasons

    return causes
