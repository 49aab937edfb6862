"""The tables that are exported: one list of columns each, whatever the form of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple

Kind = Literal["text", "instant", "number", "integer", "flag", "texts", "words"]
"""`instant`: aware, UTC. `texts`: a list of texts. `words`: a mapping of text to text."""

Value = str | datetime | float | bool | Sequence[str] | Mapping[str, str] | None
Row = tuple[Value, ...]
"""A value for each column of its table, in order; None where there is none."""


class Column(NamedTuple):
    """A column. A dot in its name makes it a field of a structure, where the form has structures (JSON, Parquet)."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """What is exported, by its columns."""

    name: str
    columns: tuple[Column, ...]

    @cached_property
    def groups(self) -> tuple[tuple[str, tuple[tuple[int, Column], ...]], ...]:
        """Top names in order, each with its columns and their places in a row: one, or the fields of a structure."""
        found: dict[str, list[tuple[int, Column]]] = {}
        for place, column in enumerate(self.columns):
            found.setdefault(column.name.partition(".")[0], []).append((place, column))
        return tuple((name, tuple(columns)) for name, columns in found.items())

    def nested(self, row: Row) -> dict[str, Any]:
        """The row as an object for JSON. A structure without any value is left out."""
        made: dict[str, Any] = {}
        for name, columns in self.groups:
            first, column = columns[0]
            if column.name == name:
                made[name] = row[first]
            elif any(row[place] is not None for place, _ in columns):
                made[name] = {each.name.partition(".")[2]: row[place] for place, each in columns}
        return made


EVENTS = Table(
    "events",
    (
        Column("id", "text", "derived from the facts; the same facts give the same id"),
        Column(
            "kind", "text", "`entered`, `left`, `moved`, `crossed`, `lingered`, `presence_started`, `presence_ended`"
        ),
        Column("site", "text", "site"),
        Column("camera", "text", "camera"),
        Column("label", "text", "target"),
        Column("sector", "text", "sector; none for `moved` and `crossed`"),
        Column("from_sector", "text", "where `moved` came from"),
        Column("to_sector", "text", "where `moved` went to"),
        Column("line", "text", "the line of `crossed`"),
        Column("direction", "text", "which way; `unknown` where the frames do not show it"),
        Column("started_at", "instant", "when it happened, or began"),
        Column("ended_at", "instant", "its end, where it covers an interval that is over"),
        Column("confirmed_at", "instant", "the frame that settled it; `--since` and `--until` go by this"),
        Column("time_uncertainty_s", "number", "how far its times may be off, either way", "s"),
        Column("track", "text", "the track that it is about"),
        Column("score", "number", "score of the best evidence", "0..1"),
        Column("votes", "words", "each model's vote there: `for`, `against`, `abstain`, `missing`"),
        Column("margin", "number", "how far the rule was from deciding otherwise", "the rule's"),
        Column("provenance.burst_ids", "texts", "the bursts that show it"),
        Column("provenance.frame_sha256", "texts", "SHA-256 of the frames that show it"),
        Column("provenance.ensemble", "text", "digest of the ensemble"),
        Column("provenance.policy", "text", "digest of the policy"),
        Column("provenance.mask_digest", "text", "digest of the agent's mask"),
        Column("late", "flag", "a burst brought it that came after newer ones"),
        Column("withdrawn", "flag", "it no longer holds: do not count it"),
        Column("supersedes", "texts", "ids of events that it replaces"),
        Column("superseded_by.burst_id", "text", "the late burst that disproved it"),
        Column("superseded_by.at", "instant", "the first frame of that burst"),
    ),
)

OBSERVATIONS = Table(
    "observations",
    (
        Column("site", "text", "site"),
        Column("camera", "text", "camera"),
        Column("frame_at", "instant", "the frame's instant"),
        Column("time_uncertainty_s", "number", "how far the camera's clock may be off", "s"),
        Column("burst_id", "text", "the burst"),
        Column("frame", "integer", "place of the frame in its burst, from 0"),
        Column("frame_sha256", "text", "SHA-256 of the frame's bytes"),
        Column("width", "integer", "width of the frame", "pixels"),
        Column("height", "integer", "height of the frame", "pixels"),
        Column("brightness", "number", "mean brightness of the frame", "0..1"),
        Column("model", "text", "the model that was asked"),
        Column("answered", "flag", "false: the model did not answer, which is not the same as seeing nothing"),
        Column("label", "text", "the class that it named; none: it answered, and saw nothing"),
        Column("score", "number", "its score", "0..1"),
        Column("x1", "number", "left edge of the box; no box: the whole view, or `sector`", "0..1"),
        Column("y1", "number", "upper edge of the box", "0..1"),
        Column("x2", "number", "right edge of the box", "0..1"),
        Column("y2", "number", "lower edge of the box", "0..1"),
        Column("sector", "text", "the sector whose part of the frame a classifier judged"),
        Column("ensemble", "text", "digest of the ensemble"),
        Column("policy", "text", "digest of the policy that judged the frame"),
        Column("mask_digest", "text", "digest of the agent's mask"),
    ),
)

OCCUPANCY = Table(
    "occupancy",
    (
        Column("site", "text", "site"),
        Column("camera", "text", "camera"),
        Column("sector", "text", "sector"),
        Column("target", "text", "target"),
        Column("started_at", "instant", "begin of the interval; intervals begin at whole ones of UTC"),
        Column("seconds", "number", "its length; the next four columns add up to it", "s"),
        Column("occupied_s", "number", "how long the target was present", "s"),
        Column("clear_s", "number", "how long it was watched and the target was not present", "s"),
        Column("unobserved_s", "number", "how long nobody can say: no frame told anything, or no policy named it", "s"),
        Column("not_kept_s", "number", "how long the frames are no longer kept", "s"),
    ),
)

TABLES = {table.name: table for table in (EVENTS, OBSERVATIONS, OCCUPANCY)}
