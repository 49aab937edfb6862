"""Events told before their burst is: what the answers to its first frames settle already.

The fold looks back only, so what the first frames of a burst settle stands, whatever the rest shows. While the
ensemble is still busy with the rest, those events are told as `provisional`; nothing of them is stored. The
turn then confirms them, by telling an event of the same id, or they are withdrawn: the burst could not be judged after
all, or another one came first. If the server dies in between, the burst comes again and tells the same ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from policies.events import Event
from policies.fold import State, advance
from policies.observation import Observation
from policies.site.site_policy import CameraPolicy
from server.domain.records import Announcement, LoggedEvent

Tell = Callable[[Sequence[Announcement]], None]
"""Where announcements go that are in no outbox; it must not wait."""


class Foretelling:
    """One burst's. `state` is its camera's before it; for a burst that is not the camera's newest there is none."""

    def __init__(self, policy: CameraPolicy, state: State, tell: Tell) -> None:
        self._policy = policy
        self._state = state
        self._tell = tell
        self.frames = 0
        self._told: dict[str, LoggedEvent] = {}

    def hear(self, following: Sequence[Observation]) -> None:
        """The burst's frames that follow the `frames` heard before: tell what they settle."""
        fresh: list[LoggedEvent] = []
        for seen in following:
            self._state, events = advance(self._policy, self._state, seen)
            fresh += [_provisional(event, seen.burst_id) for event in events if event.id not in self._told]
        self.frames += len(following)
        self._told |= {logged.event.id: logged for logged in fresh}
        if fresh:
            self._tell([Announcement(0, "provisional", logged) for logged in fresh])

    @property
    def told(self) -> Iterable[str]:
        """Ids of what was told."""
        return self._told.keys()

    def settle(self, held: Iterable[str], now_us: int) -> None:
        """The turn is over: withdraw what the log does not hold."""
        kept = set(held)
        gone = [replace(told, withdrawn_at_us=now_us) for i, told in self._told.items() if i not in kept]
        if gone:
            self._tell([Announcement(0, "withdrawn", logged) for logged in gone])


def _provisional(event: Event, burst_id: str) -> LoggedEvent:
    return LoggedEvent(0, event, late=False, withdrawn_at_us=None, burst_id=burst_id, is_provisional=True)
