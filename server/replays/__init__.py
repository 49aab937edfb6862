"""Replays beside serving: a stretch of the past under other policies, in child processes of low priority."""

from __future__ import annotations

from server.replays.hours import Hour, HourByHour, Hours, Tried, hours_of
from server.replays.job import Job, Replayed, Span
from server.replays.service import Replays

__all__ = ["Hour", "HourByHour", "Hours", "Job", "Replayed", "Replays", "Span", "Tried", "hours_of"]
