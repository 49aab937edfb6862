"""The database: the only package that knows SQL. Begin with `store`, then `schema`, its data dictionary.

The values that go in and come out are in `server.domain.records`.
"""

from server.store.retention import visit_stretches
from server.store.schema import data_dictionary
from server.store.store import Store, open_store
from server.store.turn import Turn

__all__ = [
    "Store",
    "Turn",
    "data_dictionary",
    "open_store",
    "visit_stretches",
]
