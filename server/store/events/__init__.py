"""The event log: its rows, its counts, what is announced of it, and how a turn rewrites it."""
