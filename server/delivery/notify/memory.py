"""What the channel remembers over restarts. Its JSON is kept with the channel's position, so names stay as they are."""

from __future__ import annotations

from typing import Literal

import msgspec

VERSION = 1
MOST_REPORTED = 300
MOST_HEARD = 300
ID_DIGITS = 12
"""Of the id of an event that is not told."""
MOST_RESTS = 500
MOST_LETTERS = 200
MOST_TALLIES = 30
MOST_PLACES = 50
MOST_IDS = 300
MOST_REMARKS = 5

Reason = Literal["more", "quiet", "old"]
"""Why something is only counted: too many in an hour, in quiet hours, too long ago."""


class Letter(msgspec.Struct):
    """A message that is to be sent to `urls` (the places of their secrets). `place`: what it counts as in a digest;
    empty: it is not counted. `about` is the event that a message without `event_id` repeats, `counted` what a digest
    counts.
    """

    text: str
    site: str | None
    at_us: int
    made_us: int
    urls: list[str]
    place: str = ""
    event_id: str = ""
    frames: tuple[str, ...] = ()
    camera: str = ""
    is_digest: bool = False
    about: str = ""
    counted: list[Tally] = []


class Reported(msgspec.Struct):
    """An event that was told. `line` is how; `started_us` is when its visit began. `withdrawn_us`: since when it does
    not hold.
    """

    line: str
    key: str
    site: str
    kind: str
    started_us: int
    at_us: int
    is_open: bool = False
    withdrawn_us: int | None = None


class Rest(msgspec.Struct):
    """Of a place and target: until when no further visit is told, and how many were not told since `since_us`."""

    since_us: int
    until_us: int
    more: int = 0


class Tally(msgspec.Struct):
    """What is counted instead of told: of one site, for one reason, by place. `ids` are the first digits of the ids of
    events, for those that are withdrawn later. `first_us` and `last_us` are when it happened, `since_us` and `added_us`
    when it was counted. `remark_ids` are those of the events that remarks repeat, by remark.
    """

    reason: Reason
    site: str | None
    first_us: int
    last_us: int
    since_us: int
    added_us: int
    counts: dict[str, int] = {}
    ids: dict[str, str] = {}
    remarks: list[str] = []
    remark_ids: dict[str, str] = {}
    further: int = 0


class Unwatched(msgspec.Struct):
    """A camera, or sectors of it, that are not watched. `is_known`: it was so before the channel began."""

    since_us: int
    is_reported: bool = False
    is_known: bool = False


class Memory(msgspec.Struct):
    """All of it. `heard` is the first digits of the newest events."""

    version: int = VERSION
    letters: list[Letter] = []
    reported: dict[str, Reported] = {}
    heard: list[str] = []
    rests: dict[str, Rest] = {}
    sent_us: list[int] = []
    tallies: list[Tally] = []
    digest_us: dict[str, int] = {}
    unwatched: dict[str, Unwatched] = {}
    has_looked: bool = False
    is_unapproved: bool = False


_memory = msgspec.json.Decoder(Memory)


def encode(memory: Memory) -> str:
    """The memory as JSON."""
    return msgspec.json.encode(memory).decode()


def decode(text: str) -> Memory | None:
    """The memory in this JSON; None where another version wrote it."""
    try:
        memory = _memory.decode(text)
    except msgspec.MsgspecError:
        return None
    return memory if memory.version == VERSION else None


def prune_reported(reported: dict[str, Reported]) -> None:
    """Leave the newest, those that go on before those that are over."""
    while len(reported) > MOST_REPORTED:
        over = next((event_id for event_id, each in reported.items() if not each.is_open), None)
        del reported[over or next(iter(reported))]


def prune_rests(rests: dict[str, Rest], now_us: int) -> None:
    """Leave those that last, then the newest."""
    if len(rests) <= MOST_RESTS:
        return
    for key in [key for key, rest in rests.items() if rest.until_us < now_us]:
        del rests[key]
    while len(rests) > MOST_RESTS:
        del rests[next(iter(rests))]
