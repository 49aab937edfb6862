"""When a camera was turned or moved, so that its frames settled nothing.

Its states say so: those that are kept are looked at, and frames are folded only where a turn ends. A turn that begins
and ends between two kept states, half an hour apart in the last week and six hours before, is not found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Protocol

from policies.fold import State, decode_state, initial_state
from policies.occupancy import Interval, turned_since
from policies.site.site_policy import SitePolicy
from server.domain.folding.refold import steps
from server.domain.records import Checkpoint, Recorded


class Past(Protocol):
    def states(self, site: str, camera: str, since_us: int, until_us: int) -> list[Checkpoint]: ...


class Store(Protocol):
    @property
    def past(self) -> Past: ...
    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint: ...
    def history(
        self, site: str, camera: str, since_us: int | None = ..., until_us: int | None = ...
    ) -> Iterator[Recorded]: ...


def turned_stretches(
    store: Store, site: str, camera: str, since_us: int, until_us: int, policy_of: Callable[[str], SitePolicy]
) -> list[Interval]:
    """The stretches in which a camera was turned: from the last frame that was judged to the next one, or to the end.

    The first may begin before `since_us`.
    """
    turned: list[Interval] = []
    begin_us: int | None = None
    for state in _states(store, site, camera, since_us, until_us, policy_of):
        turned_us = turned_since(state)
        if turned_us is not None and begin_us is None:
            begin_us = turned_us if state.seen_us is None else state.seen_us
        elif turned_us is None and begin_us is not None and state.seen_us is not None and state.seen_us > begin_us:
            turned.append((begin_us, state.seen_us))
            begin_us = None
    return turned if begin_us is None else [*turned, (begin_us, until_us)]


def _states(
    store: Store, site: str, camera: str, since_us: int, until_us: int, policy_of: Callable[[str], SitePolicy]
) -> Iterator[State]:
    """The states that are kept, and those after each frame from one in which the camera is turned until it is not, and
    after the last.
    """
    points = [store.checkpoint(site, camera, since_us), *store.past.states(site, camera, since_us, until_us)]
    states = [initial_state() if each.state is None else decode_state(each.state) for each in points]
    for (point, state), after in zip_longest(
        zip(points, states, strict=True), zip(points[1:], states[1:], strict=True)
    ):
        yield state
        end_us = until_us
        if after is not None:
            if turned_since(state) in (None, turned_since(after[1])):
                continue
            end_us = until_us if after[0].at_us is None else after[0].at_us + 1
        from_us = None if point.at_us is None else point.at_us + 1
        for step in steps(store.history(site, camera, from_us, end_us), point, policy_of):
            yield step.state
            if after is not None and turned_since(step.state) is None and step.state.seen_us == step.state.last_at_us:
                break
