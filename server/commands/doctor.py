"""`sectorwatch doctor`: check whether a server with these settings can run here, and name the next step if not.

It changes nothing and does not load torch. Each finding is `ok`, `warn` (the server runs, but worse than it could, or
not yet) or `fail` (the server does not run, or not correctly).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import click

from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from server.catalogue import ModelCard, cache_dir, locate, read_lock, verify
from server.commands.options import cards_of, store_options, utc
from server.domain.clock import SECOND_US, now_us
from server.domain.errors import DatabaseDamaged, SectorwatchError
from server.domain.precision import check_execution
from server.domain.remembered import recall
from server.domain.text_files import shown
from server.hosting.listening import listener
from server.pipeline.site_policies import Sites
from server.serving.machine import Machine, this_machine
from server.serving.memory_budget import expected_bytes, memory_warning
from server.serving.selection import chosen_models
from server.settings import ServerSettings
from server.store import open_store
from server.web.auth import Authenticator, is_loopback

_MIB = 1024 * 1024
_LEAST_FREE_BYTES = 100 * _MIB
_ENOUGH_FREE_BYTES = 1024 * _MIB
_OR_RESTORE = "; if it held something, sectorwatch db restore FILE puts a backup in its place"
INTEGRITY_S = 60.0
"""Longest check of the database's file."""
_AHEAD_US = 300 * SECOND_US
_BUILT_AT = datetime(2026, 11, 1, tzinfo=UTC)
"""A clock that shows an earlier instant is wrong."""


class Finding(NamedTuple):
    """What a check found about `subject`, and the next step; the step is empty only if the level is `ok`."""

    level: str
    subject: str
    what: str
    next_step: str = ""


@click.command()
@store_options
def command(settings: ServerSettings) -> None:
    """Check machine, models, sites, database, disk and ports. The exit code is 1 if a check fails.

    Checks the server of the data folder as it was started last, with what options, file and environment change.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # the findings say what the log would
    is_known = bool(recall(settings.data_dir).settings)
    state = "as it was started last" if is_known else "in which none was started yet"
    click.echo(f"Checks the server with the data folder {settings.data_dir}, {state}.", err=True)
    levels = set()
    for finding in (each for check, next_step in CHECKS.items() for each in _findings(check, next_step, settings)):
        levels.add(finding.level)
        click.echo(f"{finding.level:<5} {finding.subject:<10} {finding.what}")
        if finding.next_step:
            click.echo(f"{'':<16} -> {finding.next_step}")
    raise SystemExit(1 if "fail" in levels else 0)


def _findings(check: Check, next_step: str, settings: ServerSettings) -> Iterator[Finding]:
    """The findings of a check. An error is a finding too, so that the other checks still run."""
    try:
        yield from check(settings)
    except SectorwatchError as error:
        step = _way_back(settings) if isinstance(error, DatabaseDamaged) else next_step
        yield Finding("fail", check.__name__, error.detail, step)
    except Exception as error:  # noqa: BLE001
        yield Finding("fail", check.__name__, f"{type(error).__name__}: {error}".splitlines()[0], next_step)


def cpu(_settings: ServerSettings, machine: Machine | None = None) -> Iterator[Finding]:
    vectors = (machine or this_machine()).vectors
    if vectors is None:
        yield Finding("warn", "cpu", "this system does not show the processor's instructions", "check for AVX2 or NEON")
    elif not vectors & {"avx2", "asimd"}:
        yield Finding("warn", "cpu", "no AVX2 (nor NEON): torch will be many times slower", "use a newer processor")
    else:
        bf16 = "faster" if {"avx512_bf16", "amx_bf16", "bf16"} & vectors else "not faster"
        yield Finding("ok", "cpu", f"{' '.join(sorted(vectors))} (bf16 is {bf16} here)")


def threads(settings: ServerSettings) -> Iterator[Finding]:
    processors = this_machine().processors
    wanted = settings.inference_threads or processors
    what = f"{wanted} inference threads on {processors} processors"
    if wanted > processors:
        yield Finding("warn", "threads", what, "set inference_threads = 0, or give the server more processors")
    else:
        yield Finding("ok", "threads", what)
    if os.environ.get("OMP_NUM_THREADS", "1") != "1":
        what = f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} is set"
        yield Finding("warn", "threads", what, "unset it: `sectorwatch serve` sets the best value")


def memory(settings: ServerSettings, machine: Machine | None = None) -> Iterator[Finding]:
    """Compares the memory that the server may need with the machine's memory, and with what is free of it."""
    machine = machine or this_machine()
    cards = _known_cards(settings)
    expected, free = expected_bytes(settings, cards, machine), machine.available_bytes
    what = f"up to {expected // _MIB} MiB" + ("" if free is None else f"; {free // _MIB} MiB of the machine are free")
    if warning := memory_warning(settings, cards, machine):
        fact, _, next_step = warning.partition(": ")
        yield Finding("warn", "memory", fact, next_step)
    elif free is not None and free < expected:
        yield Finding("warn", "memory", what, "end other programs here, or lower max_pixels and max_body_bytes")
    else:
        yield Finding("ok", "memory", what)


def model(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that each model's weights are here and match its card."""
    names = chosen_models(settings)
    if names != settings.models:
        what = f"swapped in since the settings were written: {', '.join(names)}"
        yield Finding("warn", "model", what, "name them in `models`; another change of `models` overrides the swap")
    for card in cards_of(settings, names):
        next_step = f"sectorwatch models pull {card.name}"
        path = locate(card, cache_dir()) if card.sha256 else None
        if card.sha256 is None:
            yield Finding("ok", "model", f"{card.name}: no weights needed")
        elif path is None:
            yield Finding("fail", "model", f"{card.name}: no weights yet", next_step)
        else:
            try:
                verify(card, path)
                yield Finding("ok", "model", f"{card.name}: {path} (sha256 {card.sha256[:12]}…, as its card says)")
            except SectorwatchError as error:
                yield Finding("fail", "model", error.detail, next_step)


def proofs(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that the processor supports `execution`, and that the lock and the golden set exist."""
    check_execution(settings.execution, this_machine().vectors)
    names = chosen_models(settings)
    lock_step = f"sectorwatch models lock {' '.join(names)}"
    named = {
        "models_dir": (settings.models_dir, "make the folder, or leave models_dir out"),
        "lock": (settings.lock, lock_step),
        "golden": (settings.golden and settings.golden / "golden.json", "sectorwatch models approve"),
    }
    missing = {name: place for name, (place, _) in named.items() if place and not place.exists()}
    for name, place in missing.items():
        yield Finding("fail", "proofs", f"the setting {name}: there is no {place}", named[name][1])
    if settings.lock and "lock" not in missing:
        try:
            read_lock(settings.lock, names)
        except SectorwatchError as error:
            yield Finding("fail", "proofs", error.detail, lock_step)
            return
    if not missing:
        lock = f"the lock {settings.lock}" if settings.lock else "no lock"
        golden = settings.golden or "that of the package"
        yield Finding("ok", "proofs", f"{settings.execution}; {lock}; golden set: {golden}")


def sites(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that there are site policies, and that each is valid."""
    next_step = f"put a TOML file per site into {settings.sites_dir}"
    if not settings.sites_dir.is_dir():
        yield Finding("warn", "sites", f"there is no folder {settings.sites_dir}", next_step)
        return
    with _known_sites(settings) as known:
        in_folder = known.sites()
        stored = known.stored - set(in_folder) if known.faults() else set()
        recalled = [site for site in sorted(stored) if known.standing(site).policy]
        for file, fault in known.faults().items():
            yield Finding("fail", "sites", f"{shown(file)}: {fault}", "mend the file")
        for file, why in known.passed_over().items():
            yield Finding("warn", "sites", f"{shown(file)} is passed over: {why}", "move it out of the folder")
    for site in recalled:
        yield Finding("warn", "sites", f"{site}: its last good policy is in force", "mend its file")
    if in_folder:
        yield Finding("ok", "sites", f"{', '.join(in_folder)} (in {settings.sites_dir})")
    elif not recalled:
        yield Finding("warn", "sites", "no site policy can be used: the server answers every burst with 503", next_step)


def policies(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that the models can do what the site policies in force ask of them."""
    ensemble_info = EnsembleInfo("", tuple(card.model_info for card in _known_cards(settings)))
    with _known_sites(settings) as known:
        for site in known.sites() if ensemble_info.models else ():
            for what in misfits(known.policy(site), ensemble_info):
                yield Finding("warn", "policies", f"{site}: {what}", "change the policy, or `models`")


class _KnownSites(Sites):
    """The site policies in force, and the sites of which the database holds bursts."""

    stored: frozenset[str] = frozenset()


@contextmanager
def _known_sites(settings: ServerSettings) -> Iterator[_KnownSites]:
    """The site policies as the server sees them; without the past where the database cannot be read."""
    try:
        store = open_store(settings.database_url)
    except SectorwatchError:
        yield _KnownSites(settings.sites_dir)
        return
    with closing(store):
        known = _KnownSites(settings.sites_dir)
        with suppress(SectorwatchError):
            if store.revision().is_current:
                known = _KnownSites(settings.sites_dir, store.past.last_text)
                known.stored = frozenset(head.site for head in store.cameras())
        yield known


def _known_cards(settings: ServerSettings) -> list[ModelCard]:
    """The cards of the models; none if a model is unknown, which `model` reports."""
    try:
        return cards_of(settings, chosen_models(settings))
    except SectorwatchError:
        return []


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
        newest_us = max((head.changed_at_us for head in store.cameras()), default=0)
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
            yield Finding("fail", "integrity", f"the database is damaged: {found.faults[0]}{more}", _way_back(settings))
            return
        yield Finding("ok", "integrity", f"{found.checked}: ok")
        if not revision.is_current:
            return
        for (site, camera), instants in store.unreadable().items():
            what = f"{site}/{camera}: {len(instants)} saved states cannot be read; the past is not affected"
            yield Finding(
                "warn", "integrity", what, "its next burst makes them anew, and so does sectorwatch db upgrade"
            )


def _way_back(settings: ServerSettings) -> str:
    """How to go on with a damaged SQLite database."""
    recovered = settings.data_dir / "recovered.sqlite"
    return (
        "stop the server, then restore a backup (sectorwatch db restore FILE), or save what can be read: "
        f"sectorwatch db recover {recovered} && sectorwatch db restore {recovered}. Where the program sqlite3 can "
        f"(Debian 12's cannot), sqlite3 OLD .recover | sqlite3 {recovered} saves a little more"
    )


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def disk(settings: ServerSettings, free_bytes: Callable[[Path], int] = _free_bytes) -> Iterator[Finding]:
    """Checks the free space: on a full disk the server answers every burst with 503."""
    folder = next(each for each in (settings.data_dir, *settings.data_dir.parents) if each.exists())
    free = free_bytes(folder)
    what = f"{free // _MIB} MiB free for {settings.data_dir}"
    if free >= _ENOUGH_FREE_BYTES:
        yield Finding("ok", "disk", what)
    else:
        level = "fail" if free < _LEAST_FREE_BYTES else "warn"
        yield Finding(level, "disk", what, "make room there, or choose another data_dir")


def clock(_settings: ServerSettings) -> Iterator[Finding]:
    now = datetime.now(UTC)
    if now < _BUILT_AT:
        what = f"{now:%Y-%m-%dT%H:%M:%SZ} is in the past, so the server would hold bursts back"
        yield Finding("fail", "clock", what, "set the clock (NTP)")
    else:
        yield Finding("ok", "clock", f"{now:%Y-%m-%dT%H:%M:%SZ}")


def ports(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that the ports are free. A port in use is only a warning, since the server may be running."""
    wanted = [("port", settings.host, settings.port), ("admin_port", settings.admin_host, settings.admin_port)]
    if not settings.admin_port:
        next_step = "set admin_port, so that probes and metrics are answered under any load"
        yield Finding("warn", "ports", "no admin port", next_step)
    for name, host, port in wanted if settings.admin_port else wanted[:1]:
        try:
            listener(host, port, name).close()
            yield Finding("ok", "ports", f"{host} port {port} ({name}) is free")
        except SectorwatchError as error:
            what, _, _ = error.detail.partition(";")
            yield Finding("warn", "ports", what, f"if no server is meant to run there, choose another {name}")


Check = Callable[[ServerSettings], Iterator[Finding]]

CHECKS: dict[Check, str] = {
    cpu: "report this as a bug",
    threads: "report this as a bug",
    memory: "correct the setting `models`",
    model: "correct the setting `models`",
    proofs: "change the setting named here",
    sites: "mend the site policies",
    policies: "mend the site policies",
    database: "correct database_url, start the database, or restore a backup: sectorwatch db restore FILE",
    integrity: "correct database_url, or start the database",
    disk: "choose another data_dir",
    clock: "set the clock (NTP)",
    ports: "choose another port",
}
"""The checks in order, each with the next step if it ends with an error."""
