"""What the server remembers: the only door to SQL.

Reading order: `schema` (the data dictionary), `store` (what one can ask), `turn` (how a camera's state advances),
`log` (how the event log follows), `outbox`, `past` (reading what is stored as it is stored), `annotations`,
`notices`; then `rows`, `engine`, `migrate`, `revival` and `backup` for how. The values that go in and come out are in
`server.domain.records`.
"""

from server.domain.records import Announcement, KeptBurst, LoggedEvent, Recorded, Token
from server.store.schema import data_dictionary
from server.store.store import Store, open_store
from server.store.turn import Turn

__all__ = [
    "Announcement",
    "KeptBurst",
    "LoggedEvent",
    "Recorded",
    "Store",
    "Token",
    "Turn",
    "data_dictionary",
    "open_store",
]
