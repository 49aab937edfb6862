"""Camtrap DP 1.0.2 (https://camtrap-dp.tdwg.org), the exchange format of camera traps: a folder with three tables, the
kept pictures, and `datapackage.json`, which describes them.
"""

from __future__ import annotations

from server.analysis.exports.camtrap.kinds import OBSERVATION_TYPES
from server.analysis.exports.camtrap.package import Asked, Written, write_package

__all__ = ["OBSERVATION_TYPES", "Asked", "Written", "write_package"]
