"""`sectorwatch doctor`: is everything here that a server with these settings needs, and what to do if not.

Nothing is changed, and torch is not loaded. Each finding is `ok`, `warn` (it will serve, but worse than it could, or
not yet) or `fail` (it will not serve, or not rightly).
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from policies.events import instant
from policies.fusion.model_check import misfits
from policies.observation import EnsembleInfo
from server.catalogue import ModelCard, cache_dir, card_named, locate, read_lock, verify
from server.domain.clock import SECOND_US, now_us
from server.domain.errors import SectorwatchError
from server.domain.precision import check_execution
from server.pipeline.site_policies import Sites
from server.serving.machine import Machine, this_machine
from server.serving.memory_budget import expected_bytes, memory_warning
from server.serving.selection import chosen_models
from server.settings import ServerSettings, load_settings
from server.store import open_store
from server.web.auth import Authenticator, is_loopback

_MIB = 1024 * 1024
_BUILT = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock that is right shows less."""

_LEAST_BYTES = 100 * _MIB
_ENOUGH_BYTES = 1024 * _MIB
_AHEAD_US = 300 * SECOND_US


@dataclass(frozen=True, slots=True)
class Finding:
    level: Literal["ok", "warn", "fail"]
    subject: str
    what: str
    todo: str = ""


Check = Callable[[ServerSettings], Iterator[Finding]]


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML) of the server.")
def command(config: Path | None) -> None:
    """Check machine, models, sites, database, disk and ports; exit code 1 if the server would not serve rightly."""
    settings = load_settings(config)
    failed = False
    for subject, check in CHECKS.items():
        for finding in _found(subject, check, settings):
            failed = failed or finding.level == "fail"
            click.echo(f"{finding.level:<5} {finding.subject:<10} {finding.what}")
            if finding.todo:
                click.echo(f"{'':<16} -> {finding.todo}")
    raise SystemExit(1 if failed else 0)


def _found(subject: str, check: Check, settings: ServerSettings) -> Iterator[Finding]:
    try:
        yield from check(settings)
    except SectorwatchError as error:
        yield Finding("fail", subject, error.detail)
    except Exception as error:  # noqa: BLE001  whatever it is, the other checks are still worth doing
        yield Finding("fail", subject, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def processor(settings: ServerSettings, machine: Machine | None = None) -> Iterator[Finding]:
    """The instructions that matter, and whether the threads suit the processors."""
    machine = machine or this_machine()
    if machine.vectors is None:
        yield Finding("warn", "cpu", "this system does not tell its processor's instructions")
    elif not machine.vectors & {"avx2", "asimd"}:
        yield Finding("warn", "cpu", "no AVX2 (nor NEON): torch will be many times slower", "use a newer processor")
    else:
        fast = {"avx512_bf16", "amx_bf16", "bf16"} & machine.vectors
        bf16 = "bf16 pays here" if fast else "bf16 does not pay here"
        yield Finding("ok", "cpu", f"{' '.join(sorted(machine.vectors))} ({bf16})")
    wanted = settings.inference_threads or machine.processors
    if wanted > machine.processors:
        todo = "set inference_threads = 0, or give the server more processors"
        yield Finding("warn", "threads", f"{wanted} inference threads on {machine.processors} processors", todo)
    else:
        yield Finding("ok", "threads", f"{wanted} inference threads on {machine.processors} processors")
    told = os.environ.get("OMP_NUM_THREADS")
    if told is not None and told != "1":
        yield Finding(
            "warn", "threads", f"OMP_NUM_THREADS={told} is set", "unset it: `sectorwatch serve` sets what is best"
        )


def memory(settings: ServerSettings, machine: Machine | None = None) -> Iterator[Finding]:
    """The memory that a server of these settings may need, against what there is and what of it is free."""
    machine = machine or this_machine()
    cards = _cards(settings)
    warning = memory_warning(settings, cards, machine)
    if warning is not None:
        yield Finding("warn", "memory", warning)
        return
    expected, free = expected_bytes(settings, cards, machine), machine.available_bytes
    what = f"up to {expected // _MIB} MiB" + ("" if free is None else f"; {free // _MIB} MiB of the machine are free")
    if free is not None and free < expected:
        yield Finding("warn", "memory", what, "end other programs here, or lower max_pixels and max_body_bytes")
    else:
        yield Finding("ok", "memory", what)


def models(settings: ServerSettings) -> Iterator[Finding]:
    """Whether each model's weights are here, and are the right ones; and whether they are those of the settings."""
    if chosen_models(settings) != settings.models:
        what = f"swapped in since the settings were written: {', '.join(chosen_models(settings))}"
        yield Finding("warn", "model", what, "name them in `models`, or change `models`: the later word counts")
    for card in _cards(settings):
        if card.sha256 is None:
            yield Finding("ok", "model", f"{card.name}: no weights needed")
            continue
        path = locate(card, cache_dir())
        todo = f"sectorwatch models pull {card.name}"
        if path is None:
            yield Finding("fail", "model", f"{card.name}: no weights yet", todo)
            continue
        try:
            verify(card, path)
        except SectorwatchError as error:
            yield Finding("fail", "model", error.detail, todo)
        else:
            yield Finding("ok", "model", f"{card.name}: {path} (sha256 {card.sha256[:12]}…, as its card says)")


def proofs(settings: ServerSettings) -> Iterator[Finding]:
    """Whether this machine can compute as is asked, and what the models are held against at the start is there."""
    check_execution(settings.execution, this_machine().vectors)
    named = {
        "models_dir": (settings.models_dir, "make the folder, or leave models_dir out"),
        "lock": (settings.lock, "sectorwatch models lock"),
        "golden": (settings.golden and settings.golden / "golden.json", "sectorwatch models approve"),
    }
    faults = [
        Finding("fail", "proofs", f"the setting {name}: there is no {place}", todo)
        for name, (place, todo) in named.items()
        if place and not place.exists()
    ]
    if settings.lock is not None and settings.lock.exists():
        faults += _lock_faults(settings, settings.lock)
    yield from faults
    if not faults:
        against = f"the lock {settings.lock}" if settings.lock else "no lock"
        golden = settings.golden or "that of the package"
        yield Finding("ok", "proofs", f"{settings.execution}; {against}; golden set: {golden}")


def _lock_faults(settings: ServerSettings, lock: Path) -> Iterator[Finding]:
    served = chosen_models(settings)
    try:
        read_lock(lock, served)
    except SectorwatchError as error:
        yield Finding("fail", "proofs", error.detail, f"sectorwatch models lock {' '.join(served)}")


def sites(settings: ServerSettings) -> Iterator[Finding]:
    """Whether the site policies can be used."""
    todo = f"put a TOML file per site into {settings.sites_dir}"
    if not settings.sites_dir.is_dir():
        yield Finding("warn", "sites", f"there is no folder {settings.sites_dir}", todo)
        return
    known = Sites(settings.sites_dir)
    for file, fault in known.faults().items():
        yield Finding("fail", "sites", f"{file}: {fault}", "mend the file")
    if known.sites():
        yield Finding("ok", "sites", ", ".join(known.sites()))
    else:
        yield Finding("warn", "sites", "no site policy can be used: every burst is told to come later", todo)


def policies(settings: ServerSettings) -> Iterator[Finding]:
    """Whether the models can do what the site policies ask of them."""
    try:
        ensemble_info = EnsembleInfo("", tuple(card.model_info for card in _cards(settings)))
    except SectorwatchError:  # told by `models`
        return
    known = Sites(settings.sites_dir)
    for site in known.sites():
        for what in misfits(known.policy(site), ensemble_info):
            yield Finding("warn", "policies", f"{site}: {what}", "change the policy, or `models`")


def database(settings: ServerSettings) -> Iterator[Finding]:
    """Whether the database answers and has this version's schema, and who guards the door."""
    store = open_store(settings.database_url)
    try:
        there = store.revision()
        if there.present is None:
            yield Finding("warn", "database", f"{store.name}: no tables yet", "sectorwatch serve makes them")
            return
        if not there.is_current:
            what = f"{store.name}: schema {there.present}, this version wants {there.wanted}"
            yield Finding("fail", "database", what, "sectorwatch db upgrade")
            return
        yield Finding("ok", "database", f"{store.name}: schema {there.present}")
        newest_us = max((head.changed_at_us for head in store.cameras()), default=0)
        if newest_us > now_us() + _AHEAD_US:
            yield Finding(
                "fail", "clock", f"it is behind the newest turn in the database ({instant(newest_us)})", "set the clock"
            )
        if not Authenticator(store).is_guarded() and not is_loopback(settings.host):
            todo = "sectorwatch tokens add --site SITE --camera CAMERA"
            yield Finding("warn", "tokens", f"none: loopback will be used instead of {settings.host}", todo)
    finally:
        store.close()


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def disk(settings: ServerSettings, free_bytes: Callable[[Path], int] = _free_bytes) -> Iterator[Finding]:
    """Whether what the server writes has room: where it has none, every burst is told to come later."""
    folder = settings.data_dir
    while not folder.exists():
        folder = folder.parent
    free = free_bytes(folder)
    what = f"{free // _MIB} MiB free for {settings.data_dir}"
    if free < _ENOUGH_BYTES:
        level: Literal["warn", "fail"] = "fail" if free < _LEAST_BYTES else "warn"
        yield Finding(level, "disk", what, "make room there, or choose another data_dir")
    else:
        yield Finding("ok", "disk", what)


def clock(_settings: ServerSettings) -> Iterator[Finding]:
    """Whether the clock was ever set."""
    now = datetime.now(UTC)
    if now < _BUILT:
        yield Finding(
            "fail", "clock", f"{now:%Y-%m-%dT%H:%M:%SZ} cannot be: bursts would be held", "set the clock (NTP)"
        )
    else:
        yield Finding("ok", "clock", f"{now:%Y-%m-%dT%H:%M:%SZ}")


def ports(settings: ServerSettings) -> Iterator[Finding]:
    """Whether the ports are free."""
    wanted = {"port": (settings.host, settings.port)}
    if settings.admin_port:
        wanted["admin_port"] = (settings.admin_host, settings.admin_port)
    else:
        todo = "set admin_port, so that probes and metrics are answered under any load"
        yield Finding("warn", "ports", "no admin port", todo)
    for name, (host, port) in wanted.items():
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError as error:
            todo = f"a server that runs already? else choose another {name}"
            yield Finding("warn", "ports", f"{host} port {port} ({name}): {error.strerror}", todo)
        else:
            yield Finding("ok", "ports", f"{host} port {port} ({name}) is free")


CHECKS: dict[str, Check] = {
    "cpu": processor,
    "memory": memory,
    "model": models,
    "proofs": proofs,
    "sites": sites,
    "policies": policies,
    "database": database,
    "disk": disk,
    "clock": clock,
    "ports": ports,
}


def _cards(settings: ServerSettings) -> list[ModelCard]:
    folders = [settings.models_dir] if settings.models_dir else []
    return [card_named(name, folders) for name in chosen_models(settings)]
