"""`sectorwatch doctor`: check whether a server with these settings can run here, and name the next step if not.

It changes nothing and does not load torch. Each finding is `ok`, `warn` (the server runs, but worse than it could, or
not yet) or `fail` (the server does not run, or not correctly).
"""

from __future__ import annotations

import logging
import math
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
from policies.site.toml_errors import suggest
from server.camera_status.agent_version import OLDEST, is_too_old
from server.camera_status.heartbeat import decode_heartbeat
from server.camera_status.time_faults import time_faults
from server.catalogue import ModelCard, cache_dir, locate, read_lock, trust_fault, verify
from server.commands.options import cards_of, store_options, utc
from server.domain.clock import SECOND_US, now_us
from server.domain.errors import SectorwatchError
from server.domain.keeping import FILLED, Space
from server.domain.lateness import read_lateness
from server.domain.precision import check_execution
from server.domain.private_files import holds_password, readable_by_others
from server.domain.records import StoredHeartbeat
from server.domain.remembered import recall
from server.domain.text_files import UnreadableText, read_text, shown
from server.hosting.certificate import IN_CLEAR, USE_TLS, context_of, fingerprint, remarks
from server.hosting.listening import listener
from server.hosting.self_signed import Pair
from server.pipeline.site_policies import Sites
from server.serving.machine import Machine, this_machine
from server.serving.memory_budget import expected_bytes, memory_warning
from server.serving.selection import chosen_models
from server.settings import ServerSettings
from server.store import Store, open_store
from server.web.auth import Authenticator, is_loopback

_MIB = 1024 * 1024
_LEAST_FREE_BYTES = 100 * _MIB
_ENOUGH_FREE_BYTES = 1024 * _MIB
_SOON_S = 30 * 86_400.0
_AHEAD_US = 300 * SECOND_US
_LATELY_US = 30 * 24 * 3600 * SECOND_US
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
        yield Finding("fail", check.__name__, error.detail, next_step)
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
        fact, _, trust_step = trust_fault(card, path).partition(": ")
        if fact:
            yield Finding("warn" if card.trusted is None else "fail", "model", fact, trust_step)


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
            yield Finding("warn", "database", f"{store.name}: no tables yet", "sectorwatch serve makes them")
            return
        if not revision.is_current:
            what = f"{store.name}: schema {revision.present}, this version wants {revision.wanted}"
            yield Finding("fail", "database", what, "sectorwatch db upgrade")
            return
        yield Finding("ok", "database", f"{store.name}: schema {revision.present}")
        newest_us = max((head.changed_at_us for head in store.cameras()), default=0)
        if newest_us > now_us() + _AHEAD_US:
            what = f"it is behind the newest turn in the database ({utc(newest_us)})"
            yield Finding("fail", "clock", what, "set the clock (NTP)")
        if not Authenticator(store).is_guarded() and not is_loopback(settings.host):
            what = f"none: the server will listen on loopback only instead of {settings.host}"
            yield Finding("warn", "tokens", what, "sectorwatch tokens add --site SITE --camera CAMERA")


def agents(settings: ServerSettings) -> Iterator[Finding]:
    """Checks the versions of the agents that sent a heartbeat lately; `database` reports one that cannot be read."""
    lately_us = now_us() - _LATELY_US
    for beat in _heartbeats(settings):
        version = decode_heartbeat(beat.body).agent.version
        if beat.received_at_us >= lately_us and is_too_old(version):
            oldest = ".".join(map(str, OLDEST))
            what = f"camera {beat.camera} of {beat.site}: version {version}, and this server needs {oldest}"
            yield Finding("warn", "agents", what, "upgrade it: sudo deploy/install-agent, in a new checkout there")


def _heartbeats(settings: ServerSettings) -> list[StoredHeartbeat]:
    """The newest heartbeat of each camera; none where the database cannot be read."""
    with suppress(SectorwatchError), closing(open_store(settings.database_url)) as store:
        if store.revision().is_current:
            return [each.heartbeat for each in store.heartbeats.activities() if each.heartbeat is not None]
    return []


def tls(settings: ServerSettings) -> Iterator[Finding]:
    """Checks the certificate and its key, or that nobody needs one."""
    if settings.is_https:
        pair = Pair(*settings.tls_files)
        context_of(pair)
        yield Finding("ok", "tls", f"HTTPS with {pair.certificate}, fingerprint {fingerprint(pair.certificate)}")
        for what, next_step in remarks(pair, datetime.now(UTC)):
            yield Finding("warn", "tls", what, next_step)
    elif is_loopback(settings.host):
        yield Finding("ok", "tls", "none is needed: the server listens on this machine only")
    else:
        yield Finding("warn", "tls", f"none: {IN_CLEAR}", USE_TLS)


def secrets(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that other users of the machine cannot read the data, nor a password in the settings file."""
    places = [settings.data_dir]
    if config := recall(settings.data_dir).config:
        with suppress(UnreadableText):
            places += [Path(config)] if holds_password(read_text(Path(config))) else []
    open_places = [place for place in places if readable_by_others(place)]
    for place in open_places:
        what = "the data" if place == settings.data_dir else "the password in the settings"
        yield Finding("warn", "secrets", f"other users can read {what}: {shown(place)}", f"chmod go= {shown(place)}")
    if not open_places:
        yield Finding("ok", "secrets", f"only their user can read {', '.join(shown(place) for place in places)}")


def times(settings: ServerSettings) -> Iterator[Finding]:
    """Checks the times of each camera's bursts, one finding a camera, and that `late_within` names sites that exist."""
    with _known_sites(settings) as known:
        unknown = sorted(read_lateness(settings.late_within).of_site_us.keys() - {*known.sites(), *known.stored})
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


def space(settings: ServerSettings) -> Iterator[Finding]:
    """Checks how full the disk of the database is, when it will be full, and what is kept."""
    with suppress(SectorwatchError), closing(open_store(settings.database_url)) as store:  # `database` reports it
        if store.revision().is_current:
            yield from _space(settings, store)


def _space(settings: ServerSettings, store: Store) -> Iterator[Finding]:
    room, sites = store.retention.space(), {head.site for head in store.cameras()}
    waiting = [each for each in store.retention.erasures() if each.finished_at_us is None]
    next_step = "lower keep_observations_days, or set max_bytes"
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
    database: "correct database_url, or start the database",
    agents: "report this as a bug",
    tls: "correct tls_cert and tls_key, or make them with `sectorwatch tls init`",
    secrets: "report this as a bug",
    times: "correct `late_within`, or start the database",
    disk: "choose another data_dir",
    space: "correct database_url, or start the database",
    clock: "set the clock (NTP)",
    ports: "choose another port",
}
"""The checks in order, each with the next step if it ends with an error."""
