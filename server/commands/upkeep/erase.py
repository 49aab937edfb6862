"""`sectorwatch erase`: delete a stretch of a camera for good, on a person's request, and leave a note that it was."""

from __future__ import annotations

import getpass
from collections.abc import Iterator

import click

from server.commands.cameras import find_cameras
from server.commands.options import Instant, current_store, echo_lines, local_of, store_options, stretch
from server.domain.keeping import Erasure
from server.domain.people import COMMAND_LINE
from server.domain.times.local_time import FORMS, LocalTime, When
from server.settings import ServerSettings
from server.store import Store


@click.command()
@click.option("--site", help="The site.")
@click.option("--camera", help="The camera; without it all of the site.")
@click.option("--since", type=Instant(), help=f"Begin of the stretch: {FORMS}. Without a zone: the site's time.")
@click.option("--until", type=Instant(), help="Its end; 18:00 is the first one after --since.")
@click.option("--author", help="Who erases (default: the user's name).")
@click.option("--note", help="Why; the note is kept.")
@click.option("--keep-annotated", is_flag=True, help="Annotated events stay, with the bursts that prove them.")
@click.option("--list", "lists", is_flag=True, help="Show the notes of all erasures instead.")
@store_options
def command(
    site: str | None,
    camera: str | None,
    since: When | None,
    until: When | None,
    author: str | None,
    note: str | None,
    keep_annotated: bool,
    lists: bool,
    settings: ServerSettings,
) -> None:
    """Erase bursts, labels, pictures, events and annotations of a stretch, while the server runs; nothing brings them
    back.

    Whole bursts go: those with a frame in the stretch, and with them each event that began, ended or was confirmed in
    it. Bursts of that time that an agent still holds are refused. What was followed or present at the end of the
    stretch stays known to the camera's state, so that later events stay exact: end it after the person left.

    Pictures of that time are deleted from their place too, and from brokers that channels keep up to date. What
    channels still have to send goes, with their dead letters and what they remember of it. Not reached are backups of
    the database and of the pictures, what channels sent, and what a broker retains of a channel that is paused or away.

    A note stays of who erased what and when: see --list.
    """
    store = current_store(settings)
    if lists:
        echo_lines(_listed(store, site, camera, settings))
        return
    if site is None or since is None or until is None:
        raise click.UsageError("name what to erase: --site, --since and --until, and --camera for one camera alone")
    heads = find_cameras(store, site, camera)
    local = local_of(settings, store, site)
    since_us, until_us = stretch(local, since, until)
    assert since_us is not None, "it was given"
    assert until_us is not None, "it was given"
    for head in heads:
        done = store.retention.erase(
            head.site,
            head.camera,
            since_us,
            until_us,
            author=author or getpass.getuser(),
            note=note,
            keeps_annotated=keep_annotated,
            by=COMMAND_LINE,
        )
        echo_lines(_lines(done, local))


def _listed(store: Store, site: str | None, camera: str | None, settings: ServerSettings) -> Iterator[str]:
    made = [each for each in store.retention.erasures() if site in (None, each.site) and camera in (None, each.camera)]
    if not made:
        yield "Nothing was erased."
    local = local_of(settings, store, site)
    for each in made:
        yield from _lines(each, local)


def _lines(erasure: Erasure, local: LocalTime) -> Iterator[str]:
    stretch_of = f"{local.dated(erasure.since_us)} to {local.dated(erasure.until_us)}"
    counts = f"{erasure.bursts} bursts, {erasure.events} events, {erasure.annotations} annotations"
    counts += f", {erasure.frames} pictures" if erasure.frames else ""
    state = "erased" if erasure.finished_at_us is not None else "not finished; the server goes on"
    stayed = ", annotated events stay" if erasure.keeps_annotated else ""
    why = f": {erasure.note}" if erasure.note else ""
    yield (
        f"{erasure.number}  {erasure.site}/{erasure.camera}  {stretch_of}  {counts} {state}{stayed}, "
        f"by {erasure.author} at {local.dated(erasure.asked_at_us)}{why}"
    )
