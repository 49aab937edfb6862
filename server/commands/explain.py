"""`sectorwatch explain`: what was decided in one minute of a camera and why, or which bursts did not come."""

from __future__ import annotations

import difflib
from pathlib import Path

import click
import msgspec

from policies.events import microseconds
from server.analysis.explain import explain
from server.analysis.explain_text import as_lines, as_wire
from server.analysis.gaps import Causes
from server.camera_status.heartbeat import decode_heartbeat
from server.commands.options import Instant, opened_store, store_options
from server.domain.clock import SECOND_US, now_us
from server.domain.errors import Unknown
from server.store import Store

MINUTE_US = 60 * SECOND_US


@click.command()
@click.option("--camera", help="The camera; may be left out where there is one.")
@click.option("--site", help="Its site, where several have a camera of that name.")
@click.option("--at", "at_us", type=Instant(), required=True, help="An instant of the minute: 10m (ago), or ISO 8601.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every vote of every frame.")
@click.option("--every", is_flag=True, help="Show all candidates, also those far from present.")
@store_options
def command(
    camera: str | None,
    site: str | None,
    at_us: int,
    as_json: bool,
    every: bool,
    config: Path | None,
    database: str | None,
    data_dir: Path | None,
) -> None:
    """Explain one minute of a camera.

    For every burst: each model's vote and score per frame, the rule, what was missing, the verdict of each sector, and
    the events. For bursts that were due and did not come: how many, and the known causes.
    """
    store = opened_store(config, database, data_dir)
    since_us = at_us - at_us % MINUTE_US
    site, camera = _camera(store, site, camera)
    causes = _heartbeat(store, site, camera)
    explanation = explain(store, site, camera, since_us, since_us + MINUTE_US, causes, now_us())
    if as_json:
        click.echo(msgspec.json.encode(as_wire(explanation)).decode())
        return
    for line in as_lines(explanation, every=every):
        click.echo(line)


def _heartbeat(store: Store, site: str, camera: str) -> Causes:
    """The cause of a gap in the camera's newest heartbeat; older heartbeats are not stored."""
    activities = [activity for activity in store.heartbeats.activities(site) if activity.camera == camera]
    stored = [activity.heartbeat for activity in activities if activity.heartbeat is not None]

    def causes(since_us: int, until_us: int) -> list[str]:
        reasons = []
        for heartbeat in (decode_heartbeat(each.body) for each in stored):
            sent_us, state_us = microseconds(heartbeat.agent.sent_at), microseconds(heartbeat.since)
            if state_us < until_us and sent_us >= since_us:
                why = f" ({heartbeat.cause})" if heartbeat.cause else ""
                sent_at = f"{heartbeat.agent.sent_at:%Y-%m-%dT%H:%M:%SZ}"
                reasons.append(f"the heartbeat of {sent_at} says: {heartbeat.state}{why}")
        return reasons

    return causes


def _camera(store: Store, site: str | None, camera: str | None) -> tuple[str, str]:
    """The one camera that matches. Raises Unknown where none or several do."""
    stored = store.cameras()
    matching = [c for c in stored if camera in (None, c.camera) and site in (None, c.site)]
    if len(matching) == 1:
        return matching[0].site, matching[0].camera
    known = ", ".join(f"{c.site}/{c.camera}" for c in matching or stored) or "none yet"
    if matching:
        raise Unknown(f"say which camera, with --site and --camera; there are: {known}")
    near = difflib.get_close_matches(camera or "", [c.camera for c in stored], n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"cameras here: {known}"
    meant = "" if site is None else f" of site `{site}`"
    raise Unknown(f"no burst of {f'camera `{camera}`' if camera else 'any camera'}{meant} was ever accepted; {hint}")
