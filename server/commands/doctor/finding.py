"""What a check of `sectorwatch doctor` finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from server.settings import ServerSettings


class Finding(NamedTuple):
    """What a check found about `subject`, and the next step; the step is empty only if the level is `ok`."""

    level: str
    subject: str
    what: str
    next_step: str = ""


Check = Callable[[ServerSettings], Iterator[Finding]]
