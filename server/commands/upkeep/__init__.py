"""Subcommands that care for an installation: its database, certificate and tokens, and what it may keep."""
