"""`sectorwatch models ...`: begin with `models`, which holds the group; the other modules hold its subcommands."""

from server.commands.models.models import command

__all__ = ["command"]
