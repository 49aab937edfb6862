"""Sending bursts and heartbeats to the server."""
