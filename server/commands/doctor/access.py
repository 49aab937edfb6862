"""Checks of who can reach the server and its data: certificate, secrets and ports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from server.commands.doctor.finding import Finding
from server.domain.errors import SectorwatchError
from server.domain.files.private_files import holds_password, readable_by_others
from server.domain.files.text_files import UnreadableText, read_text, shown
from server.domain.remembered import recall
from server.hosting.certificate import IN_CLEAR, USE_TLS, context_of, fingerprint, remarks
from server.hosting.listening import listener
from server.hosting.self_signed import Pair
from server.settings import ServerSettings
from server.web.auth import is_loopback


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
