"""What goes between the server and a replica: msgpack both ways, and errors that keep their kind.

A request is one burst, whole: models such as `frame-change` need all of its frames in order. Its time limit is what is
left of it, in seconds, since clocks of machines differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from policies.observation import Box, EnsembleInfo, Prediction
from server.domain.errors import (
    ConfigurationError,
    Malformed,
    RetryLater,
    SectorwatchError,
    TooLarge,
    TooMuchWork,
    Unapproved,
    Unprocessable,
    WrongType,
)
from server.engine import Load

_KINDS: dict[str, type[SectorwatchError]] = {
    kind.__name__: kind
    for kind in (ConfigurationError, Malformed, RetryLater, TooLarge, TooMuchWork, Unapproved, Unprocessable, WrongType)
}


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """One request: what `server.domain.ensemble_protocol.Ensemble` asks about images, for whom, and by which ensemble.

    `spare` work is done by idle workers only.
    """

    ensemble: str
    images: Sequence[bytes]
    crops: dict[str, Box]
    enlarged: tuple[Box, ...]
    only: str | None
    within_s: float
    client: str
    spare: bool = False


class Answered(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The answers of a request, one per image."""

    answers: list[dict[str, tuple[Prediction, ...] | None]]


class Failed(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """An error. `kind` is its class, `frame` the index of the image at fault."""

    kind: str
    detail: str
    frame: int | None = None
    begun: bool = True
    retry_after_s: int = 0


class Inspected(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """An ensemble as a node or replica loads it. `fault` says how its answers differ from the approved ones; None: not
    at all.
    """

    replica: str
    ensemble_info: EnsembleInfo
    fault: str | None


class Report(msgspec.Struct, frozen=True, array_like=True):
    """A replica at one instant. `terms` names the settings that it was made with, `took` has the seconds of the models'
    calls since the last report.
    """

    replica: str
    load: Load
    terms: str
    took: list[tuple[str, float]]


Reply = Answered | Failed | Inspected

encode = msgspec.msgpack.Encoder().encode
asked = msgspec.msgpack.Decoder(Asked).decode
report = msgspec.msgpack.Decoder(Report).decode
_reply: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def failed(error: Exception) -> Failed:
    """An error as it goes over the wire."""
    if isinstance(error, SectorwatchError) and type(error).__name__ in _KINDS:
        retry_after_s = error.retry_after_s if isinstance(error, RetryLater) else 0
        return Failed(type(error).__name__, error.detail, error.frame, error.begun, retry_after_s)
    return Failed("", f"{type(error).__name__}: {error}")


def reply(packed: bytes) -> Answered | Inspected:
    """What came back. Raises the error that it stands for: of the same kind, or RuntimeError for one not ours."""
    came = _reply.decode(packed)
    if not isinstance(came, Failed):
        return came
    if came.kind not in _KINDS:
        raise RuntimeError(came.detail.removeprefix("RuntimeError: "))
    error = _KINDS[came.kind](came.detail, frame=came.frame, begun=came.begun) if came.kind != "RetryLater" else None
    raise error or RetryLater(came.detail, retry_after_s=came.retry_after_s, begun=came.begun)
