"""`sectorwatch explain`: what was decided in a minute and why, or that nothing came and what was expected."""

from __future__ import annotations

import difflib
from pathlib import Path

import click
import msgspec

from policies.events import microseconds
from server.analysis.explain import explained
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
@click.option("--every", is_flag=True, help="Show also the candidates that never came near.")
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

    For every burst: the votes by model and frame with their scores, the rule, what was missing, the verdict of each
    sector and the events told. Where bursts were expected and did not come: that, and what is known of why.
    """
    store = opened_store(config, database, data_dir)
    since_us = at_us - at_us % MINUTE_US
    site, camera = _camera(store, site, camera)
    causes = _heartbeat(store, site, camera)
    told = explained(store, site, camera, since_us, since_us + MINUTE_US, causes, now_us())
    if as_json:
        click.echo(msgspec.json.encode(as_wire(told)).decode())
        return
    for line in as_lines(told, every=every):
        click.echo(line)


def _heartbeat(store: Store, site: str, camera: str) -> Causes:
    """What the camera's newest heartbeat says of a silence; of older ones nothing is kept."""
    heartbeats = [activity.heartbeat for activity in store.heartbeats.activities(site) if activity.camera == camera]

    def causes(since_us: int, until_us: int) -> list[str]:
        said = []
        for heartbeat in (decode_heartbeat(heartbeat.body) for heartbeat in heartbeats if heartbeat is not None):
            sent_us, state_us = microseconds(heartbeat.agent.sent_at), microseconds(heartbeat.since)
            if state_us < until_us and sent_us >= since_us:
                why = f" ({heartbeat.cause})" if heartbeat.cause else ""
                said.append(
                    f"its heartbeat of {heartbeat.agent.sent_at:%Y-%m-%dT%H:%M:%SZ} says: {heartbeat.state}{why}"
                )
        return said

    return causes


def _camera(store: Store, site: str | None, camera: str | None) -> tuple[str, str]:
    """Site and camera that were meant. Raises Unknown for a camera that never sent, or where several may be meant."""
    there = store.cameras()
    found = [c for c in there if camera in (None, c.camera) and site in (None, c.site)]
    if len(found) == 1:
        return found[0].site, found[0].camera
    known = ", ".join(f"{c.site}/{c.camera}" for c in found or there) or "none yet"
    if found:
        raise Unknown(f"say which camera, with --site and --camera; there are: {known}")
    near = difflib.get_close_matches(camera or "", [c.camera for c in there], n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"cameras here: {known}"
    meant = "" if site is None else f" of site `{site}`"
    raise Unknown(f"no burst of {f'camera `{camera}`' if camera else 'any camera'}{meant} was ever accepted; {hint}")
