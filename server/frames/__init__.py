"""Pictures of frames that are kept: where their bytes are, and how they get there beside intake.

Which frames are kept, for how long, and who may see them is in the database (`server.store.retention.frames`).
"""

from __future__ import annotations

from server.frames.keeper import FrameKeeper
from server.frames.place import open_place, place_fault
from server.frames.views import media_type, view

__all__ = ["FrameKeeper", "media_type", "open_place", "place_fault", "view"]
