"""The page Tune: today's policy of a place beside a changed one, replayed while a control is moved."""

from __future__ import annotations

from server.console.tuning.routes import TWINS, add

__all__ = ["TWINS", "add"]
