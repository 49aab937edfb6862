"""`sectorwatch export`: `export` holds the command, `package` the options and writing of Camtrap DP packages."""

from server.commands.upkeep.export.export import command

__all__ = ["command"]
