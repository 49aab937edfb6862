"""The camera agent: takes timed bursts of stills and sends them, patiently, to the server.

Reading order: `__main__` (the commands), `settings` (what a user may say; `settings_file` reads it, `whereabouts` finds
the line at fault, `hours` and `masks` are two things one may say), `agent` (the story: who runs beside whom, and how it
ends; `state` holds what must be there before), `burst` (the unit of upload), `schedule` and `capture` (live cameras),
`look`, `gate` and `gated` (frames when something moves), `health` (whether a camera can be believed), `playback` and
`cutting` (recordings, as if live), `cameras` (one module per kind), `spool` with `waiting`, `durable` and `refusals`
(bursts that wait), `uplink` (when to send and what an answer means), `post` (one request), `budget` (how much may be
sent), `unreachable` (why nobody answered), `heartbeat` (how each camera is), `timekeeper` and `clock` (what time it is,
and how surely), `status`, `news`, `metrics`, `notify` and `journal` (what others can read), `once`, `doctor` and
`coverage` (what an installer asks), `backoff` and `footprint` (patience, memory). Nothing here imports the server, the
policies or torch: the wire format is the contract.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sectorwatch")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.1.0"
