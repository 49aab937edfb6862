"""What a channel is: a way out for events and for notices of the server.

All channels send at least once and in order. An event has one schema on all of them: `server.delivery.lines.json_line`.
"""

from __future__ import annotations

from typing import Protocol

from server.domain.announcements import LONGEST_ERROR, Outgoing
from server.domain.secrets_in_text import without_secrets


class Undeliverable(Exception):
    """The receiver will never take this announcement. It becomes a dead letter, and the next one is sent."""


class Answered(Exception):
    """The receiver is there and answers with an error. After some attempts the announcement becomes a dead letter."""


class Later(Exception):
    """The receiver takes nothing now. It asks for a pause of `wait_s`; the announcement is sent again after it, for as
    long as it takes.
    """

    def __init__(self, text: str, wait_s: float = 0.0) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class TurnedAway(Exception):
    """The receiver takes nothing from us: the address or the credentials do not fit. The announcement is sent again,
    for some days; then the channel is paused, at once where the receiver `is_gone` for good.
    """

    def __init__(self, text: str, *, is_gone: bool = False) -> None:
        super().__init__(text)
        self.is_gone = is_gone


class Channel(Protocol):
    """A way out. `send` returns once the announcement has left, and raises when it has not.

    Undeliverable and Answered say what becomes of it. After any other exception it is sent again, after a growing wait,
    for as long as it takes. People read the text of an exception, so it holds no secret. `send` may be called again
    with the same announcement. It ends within 20 s, in one way or the other: another process takes over after 30 s, and
    the server that stops waits for 10 s. `name` never changes: the store keeps the channel's position under it.
    """

    @property
    def name(self) -> str: ...

    def send(self, outgoing: Outgoing) -> None: ...


class Lasting(Channel, Protocol):
    """A channel that also has something to say or to do between announcements, such as the state of the cameras.

    One process of all holds it at a time. It calls `begin` and `refresh`, then `send` for what waits, `refresh` about
    once a second and after each batch, and `end` when it stops, is paused, fails, or has lost the right to send. `end`
    may follow a `begin` that raised. All calls come from one thread, and any may raise: the channel is tried again
    after a wait.
    """

    @property
    def memory(self) -> str:
        """What `begin` gets when the channel is next held, here or elsewhere. Kept with the position of `send`."""
        ...

    def begin(self, memory: str | None) -> None: ...

    def refresh(self) -> None: ...

    def end(self) -> None: ...


class Remembering(Lasting, Protocol):
    """A lasting channel that remembers something of events. While it is held, it forgets by itself what is erased."""

    def without_erased(self, memory: str) -> str:
        """What the channel remembers, without events that are no longer kept. Called while nobody sends on it."""
        ...


class Partial(Lasting, Protocol):
    """A lasting channel with several receivers, of which some may fail while others take what is sent."""

    @property
    def trouble(self) -> tuple[str, int] | None:
        """Why some fail, and how often that happened since `begin`; None: all took what they got last."""
        ...


class Repeating(Channel, Protocol):
    """A channel that treats an announcement that a person asks for otherwise than one that is new."""

    def send_again(self, outgoing: Outgoing) -> None:
        """As `send`, for an announcement that a person asks for."""
        ...


class Testable(Channel, Protocol):
    """A channel that a person can try."""

    def test(self) -> str:
        """Send something that its receiver recognises as a test, within 20 s; a sentence about what was sent where.

        It is called on an instance of its own, while another instance, here or elsewhere, may be sending. Raises any
        exception.
        """
        ...


class Retracting(Channel, Protocol):
    """A channel whose receiver retains something of it."""

    def retract(self, memory: str | None) -> str:
        """Have the receiver delete all that it retains of the channel; a sentence about it. `memory` is what the
        channel remembers.

        It is called on an instance of its own, while nobody sends on the channel. Raises any exception.
        """
        ...


def in_words(error: Exception) -> str:
    """The error in one line, without secrets, in characters that every database stores."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return "".join(c if c.isprintable() else " " for c in without_secrets(text))[:LONGEST_ERROR]
