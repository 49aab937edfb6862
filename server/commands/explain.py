"""`sectorwatch explain`: the decisions in one minute of a camera with their reasons, and missing bursts."""

from __future__ import annotations

from collections.abc import Callable

import click
import msgspec

from policies.events import Event, microseconds
from policies.site.site_policy import CameraPolicy
from server.analysis.conclusion import conclude, goes_on, of_minute
from server.analysis.explain import Explanation, explain
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
_LOOK_BACK = 100


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
        of_bursts = [logged for burst in explanation.bursts for logged in burst.events]
        begun = store.begun(since_us, since_us + MINUTE_US, head.site, head.camera)
        of_stretch = [logged.event for logged in (*begun, *of_bursts) if not logged.is_withdrawn]
        inside = of_minute(of_stretch, since_us, since_us + MINUTE_US)
        presence = _begun_before(store, explanation)
        shown = [*of_stretch, *(logged.event for logged in of_bursts), *([presence] if presence else [])]
        short = store.past.short_ids([event.id for event in shown])
        event_line = dated_lines(store, local, shown)
        click.echo(conclude(explanation, _policy(store, explanation), inside, presence, local, short))
        echo_lines(as_lines(explanation, every=every, local=local, event_line=event_line))


def _policy(store: Store, explanation: Explanation) -> CameraPolicy | None:
    """The policy that was in force in the last burst."""
    if not explanation.bursts:
        return None
    last = explanation.bursts[-1]
    brightness = store.kept(last.facts.burst_id).observations[0].brightness
    return store.policy(last.facts.policy).camera(last.facts.camera).in_force(last.facts.first_at_us, brightness)


def _begun_before(store: Store, explanation: Explanation) -> Event | None:
    """The begin of a presence that goes on through the minute."""
    wanted = set(goes_on(explanation))
    if not wanted:
        return None
    began = store.begun(
        None,
        explanation.since_us,
        explanation.site,
        explanation.camera,
        "presence_started",
        backwards=True,
        limit=_LOOK_BACK,
    )
    return next((each.event for each in began if (each.event.label, each.event.sector) in wanted), None)


def _utc(at_us: int) -> str:
    return utc(at_us, "seconds")


def _heartbeat(store: Store, site: str, camera: str, time_of: Callable[[int], str]) -> Causes:
    """The cause of a gap in the camera's newest heartbeat; older heartbeats are not stored."""
    stored = store.heartbeats.newest(site, camera)

    def causes(since_us: int, until_us: int) -> list[str]:
        reasons = []
        for heartbeat in [decode_heartbeat(stored.body)] if stored else []:
            sent_us, state_us = microseconds(heartbeat.agent.sent_at), microseconds(heartbeat.since)
            if state_us < until_us and sent_us >= since_us:
                why = f" ({heartbeat.cause})" if heartbeat.cause else ""
                sent_at = time_of(sent_us)
                reasons.append(f"the heartbeat of {sent_at} says: {heartbeat.state}{why}")
        return reasons

    return causes
