"""The database: the only package that knows SQL. Begin with `store`, then `schema`, its data dictionary.

The values that go in and come out are in `server.domain.records`.
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
