"""Placeholder: reading order comes with the modules."""
