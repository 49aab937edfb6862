"""`sectorwatch models ...`: begin with `models`, which holds the group; each other module is one kind of subcommand."""

from server.commands.models.models import command

__all__ = ["command"]
