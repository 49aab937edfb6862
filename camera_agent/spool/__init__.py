"""Bursts that wait for the server, in memory or on disk."""
