"""The camera agent: takes timed bursts of stills and sends them, patiently, to the server.

Reading order: `__main__` (the commands), `settings` (what a user may say; `settings_file` reads it,
`whereabouts` finds the line at fault), `agent` (the story: who runs beside whom, and how it ends), `burst` (the
unit of upload), `schedule` and `capture` (live cameras), `playback` (recordings, as if live), `cameras` (one
module per kind), `spool` with `durable` (bursts waiting on the disk), `uplink` (when to send and what an answer
means), `post` (one request), `once` (one burst, shown), `status` (what it did so far), `clock`, `backoff`,
`journal` and `footprint` (time, patience, log lines, memory). Nothing here imports the server, the policies or
torch: the wire format is the contract.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sectorwatch")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.1.0"
