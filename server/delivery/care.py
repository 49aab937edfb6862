"""What a person does with channels: look how they stand, try, pause and resume them, send again, drop letters.

The command and the console do it here alike. Each change leaves a line in the audit, written together with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol, cast

import msgspec

from policies.events import Event, instant
from policies.site.toml_errors import suggest
from server.delivery.channel import Retracting, in_words
from server.delivery.choice import Choice
from server.delivery.factory import make_channels
from server.delivery.surroundings import Surroundings
from server.domain.announcements import ChannelState, DeadLetter
from server.domain.errors import ConfigurationError, Conflict, SectorwatchError, Unknown
from server.settings.channels import LOG, AnyChannel

State = Literal["sending", "paused", "failing", "new"]


class Standing(msgspec.Struct, frozen=True):
    """How a channel stands. `kind` null: it is not in the settings, so nobody sends on it. `new`: no server has started
    with it yet. `backlog` counts announcements that it has not dealt with. `asked` letters are to be sent again.
    """

    name: str
    kind: str | None
    state: State
    paused_since: datetime | None = None
    failing_since: datetime | None = None
    error: str | None = None
    failures: int = 0
    backlog: int = 0
    oldest_undelivered_at: datetime | None = None
    last_sent_at: datetime | None = None
    dead_letters: int = 0
    asked: int = 0


class _Letters(Protocol):
    def page(
        self,
        channel: str | None = ...,
        *,
        before: int | None = ...,
        limit: int = ...,
        is_asked: bool | None = ...,
    ) -> Sequence[DeadLetter]: ...
    def ask(self, channel: str, numbers: Sequence[int] | None = ..., *, by: str | None = ...) -> int: ...
    def ask_events(self, channel: str, ids: Sequence[str], *, by: str | None = ..., which: str = ...) -> int: ...
    def forget(self, channel: str, numbers: Sequence[int] | None = ..., *, by: str | None = ...) -> int: ...


class _Store(Protocol):
    @property
    def letters(self) -> _Letters: ...
    def channel_states(self) -> Sequence[ChannelState]: ...
    def add_channel(self, name: str, from_start: bool = ...) -> None: ...
    def memory(self, channel: str) -> str | None: ...
    def forget_channel(self, channel: str, *, by: str) -> None: ...
    def pause(self, channel: str, *, by: str | None = ...) -> None: ...
    def resume(self, channel: str, *, from_now: bool = ..., by: str | None = ...) -> None: ...


class ChannelCare:
    """The channels of these settings, and those that the store knows from before.

    Everything raises Unknown for a name that is none of them. `author` is who does it, for the audit.
    """

    def __init__(
        self, store: _Store, channels: Mapping[str, AnyChannel], surroundings: Callable[[], Surroundings]
    ) -> None:
        self._store = store
        self._channels = channels
        self._surroundings = surroundings

    def standings(self) -> list[Standing]:
        """All channels: the log, those of the settings in their order, then those that are in the settings no more."""
        states = {state.name: state for state in self._store.channel_states()}
        names = [LOG, *self._channels, *(name for name in sorted(states) if name not in {LOG, *self._channels})]
        return [self._standing(name, states.get(name)) for name in names]

    def standing(self, name: str) -> Standing:
        """How one channel stands."""
        found = self.standings()
        for each in found:
            if each.name == name:
                return each
        raise Unknown(f"there is no channel `{name[:80]}`{suggest(name, frozenset(each.name for each in found))}")

    def letters(self, name: str | None, *, before: int | None = None, limit: int = 100) -> Sequence[DeadLetter]:
        """The newest letters (of a channel), newest first; `before` a number: those before it."""
        if name is not None:
            self.standing(name)
        return self._store.letters.page(name, before=before, limit=limit)

    def pause(self, author: str, name: str) -> None:
        """Nobody sends on the channel until it is resumed, after a restart neither. What comes meanwhile waits."""
        if self.standing(name).state == "new":
            self._store.add_channel(name, from_start=name == LOG)
        self._store.pause(name, by=author)

    def resume(self, author: str, name: str, *, from_now: bool = False) -> None:
        """Send again, at once, also after failures. `from_now`: what has waited is never sent."""
        if self.standing(name).state == "new":
            raise Conflict(f"channel `{name}` is not paused: a server that starts with it sends on it")
        self._store.resume(name, from_now=from_now, by=author)

    def resend_letters(self, author: str, name: str, numbers: Sequence[int] | None = None) -> int:
        """Have letters (None: all of the channel) sent again; how many. Raises Unknown where a number is none."""
        self._in_service(name)
        return _some(name, numbers, self._store.letters.ask(name, numbers, by=author))

    def resend_events(self, author: str, name: str, events: Iterable[Event], which: str = "") -> int:
        """Have events of the log sent once more, as they are now; how many. Those that the channel does not send are
        passed over. `which` says more of them in the audit.
        """
        self._in_service(name)
        channel = self._channels.get(name)
        choice = Choice() if channel is None else Choice.of(channel)
        ids = [event.id for event in events if choice.takes_event(event)]
        return self._store.letters.ask_events(name, ids, by=author, which=which)

    def drop(self, author: str, name: str, numbers: Sequence[int] | None = None) -> int:
        """Delete letters (None: all of the channel); how many. Raises Unknown where a number is none."""
        self.standing(name)
        return _some(name, numbers, self._store.letters.forget(name, numbers, by=author))

    def test(self, name: str) -> str:
        """Send something that the receiver recognises as a test; a sentence about it. The channel itself is not touched
        by it, and its pause does not count. Raises Conflict where it is not taken, with why.
        """
        found = self.standing(name)
        if name == LOG:
            raise Conflict("the log is the server's standard output: there is nobody to try it with")
        if found.kind is None:
            raise Conflict(_not_in_settings(name))
        try:
            (channel,) = make_channels({name: self._channels[name]}, self._surroundings())
            return channel.test()
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001  a channel may raise anything
            why = error.detail if isinstance(error, SectorwatchError) else in_words(error)
            raise Conflict(f"channel `{name}` did not take the test: {why}") from None

    def forget(self, author: str, name: str) -> str | None:
        """Delete a channel for good: its position, its letters and what it remembers, and what its receiver retains of
        it; a sentence about the receiver, None: it retains nothing, or the settings do not say who it is.

        Raises Conflict while servers may send on the channel, and where the receiver cannot be reached.
        """
        found = self.standing(name)
        if name == LOG:
            raise Conflict("the log is always there")
        if found.state == "new":
            raise Conflict(f"nothing is stored of channel `{name}`: take its table out of the settings")
        if found.kind is not None and found.paused_since is None:
            raise Conflict(f"servers send on channel `{name}`: `sectorwatch channels pause {name}` first")
        if any(state.name == name and state.claimed_by for state in self._store.channel_states()):
            raise Conflict(f"a server still sends on channel `{name}`: try again in a minute")
        sentence = None if found.kind is None else self._retracted(name)
        self._store.forget_channel(name, by=author)
        return sentence

    def _retracted(self, name: str) -> str | None:
        (channel,) = make_channels({name: self._channels[name]}, self._surroundings())
        if not hasattr(channel, "retract"):
            return None
        try:
            return cast(Retracting, channel).retract(self._store.memory(name))
        except Exception as error:  # noqa: BLE001  a channel may raise anything
            raise Conflict(
                f"channel `{name}` is not forgotten: its receiver still retains what it got: {in_words(error)}; "
                "without its table in the settings, `forget` leaves the receiver as it is"
            ) from None

    def _in_service(self, name: str) -> None:
        found = self.standing(name)
        if found.kind is None:
            raise Conflict(_not_in_settings(name))
        if found.state == "new":
            raise Conflict(f"no server has started with channel `{name}` yet")

    def _standing(self, name: str, state: ChannelState | None) -> Standing:
        channel = self._channels.get(name)
        kind = LOG if name == LOG else None if channel is None else str(channel.__struct_config__.tag)
        if state is None:
            return Standing(name, kind, "new")
        return Standing(
            name,
            kind,
            "paused" if state.paused_at_us is not None else "failing" if state.error else "sending",
            _instant(state.paused_at_us),
            _instant(state.failed_at_us),
            state.error,
            state.failures,
            state.backlog,
            _instant(state.oldest_us),
            _instant(state.sent_at_us),
            state.dead_letters,
            state.asked,
        )


def _instant(at_us: int | None) -> datetime | None:
    return None if at_us is None else instant(at_us)


def _not_in_settings(name: str) -> str:
    return f"channel `{name}` is not in the settings, so nobody sends on it: add the table [channels.{name}]"


def _some(name: str, numbers: Sequence[int] | None, count: int) -> int:
    """The count. Raises Unknown where numbers were given, and none of them is a letter of the channel."""
    if numbers and not count:
        shown = ", ".join(map(str, numbers[:10]))
        raise Unknown(f"channel `{name}` has no letter {shown}: `sectorwatch channels list --dead {name}` lists them")
    return count
