"""What goes between the server and the process beside it that is connected to Ray: calls, results and errors."""

from __future__ import annotations

from typing import Any

import msgspec

from server.domain.errors import ConfigurationError, RetryLater


class Lost(Exception):
    """A replica died, or cannot be reached. Whether it has answered is not known."""


class Called(msgspec.Struct, frozen=True, array_like=True):
    """A call of a method of `driver.Driver`."""

    number: int
    method: str
    given: list[Any]


class Came(msgspec.Struct, frozen=True, array_like=True):
    """What a call returned, or (`kind` is not empty) raised."""

    number: int
    value: Any = None
    kind: str = ""
    detail: str = ""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """An application of Ray Serve: the replicas of one ensemble. `loading` is pickled."""

    name: str
    terms: dict[str, Any]
    models: tuple[str, ...]
    ensemble: str
    terms_digest: str
    insists: bool
    loading: bytes
    least: int
    most: int
    queued_images: int
    cpus: float
    gpus: float
    max_queued_requests: int
    stopped_within_s: float
    more_after_s: float
    fewer_after_s: float
    seen_over_s: float


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """An application as Ray sees it: status and last message in its words, replicas that run, and all it has begun."""

    status: str
    message: str
    running: int
    replicas: int


_KINDS: dict[str, type[Exception]] = {
    "Lost": Lost,
    "TimeoutError": TimeoutError,
    "RetryLater": RetryLater,
    "ConfigurationError": ConfigurationError,
}

encode = msgspec.msgpack.Encoder().encode
came = msgspec.msgpack.Decoder(Came).decode


def returned(number: int, value: Any) -> bytes:
    return encode(Came(number, value))


def failed(number: int, error: Exception) -> bytes:
    kind = next((name for name, known in _KINDS.items() if isinstance(error, known)), "RuntimeError")
    detail = error.detail if isinstance(error, RetryLater | ConfigurationError) else one_line(error)
    return encode(Came(number, None, kind, detail))


def error_of(result: Came) -> Exception:
    """The error that a call raised, of the same kind; RuntimeError for others."""
    return _KINDS.get(result.kind, RuntimeError)(result.detail)


def one_line(error: BaseException) -> str:
    """Kind and first line of an error."""
    if isinstance(error, Lost):
        return str(error)
    return f"{type(error).__name__}: {next((line for line in str(error).splitlines() if line.strip()), '')}"
