"""`sectorwatch explain`: the decisions in one minute of a camera with their reasons, and missing bursts."""

from __future__ import annotations

import click
import msgspec

from server.analysis.explain.minute import concluded, explain_minute
from server.analysis.explain.text import as_lines, as_wire
from server.commands.cameras import find_camera
from server.commands.events import dated_lines
from server.commands.options import Instant, current_store, echo_lines, local_of, store_options, utc
from server.domain.times.clock import now_us
from server.domain.times.local_time import FORMS, When
from server.settings import ServerSettings


@click.command()
@click.option("--camera", help="The camera; may be left out if there is only one.")
@click.option("--site", help="Its site, if several sites have a camera of that name.")
@click.option("--at", type=Instant(), required=True, help=f"A time in the minute: {FORMS}.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every vote of every frame.")
@click.option("--every", is_flag=True, help="Show all candidates, also those far from present.")
@store_options
def command(
    camera: str | None,
    site: str | None,
    at: When,
    as_json: bool,
    every: bool,
    settings: ServerSettings,
) -> None:
    """Explain one minute of a camera.

    Begins with one sentence that says what came of it. --at 18:12 is the last time that it was 18:12 in the site's
    local time.

    For every burst: each model's vote and score per frame, the rule, what was missing, the verdict of each sector, and
    the events. For bursts that were due and did not come: how many, and the known causes.
    """
    store = current_store(settings)
    head = find_camera(store, site, camera)
    local = local_of(settings, store, head.site)
    now = now_us()
    explanation = explain_minute(
        store, head.site, head.camera, at.us(local, now), now, _utc if as_json else local.dated
    )
    if as_json:
        click.echo(msgspec.json.encode(as_wire(explanation)).decode())
        return
    conclusion = concluded(store, explanation, local)
    click.echo(conclusion.sentence)
    event_line = dated_lines(store, local, conclusion.shown)
    echo_lines(as_lines(explanation, every=every, local=local, event_line=event_line))


def _utc(at_us: int) -> str:
    return utc(at_us, "seconds")
