"""Checks of the database: schema, integrity, the agents that it knows, and its room."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, suppress

from policies.fold import decode_state
from policies.occupancy import TURNED, turned_since
from policies.site.toml_errors import suggest
from server.camera_status.agent_version import OLDEST, is_too_old
from server.camera_status.heartbeat import decode_heartbeat
from server.camera_status.time_faults import time_faults
from server.commands.doctor.finding import Finding
from server.commands.doctor.sites import known_sites
from server.commands.options import store_of, utc
from server.domain.errors import ConfigurationError, DatabaseDamaged, SectorwatchError
from server.domain.keeping import FILLED, Space
from server.domain.records import StoredHeartbeat
from server.domain.times.clock import SECOND_US, now_us
from server.domain.times.lateness import read_lateness
from server.frames import place_fault
from server.settings import ServerSettings
from server.store import Store, open_store
from server.web.auth import Authenticator, is_loopback

_MIB = 1024 * 1024
_SOON_S = 30 * 86_400.0
_OR_RESTORE = "; if it held something, sectorwatch db restore FILE puts a backup in its place"
INTEGRITY_S = 60.0
"""Longest check of the database's file."""
_AHEAD_US = 300 * SECOND_US
_LATELY_US = 30 * 24 * 3600 * SECOND_US


def database(settings: ServerSettings) -> Iterator[Finding]:
    """Checks the schema, the newest instant, and that tokens guard an address that others can reach."""
    with closing(open_store(settings.database_url)) as store:
        revision = store.revision()
        if revision.present is None:
            what = f"{store.name}: {'the file is empty' if revision.is_empty_file else 'no tables yet'}"
            yield Finding(
                "warn", "database", what, f"sectorwatch serve makes the tables{_OR_RESTORE * revision.is_empty_file}"
            )
            return
        if not revision.is_current:
            what = f"{store.name}: schema {revision.present}, this version wants {revision.wanted}"
            yield Finding("fail", "database", what, "sectorwatch db upgrade")
            return
        yield Finding("ok", "database", f"{store.name}: schema {revision.present}")
        if (fault := store.write_fault()) is not None:
            yield Finding("warn", "database", f"it can only be read: {fault}", "let the server's user own its files")
        try:
            newest_us = max((head.changed_at_us for head in store.cameras()), default=0)
        except DatabaseDamaged:
            found = store.integrity(INTEGRITY_S)
            if found is None or not found.faults:
                raise
            return  # `integrity` names it
        if newest_us > now_us() + _AHEAD_US:
            what = f"it is behind the newest turn in the database ({utc(newest_us)})"
            yield Finding("fail", "clock", what, "set the clock (NTP)")
        if not Authenticator(store).is_guarded() and not is_loopback(settings.host):
            what = f"none: the server will listen on loopback only instead of {settings.host}"
            yield Finding("warn", "tokens", what, "sectorwatch tokens add --site SITE --camera CAMERA")


def integrity(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that the file of a SQLite database is whole, and that derived data in it can be read."""
    with closing(open_store(settings.database_url)) as store:
        try:
            revision = store.revision()
        except SectorwatchError:  # `database` names it
            return
        found = None if revision.present is None else store.integrity(INTEGRITY_S)
        if found is None:
            return
        if found.faults:
            more = f", and {len(found.faults) - 1} more" if len(found.faults) > 1 else ""
            yield Finding("fail", "integrity", f"the database is damaged: {found.faults[0]}{more}", way_back(settings))
            return
        yield Finding("ok", "integrity", f"{found.checked}: ok")
        if not revision.is_current:
            return
        for (site, camera), instants in store.unreadable().items():
            what = f"{site}/{camera}: {len(instants)} saved states cannot be read; the past is not affected"
            yield Finding(
                "warn", "integrity", what, "its next burst makes them anew, and so does sectorwatch db upgrade"
            )


def way_back(settings: ServerSettings) -> str:
    """How to go on with a damaged SQLite database."""
    recovered = settings.data_dir / "recovered.sqlite"
    return (
        "stop the server, then restore a backup (sectorwatch db restore FILE), or save what can be read: "
        f"sectorwatch db recover {recovered} && sectorwatch db restore {recovered}. Where the program sqlite3 can "
        f"(Debian 12's cannot), sqlite3 OLD .recover | sqlite3 {recovered} saves a little more"
    )


def agents(settings: ServerSettings) -> Iterator[Finding]:
    """Checks the versions of the agents that sent a heartbeat lately; `database` reports one that cannot be read."""
    lately_us = now_us() - _LATELY_US
    for beat in _heartbeats(settings):
        version = decode_heartbeat(beat.body).agent.version
        if beat.received_at_us >= lately_us and is_too_old(version):
            oldest = ".".join(map(str, OLDEST))
            what = f"camera {beat.camera} of {beat.site}: version {version}, and this server needs {oldest}"
            yield Finding("warn", "agents", what, "upgrade it: sudo deploy/install-agent, in a new checkout there")


def views(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that no camera was turned or moved since its owner looked; `database` reports one that cannot be read."""
    with suppress(SectorwatchError), closing(open_store(settings.database_url)) as store:
        for head in store.cameras() if store.revision().is_current else ():
            turned_us = None if head.state is None else turned_since(decode_state(head.state))
            if turned_us is not None:
                what = f"camera {head.camera} of {head.site}: {TURNED} at {utc(turned_us)}, its sectors are unobserved"
                step = f"look what it shows, then give the instant as looked_at under [cameras.{head.camera}]"
                yield Finding("warn", "views", what, step)


def _heartbeats(settings: ServerSettings) -> list[StoredHeartbeat]:
    """The newest heartbeat of each camera; none where the database cannot be read."""
    with suppress(SectorwatchError), closing(open_store(settings.database_url)) as store:
        if store.revision().is_current:
            return [each.heartbeat for each in store.heartbeats.activities() if each.heartbeat is not None]
    return []


def space(settings: ServerSettings) -> Iterator[Finding]:
    """Checks how full the disk of the database is, when it will be full, and what is kept."""
    with suppress(SectorwatchError), closing(store_of(settings)) as store:  # `database` reports it
        if store.revision().is_current:
            yield from _space(settings, store)


def _space(settings: ServerSettings, store: Store) -> Iterator[Finding]:
    room, sites = store.retention.space(), {head.site for head in store.cameras()}
    waiting = [each for each in store.retention.erasures() if each.finished_at_us is None]
    next_step = "lower keep_observations_days or keep_frames_bytes, or set max_bytes"
    level = "warn" if (room.filled or 0.0) >= FILLED or (room.full_in_s or math.inf) < _SOON_S else "ok"
    yield Finding(level, "space", _forecast(room), next_step if level == "warn" else "")
    if not room.gives_back and room.reusable_bytes > room.used_bytes:
        what = f"{room.reusable_bytes // _MIB} MiB of the database's file are free, and it does not shrink"
        yield Finding("warn", "space", what, "sectorwatch db compact")
    for site in settings.retention:
        if sites and site not in sites:
            what = f"the setting retention.{site}: the database has no site `{site}`{suggest(site, frozenset(sites))}"
            yield Finding("warn", "space", what, "correct the name, if no camera of it is to come")
    for each in waiting:
        what = f"erasure {each.number} of {each.site}/{each.camera} is not finished"
        yield Finding("warn", "space", what, "start the server: it goes on with it")


def _forecast(room: Space) -> str:
    """How much the database takes, and when the disk is full."""
    what = f"the database takes {room.used_bytes / _MIB:.0f} MiB"
    what += f", pictures {room.frames_bytes / _MIB:.0f} MiB" if room.frames_bytes else ""
    if room.grows_bytes_a_day is not None:
        what += f" and grows by {room.grows_bytes_a_day / _MIB:.1f} MiB a day"
    if room.filled is None:
        return f"{what}; the disk is that of the database's machine, and not known here"
    what += f"; its disk is {room.filled:.0%} full"
    if room.full_in_s is None:
        return f"{what}; when it will be full is not known yet (the server notes the growth for an hour)"
    if math.isinf(room.full_in_s):
        return f"{what}; it does not fill up"
    return f"{what}, and will be full in about {room.full_in_s / 86_400:.0f} days at this rate"


def pictures(settings: ServerSettings) -> Iterator[Finding]:
    """Checks how much pictures take, that their place takes more, and names the sites that keep none for their age."""
    with suppress(SectorwatchError), closing(store_of(settings)) as store:  # `database` reports it
        if store.revision().is_current:
            yield from _pictures(settings, store)


def _pictures(settings: ServerSettings, store: Store) -> Iterator[Finding]:
    totals, shelf = store.frames.totals(), store.frames.shelf
    size = sum(each.bytes for each in totals)
    what = f"{sum(each.frames for each in totals)} pictures are kept, {size / _MIB:.0f} MiB in {shelf.name}"
    fault = place_fault(shelf) if settings.data_dir.is_dir() else None
    if fault is None:
        yield Finding("ok", "pictures", what)
    else:
        yield Finding(
            "warn", "pictures", f"{what}; none is kept now: {fault}", "make room there, or correct frames_url"
        )
    yield from _owners(store)
    for site in sorted(store.frames.older_sites()):
        if settings.keep(site).frames.which is None:
            todo = f'set keep_frames = "events" in [retention.{site}], or "none" to leave it so'
            yield Finding("warn", "pictures", f"site {site} is older than kept pictures: none of its is kept", todo)


def _owners(store: Store) -> Iterator[Finding]:
    """Checks whose pictures are in the place of pictures."""
    try:
        store.frames.check_owner()
        for folder in store.frames.abandoned():
            what = f"{folder} holds pictures of this database under a number that it has lost; nothing deletes them"
            yield Finding("warn", "pictures", what, "remove that folder")
    except ConfigurationError as error:
        yield Finding("warn", "pictures", error.detail, "set another frames_url, or run sectorwatch frames own")
    except OSError:  # `place_fault` names it
        return


def times(settings: ServerSettings) -> Iterator[Finding]:
    """Checks the times of each camera's bursts, one finding a camera, and that `late_within` names sites that exist."""
    with known_sites(settings) as known:
        unknown = sorted(
            read_lateness(settings.late_within).of_site_us.keys() - {*known.policies.sites(), *known.stored}
        )
    if unknown:
        what = f"`late_within` names sites without a policy: {', '.join(unknown)}"
        yield Finding("warn", "times", what, "correct the name in the setting")
    try:
        with closing(open_store(settings.database_url)) as store:
            if not store.revision().is_current:
                return
            faults = time_faults(store.marked(), store.heartbeats.activities(), now_us())
    except SectorwatchError:  # `database` says what is wrong
        return
    for fault in faults:
        yield Finding("warn", "times", f"{fault.site}/{fault.camera}: {fault.what}", fault.next_step)
    if not faults and not unknown:
        yield Finding("ok", "times", f"no burst comes too late (late_within = {settings.late_within})")
