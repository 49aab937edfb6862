"""Checks of the channels: that each can be made, and that what happened leaves the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress

from policies.events import microseconds
from policies.site.toml_errors import suggest
from server.commands.doctor.finding import Finding
from server.commands.doctor.sites import known_sites
from server.commands.options import store_of, utc
from server.delivery.care import ChannelCare, Standing
from server.delivery.factory import make_channels
from server.delivery.surroundings import Surroundings
from server.domain.errors import ConfigurationError, SectorwatchError
from server.domain.times.clock import SECOND_US, now_us
from server.settings import ServerSettings
from server.store import Store

LONG_PAUSE_S = 24 * 3600.0
LONG_WAIT_S = 300.0
"""An announcement that waits for longer is reported."""


def channels(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that each channel of the settings can be made, is not behind, and has no dead letters."""
    findings = list(_unknown_names(settings))
    standings: list[Standing] = []
    with closing(store_of(settings)) as store:
        findings += _faults(settings, store)
        with suppress(SectorwatchError):  # `database` reports it
            if store.revision().is_current:
                care = ChannelCare(store, settings.channels, lambda: _surroundings(settings, store))
                standings = care.standings()
    findings += [finding for each in standings for finding in _findings(each)]
    yield from findings
    if not findings:
        yield Finding("ok", "channels", ", ".join(["log", *settings.channels]))


def _faults(settings: ServerSettings, store: Store) -> Iterator[Finding]:
    """What keeps a server from starting with the channels: a secret that cannot be read, a package that is missing."""
    surroundings = _surroundings(settings, store) if settings.channels else None
    for name, table in settings.channels.items():
        assert surroundings is not None
        try:
            make_channels({name: table}, surroundings)
        except ConfigurationError as error:
            step = f"mend [channels.{name}] in the settings, or what it names; the server does not start without"
            yield Finding("fail", "channels", f"{name}: {error.detail}", step)


def _surroundings(settings: ServerSettings, store: Store) -> Surroundings:
    from server.app.surroundings import surroundings_alone  # with it comes the whole server

    return surroundings_alone(settings, store)


def _unknown_names(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that the sites and targets that channels choose exist: a misspelled one would silence the channel."""
    with known_sites(settings) as known:
        sites = frozenset([*known.policies.sites(), *known.stored])
        targets = frozenset(target for site in known.policies.sites() for target in known.policies.policy(site).targets)
    for name, table in settings.channels.items():
        for site in table.sites:
            if sites and site not in sites:
                what = f"{name}: it sends events of site `{site}`, which is not known{suggest(site, sites)}"
                yield Finding("warn", "channels", what, f"correct `sites` in [channels.{name}]")
        for target in table.targets:
            if targets and target not in targets:
                what = f"{name}: it sends events of target `{target}`, which no site has{suggest(target, targets)}"
                yield Finding("warn", "channels", what, f"correct `targets` in [channels.{name}]")


def _findings(each: Standing) -> Iterator[Finding]:
    """What is wrong with one channel; one that is not in the settings sends nothing, and is not behind."""
    letters = f"sectorwatch channels list --dead {each.name}"
    if each.dead_letters:
        what = f"{each.name}: {each.dead_letters} announcements could not be delivered"
        step = f"{letters} says why; then sectorwatch channels resend {each.name} --dead, or drop {each.name} --all"
        if each.kind is None:
            step = (
                f"add [channels.{each.name}] to the settings to send them, or sectorwatch channels forget {each.name}"
            )
        yield Finding("warn", "channels", what, step)
    if each.kind is None:
        return
    now = now_us()
    if each.paused_since is not None:
        if each.error or now - microseconds(each.paused_since) > LONG_PAUSE_S * SECOND_US:
            what = (
                f"{each.name}: paused since {utc(microseconds(each.paused_since))}; {each.backlog} announcements wait"
            )
            what += f"; {each.error}" if each.error else ""
            step = f"sectorwatch channels resume {each.name}; with --from-now it passes over what waits"
            yield Finding("warn", "channels", what, step)
    elif each.failing_since is not None:
        what = f"{each.name}: fails since {utc(microseconds(each.failing_since))}: {each.error}"
        step = (
            f"mend the receiver or [channels.{each.name}], then sectorwatch channels resume {each.name} tries at once"
        )
        yield Finding("warn", "channels", what, step)
    elif each.oldest_undelivered_at is not None:
        waited_s = (now - microseconds(each.oldest_undelivered_at)) / SECOND_US
        if waited_s > LONG_WAIT_S:
            what = f"{each.name}: {each.backlog} announcements wait, the oldest for {waited_s / 60:.0f} minutes"
            yield Finding("warn", "channels", what, "start the server; if it runs, look into its log")
