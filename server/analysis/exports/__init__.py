"""The past as files for other programs: tables of events, observations and occupancy, and Camtrap DP packages.

A table is an iterator of rows; a form makes pieces of bytes of them as they come, so that memory stays flat however
long the past is. The command and the API write the same pieces.
"""

from __future__ import annotations

from server.analysis.exports.event_rows import event_row
from server.analysis.exports.forms import FORMS, MEDIA_TYPES, Form, fault_of, pieces
from server.analysis.exports.tables import EVENTS, OBSERVATIONS, OCCUPANCY, TABLES, Row, Table

__all__ = [
    "EVENTS",
    "FORMS",
    "MEDIA_TYPES",
    "OBSERVATIONS",
    "OCCUPANCY",
    "TABLES",
    "Form",
    "Row",
    "Table",
    "event_row",
    "fault_of",
    "pieces",
]
