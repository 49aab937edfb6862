"""Checks of the servers on the database: each is to serve the same ensemble and to judge by the same site policies,
and one does the upkeep for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from server.commands.doctor.finding import Finding
from server.commands.options import standing_of
from server.domain.fleet import SAME_SITES, Standing, sites_differ, state_of
from server.settings import ServerSettings
from server.store import open_store

OF_REPLAYS, OF_COMMANDS = 8, 5
"""Connections beside those of a server's threads: of its processes that replay, and of commands on all machines."""

_STEPS = {
    "swaps": "look again in a minute: sectorwatch models status",
    "not ready": "give it the models that the others have, or stop it",
    "gone": "start it again, or leave it: nobody waits for it, and a day after its last sign of life it is forgotten",
}


def replicas(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that the servers on the database serve what all are to serve; `database` reports one that is silent."""
    standing = standing_of(settings)
    if standing is None:
        return
    yield from _connections(settings, standing)
    for replica in standing.replicas:
        state, what = state_of(replica, standing)
        if state in ("serves", "starting"):
            yield Finding("ok", "replicas", f"{replica.name} {state}: {what}")
        else:
            level = "fail" if state == "not ready" else "warn"
            yield Finding(level, "replicas", f"{replica.name}: {state}: {what}", _STEPS[state])
    yield from _upkeep(standing)
    yield from _site_policies(standing)


def _connections(settings: ServerSettings, standing: Standing) -> Iterator[Finding]:
    """Checks that PostgreSQL takes as many connections as the live servers may open, with those of this one."""
    with closing(open_store(settings.database_url)) as store:
        room = store.fleet.room()
    if room is None:
        return
    count = len({each.name for each in standing.replicas if each.is_live(standing.now_us)} | {settings.replica})
    wanted = count * (settings.connections + OF_REPLAYS) + OF_COMMANDS
    what = f"PostgreSQL takes {room}; {count} server{'s' * (count > 1)} and commands may open {wanted}"
    if room < wanted:
        more = f"max_connections = {wanted + wanted // 10} in postgresql.conf, or fewer `threads`"
        yield Finding("warn", "connections", what, more)
    else:
        yield Finding("ok", "connections", what)


def _upkeep(standing: Standing) -> Iterator[Finding]:
    keeper = standing.with_upkeep()
    if keeper is not None:
        yield Finding("ok", "replicas", f"{keeper.name} does the upkeep for all")
    elif any(each.is_live(standing.now_us) for each in standing.replicas):
        step = "look again in a minute; then restart the servers, and set their clocks (NTP)"
        yield Finding("warn", "replicas", "no server does the upkeep: nothing is deleted or folded in", step)


def _site_policies(standing: Standing) -> Iterator[Finding]:
    differ = sites_differ(standing)
    if differ is None:
        return
    what = f"servers judge by different site policies: {differ.what}"
    if differ.lasts:
        yield Finding("fail", "replicas", what, SAME_SITES)
    else:
        hint = "if files are just being copied, look again in three minutes"
        yield Finding("warn", "replicas", what, f"{hint}; else {SAME_SITES}")
