"""Replays beside serving: a stretch of the past under other policies, in a child process of low priority."""

from __future__ import annotations

from server.replays.job import Job, Replayed, Span
from server.replays.service import Replays

__all__ = ["Job", "Replayed", "Replays", "Span"]
