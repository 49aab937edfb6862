"""`sectorwatch explain`: the decisions in one minute of a camera with their reasons, and missing bursts."""

from __future__ import annotations

from collections.abc import Callable

import click
import msgspec

from policies.events import microseconds
from server.analysis.explain import explain
from server.analysis.explain_text import as_lines, as_wire
from server.analysis.gaps import Causes
from server.camera_status.heartbeat import decode_heartbeat
from server.commands.cameras import find_camera
from server.commands.events import dated_lines
from server.commands.options import Instant, current_store, echo_lines, store_options, utc
from server.domain.clock import SECOND_US, now_us
from server.domain.local_time import FORMS, When, site_time
from server.settings import ServerSettings
from server.store import Store

MINUTE_US = 60 * SECOND_US


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
    local = site_time(store, head.site, settings.sites_dir)
    at_us = at.us(local, now_us())
    since_us = at_us - at_us % MINUTE_US
    causes = _heartbeat(store, head.site, head.camera, _utc if as_json else local.dated)
    explanation = explain(store, head.site, head.camera, since_us, since_us + MINUTE_US, causes, now_us())
    if as_json:
        click.echo(msgspec.json.encode(as_wire(explanation)).decode())
    else:
        events = (logged.event for burst in explanation.bursts for logged in burst.events)
        event_line = dated_lines(store, local, events)
        echo_lines(as_lines(explanation, every=every, local=local, event_line=event_line))


def _utc(at_us: int) -> str:
    return utc(at_us, "seconds")


def _heartbeat(store: Store, site: str, camera: str, time_of: Callable[[int], str]) -> Causes:
    """The cause of a gap in the camera's newest heartbeat; older heartbeats are not stored."""
    activities = store.heartbeats.activities(site)
    stored = [each.heartbeat for each in activities if each.camera == camera and each.heartbeat is not None]

    def causes(since_us: int, until_us: int) -> list[str]:
        reasons = []
        for heartbeat in (decode_heartbeat(each.body) for each in stored):
            sent_us, state_us = microseconds(heartbeat.agent.sent_at), microseconds(heartbeat.since)
            if state_us < until_us and sent_us >= since_us:
                why = f" ({heartbeat.cause})" if heartbeat.cause else ""
                sent_at = time_of(sent_us)
                reasons.append(f"the heartbeat of {sent_at} says: {heartbeat.state}{why}")
        return reasons

    return causes
