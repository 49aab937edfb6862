"""`sectorwatch doctor`: check whether a server with these settings can run here, and name the next step if not.

It changes nothing and does not load torch. Each finding is `ok`, `warn` (the server runs, but worse than it could, or
not yet) or `fail` (the server does not run, or not correctly).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import click

from server.commands.doctor.access import ports, secrets, tls
from server.commands.doctor.channels import channels
from server.commands.doctor.finding import Check, Finding
from server.commands.doctor.fleet import replicas
from server.commands.doctor.machine import clock, cpu, disk, threads
from server.commands.doctor.models import memory, model, proofs
from server.commands.doctor.sites import policies, sites
from server.commands.doctor.stored import agents, database, integrity, pictures, space, times, views, way_back
from server.commands.options import store_options
from server.domain.errors import DatabaseDamaged, SectorwatchError
from server.domain.remembered import recall
from server.settings import ServerSettings


@click.command()
@store_options
def command(settings: ServerSettings) -> None:
    """Check machine, models, sites, database, replicas, agents, views, TLS, secrets, times, disk, channels, ports.

    Exit code 1: a check fails.

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
        step = way_back(settings) if isinstance(error, DatabaseDamaged) else next_step
        yield Finding("fail", check.__name__, error.detail, step)
    except Exception as error:  # noqa: BLE001
        yield Finding("fail", check.__name__, f"{type(error).__name__}: {error}".splitlines()[0], next_step)


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
    replicas: "report this as a bug",
    agents: "report this as a bug",
    views: "report this as a bug",
    tls: "correct tls_cert and tls_key, or make them with `sectorwatch tls init`",
    secrets: "report this as a bug",
    times: "correct `late_within`, or start the database",
    disk: "choose another data_dir",
    space: "correct database_url, or start the database",
    pictures: "correct frames_url",
    channels: "correct the setting `channels`, or start the database",
    clock: "set the clock (NTP)",
    ports: "choose another port",
}
"""The checks in order, each with the next step if it ends with an error."""
