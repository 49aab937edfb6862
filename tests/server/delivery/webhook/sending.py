"""A server process in small: `python -m tests.server.delivery.webhook.sending DATABASE_URL URL NOW_US` delivers all."""

from __future__ import annotations

import sys

from server.delivery.dispatcher import Dispatcher
from server.store import open_store
from tests.server.delivery.webhook.parts import channel, drained
from tests.stand_ins import ManualClock

if __name__ == "__main__":
    clock = ManualClock(int(sys.argv[3]))
    drained(Dispatcher(open_store(sys.argv[1], clock), [channel(sys.argv[2], clock)]))
