"""Which announcements a channel sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from policies.events import Event
from server.domain.announcements import NoticeGiven, Outgoing


class _Lists(Protocol):
    @property
    def sites(self) -> Sequence[str]: ...
    @property
    def targets(self) -> Sequence[str]: ...
    @property
    def events(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Choice:
    """The events of some sites, targets and kinds; an empty set stands for all. Notices always pass."""

    sites: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: _Lists) -> Choice:
        """The choice that the settings of a channel make."""
        return cls(frozenset(settings.sites), frozenset(settings.targets), frozenset(settings.events))

    def takes(self, outgoing: Outgoing) -> bool:
        """Whether the channel sends this announcement."""
        return isinstance(outgoing, NoticeGiven) or self.takes_event(outgoing.logged.event)

    def takes_event(self, event: Event) -> bool:
        """Whether the channel sends announcements of this event."""
        return (
            self.takes_site(event.site)
            and self.takes_target(event.label)
            and (not self.kinds or event.kind in self.kinds)
        )

    def takes_site(self, site: str) -> bool:
        """Whether the channel tells of this site at all."""
        return not self.sites or site in self.sites

    def takes_target(self, target: str) -> bool:
        """Whether the channel tells of this target at all."""
        return not self.targets or target in self.targets
