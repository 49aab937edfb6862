"""`sectorwatch frames`: which pictures are kept, and those of one event as files."""

from __future__ import annotations

from pathlib import Path

import click

from policies.events import microseconds
from server.commands.options import aligned, current_store, echo_lines, local_of, store_options
from server.commands.verify import event_record
from server.domain.errors import ConfigurationError, Unknown
from server.domain.files.atomic_files import replacing
from server.frames import media_type
from server.settings import ServerSettings
from server.store import visit_stretches

_ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "image/bmp": "bmp"}


@click.group()
def command() -> None:
    """Show which pictures are kept (`keep_frames`), and export those of an event."""


@command.command("list")
@store_options
def list_(settings: ServerSettings) -> None:
    """Show how many pictures of each camera are kept, their bytes, and of which time."""
    store = current_store(settings)
    totals = store.frames.totals()
    local = local_of(settings, store, None)
    rows = [("camera", "keeps", "pictures", "MB", "from", "to")]
    for each in totals:
        which = store.frames.chosen(each.site, settings.keep(each.site).frames).which or ""
        span = (local.dated(each.first_at_us), local.dated(each.last_at_us))
        rows.append((f"{each.site}/{each.camera}", which, str(each.frames), f"{each.bytes / 1e6:.1f}", *span))
    echo_lines(aligned(rows) if totals else ["No picture is kept."])


@command.command()
@store_options
def own(settings: ServerSettings) -> None:
    """Take over the pictures of a database that is no more, where this one is a copy of it (a restored backup).

    While that other database is served, do not: each of two servers would delete what the other keeps.
    """
    store = current_store(settings)
    store.frames.own()
    click.echo(f"{store.name} keeps and deletes the pictures in {store.frames.shelf.name} now.")


@command.command()
@click.argument("event_id")
@click.argument("folder", type=click.Path(path_type=Path))
@store_options
def export(event_id: str, folder: Path, settings: ServerSettings) -> None:
    """Write the kept pictures of an event's visit into FOLDER, and check each against its SHA-256.

    EVENT_ID may be the beginning of its id. The files have the names NUMBER-SHA256; `sha256sum` gives the same digests.
    Exit code 1: one of the frames that the event names is not kept any more.
    """
    store = current_store(settings)
    event = event_record(store, event_id).logged.event
    digests: dict[str, None] = {}
    for first_us, last_us in visit_stretches(microseconds(event.started_at), microseconds(event.confirmed_at)):
        seen = store.observations(event.site, event.camera, first_us, last_us + 1)
        digests |= dict.fromkeys(each.frame_sha256 for each in seen)
    digests |= dict.fromkeys(event.provenance.frame_sha256)
    images = {
        sha256: store.frames.image(sha256) for sha256 in digests if store.frames.fate(sha256, event.site) == "kept"
    }
    found = {sha256: image for sha256, image in images.items() if image is not None}
    if not found:
        raise Unknown(f"no picture of event {event.id} is kept")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number, (sha256, image) in enumerate(found.items(), 1):
            name = f"{number:03}-{sha256}.{_ENDINGS.get(media_type(image), 'bin')}"
            with replacing(folder / name, mode=0o600) as aside:
                aside.write_bytes(image)
    except OSError as error:
        raise ConfigurationError(f"cannot write into {folder}: {error.strerror}") from None
    named = [sha256 for sha256 in event.provenance.frame_sha256 if sha256 not in found]
    click.echo(f"{folder}: {len(found)} of {len(digests)} frames; their bytes have the SHA-256 that is stored")
    for sha256 in named:
        click.echo(f"{sha256}: the event names this frame, and its picture is not kept")
    if named:
        raise SystemExit(1)
