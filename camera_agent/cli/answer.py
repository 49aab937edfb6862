"""The server's answer to a burst, for a person: each model's label in each frame, its score, and the events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from camera_agent.logs import visible
from camera_agent.uplink.http_client import Receipt

_MAX_CLASS_WIDTH = 24
_MAX_EVENT_WIDTH = 120
_VOTE = "*"


class _Prediction(msgspec.Struct):
    label: str
    score: float
    box: tuple[float, ...] | None = None
    sector: str | None = None


class _Seen(msgspec.Struct):
    answers: dict[str, tuple[_Prediction, ...] | None] = {}


_seen = msgspec.json.Decoder(list[_Seen])


def answer_lines(offsets_ms: tuple[int, ...], receipt: Receipt) -> Iterator[str]:
    """One row per frame, one column per model, and the events below. A vote has a star beside its score."""
    seen = _observations(receipt.observations)
    rows = [["frame", "at", *(visible(model) for model in receipt.labels)]]
    for index, offset_ms in enumerate(offsets_ms):
        answers = seen[index].answers if index < len(seen) else {}
        cells = [_cell(receipt, model, index, answers.get(model)) for model in receipt.labels]
        rows.append([str(index), f"+{offset_ms / 1000:.3f} s", *cells])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    if receipt.votes:
        has_votes = any(targets for frames in receipt.votes.values() for targets in frames)
        yield f"{_VOTE} a vote for a target of the site" if has_votes else "no label is a vote for a target of the site"
    yield f"events: {len(receipt.events) or 'none yet'}"
    yield from (f"  {event_line(event)}" for event in receipt.events)


def event_line(event: dict[str, Any]) -> str:
    """`18:12:04 person entered table from the bottom`, in this machine's time zone."""
    line = f"{_time_of(event)} {event.get('label') or 'something'} {_what(event)}"
    return visible(line)[:_MAX_EVENT_WIDTH]


def _cell(receipt: Receipt, model: str, index: int, predictions: Iterable[_Prediction] | None) -> str:
    """`person .83 *`: the label, its score where the server names one, and whether it is a vote."""
    labels, votes = receipt.labels[model], receipt.votes.get(model, [])
    label = labels[index] if index < len(labels) else "?"
    whole = [each for each in predictions or () if each.label == label and each.sector is None]
    score = max((each.score for each in whole), default=None)
    words = [visible(label)[:_MAX_CLASS_WIDTH] or "-"]
    words += [] if score is None else [f"{score:.2f}"]
    words += [_VOTE] if index < len(votes) and votes[index] else []
    return " ".join(words)


def _observations(content: msgspec.Raw) -> list[_Seen]:
    try:
        return _seen.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def _what(event: dict[str, Any]) -> str:
    """In the words of `sectorwatch events`."""
    kind, sector, direction = (str(event.get(key) or "") for key in ("kind", "sector", "direction"))
    is_known = direction not in ("", "unknown")
    side = {"up": "upwards", "down": "downwards"}.get(direction, f"to the {direction}")
    lasted = f", {lasted_s:.0f} s" if (lasted_s := _lasted_s(event)) is not None else ""
    words = {
        "entered": f"entered {sector}" + (f" from the {direction}" if is_known else ""),
        "left": f"left {sector}" + (f" to the {direction}" if is_known else ""),
        "moved": f"moved {event.get('from_sector')} > {event.get('to_sector')}" + (f", {side}" if is_known else ""),
        "crossed": f"crossed {event.get('line')}" + (f", {direction}" if is_known else ""),
        "lingered": f"lingered at {sector}",
        "presence_started": f"present at {sector}",
        "presence_ended": f"gone from {sector}{lasted}",
    }
    return words.get(kind, f"{kind or '?'} {sector}".rstrip())


def _time_of(event: dict[str, Any]) -> str:
    """When it happened; of a presence that ended, its end. With the date where that is another day than today."""
    is_end = event.get("kind") == "presence_ended" and event.get("ended_at")
    at = _instant(event.get("ended_at" if is_end else "started_at"))
    if at is None:
        return "--:--:--"
    local = at.astimezone()
    is_today = local.date() == datetime.now().astimezone().date()
    return f"{local:%H:%M:%S}" if is_today else f"{local:%Y-%m-%d %H:%M:%S}"


def _lasted_s(event: dict[str, Any]) -> float | None:
    begin, end = _instant(event.get("started_at")), _instant(event.get("ended_at"))
    return None if begin is None or end is None else (end - begin).total_seconds()


def _instant(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
