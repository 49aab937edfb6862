"""Explain the past to a person: a minute of a camera with its decisions, and what an event rests on."""

from server.analysis.explain.explanation import (
    BurstRecord,
    Explanation,
    FrameRecord,
    SectorRecord,
    explain,
)

__all__ = ["BurstRecord", "Explanation", "FrameRecord", "SectorRecord", "explain"]
