"""Attempts to sign in: after a few failures of a name each next one has to wait longer, and an address has a rate.

Failures of a name are stored, so they count over all servers of a database. A name that no user has is counted alike:
who guesses learns no names. A browser from which the user signed in before has a count of its own, so a stranger who
goes on guessing keeps nobody out of the browser that he uses. Elsewhere a user may have to wait while somebody guesses.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable

from sqlalchemy import Connection, delete, func, insert, select, update

from server.domain.buckets import Buckets
from server.domain.errors import OverQuota
from server.domain.times.clock import SECOND_US
from server.store.schema import attempts

FREE = 5
"""So many wrong passwords in a row cost no wait."""
FIRST_WAIT_S, LONGEST_WAIT_S = 10, 300
"""Each further one doubles the wait."""
FORGOTTEN_US = 86_400 * SECOND_US
_MOST = 10_000
"""Names that are remembered. Those with the fewest failures make room first: a flood of names displaces itself."""

_OF_ADDRESS, _OF_ADDRESS_PER_S = 20, 1 / 15
"""Attempts of an address at once, and then: a household behind one address has enough."""
_NETWORK_BITS = 64
"""Of an IPv6 address, those that a provider gives to one customer."""


class Addresses:
    """How often each address may try, in this process; `clock` in seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._buckets = Buckets(_OF_ADDRESS, _OF_ADDRESS_PER_S, clock)

    def begin(self, address: str) -> None:
        """Count an attempt of an address. Raises OverQuota, and counts nothing, while it has none left."""
        network = _network(address)
        wait_s = math.ceil(self._buckets.wait_s(network))
        if wait_s:
            raise OverQuota(
                f"too many attempts to sign in from your address: wait {wait_s} s, then try again", retry_after_s=wait_s
            )
        self._buckets.take(network, 1)


def begin_attempt(connection: Connection, name: str, now_us: int, device: str = "") -> int:
    """Count an attempt as failed before it is checked, so that many at once are no way around. The count.

    `device`: the number of a browser of this user. Raises OverQuota, and counts nothing, while the name has to wait.
    """
    key = _key(name, device)
    mine = attempts.c.name == key
    row = connection.execute(select(attempts).where(mine)).one_or_none()
    wait_s = 0 if row is None else math.ceil((row.blocked_until_us - now_us) / SECOND_US)
    if 0 < wait_s <= LONGEST_WAIT_S:  # a longer one is of a clock that was ahead
        raise OverQuota(
            f"too many wrong passwords for this name: wait {wait_s} s, then try again", retry_after_s=wait_s
        )
    is_fresh = row is None or row.failed_at_us < now_us - FORGOTTEN_US
    failures = 1 if row is None or is_fresh else row.failures + 1
    values = {"failures": failures, "failed_at_us": now_us, "blocked_until_us": now_us + wait_us(failures)}
    if row is None:
        _make_room(connection)
        connection.execute(insert(attempts), {"name": key, **values})
    else:
        connection.execute(update(attempts).where(mine).values(values))
    return failures


def forget_attempts(connection: Connection, name: str, device: str = "") -> None:
    """After the right password in this browser, or a new one."""
    connection.execute(delete(attempts).where(attempts.c.name == _key(name, device)))


def forget_old_attempts(connection: Connection, now_us: int) -> None:
    """Delete what no longer counts."""
    connection.execute(delete(attempts).where(attempts.c.failed_at_us < now_us - FORGOTTEN_US))


def wait_us(failures: int) -> int:
    """How long a name has to wait after so many failures (us)."""
    if failures < FREE:
        return 0
    return min(FIRST_WAIT_S << min(failures - FREE, 10), LONGEST_WAIT_S) * SECOND_US


def _key(name: str, device: str) -> str:
    return f"{name} {device}" if device else name  # no name has a space


def _make_room(connection: Connection) -> None:
    if connection.execute(select(func.count()).select_from(attempts)).scalar_one() >= _MOST:
        least = select(attempts.c.name).order_by(attempts.c.failures, attempts.c.failed_at_us).limit(1)
        connection.execute(delete(attempts).where(attempts.c.name.in_(least)))


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, _NETWORK_BITS), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)
