"""Bursts that wait for the server, in memory or on disk, bounded in bytes.

Begin with `spool.Spool`; `entry` has the file format.
"""
