"""`sectorwatch explain`: what was decided in a minute and why, or that nothing came and what was expected."""

from __future__ import annotations

import difflib
from pathlib import Path

import click
import msgspec

from policies.events import microseconds
from server.beat import decode_beat
from server.clock import SECOND_US
from server.commands.options import Instant, opened_store, store_options
from server.errors import Unknown
from server.past.explanation import explained
from server.past.rhythm import Causes
from server.past.wording import as_lines, as_wire
from server.store import Store

MINUTE_US = 60 * SECOND_US


@click.command()
@click.option("--camera", required=True, help="The camera.")
@click.option("--site", help="Its site, where several have a camera of that name.")
@click.option("--at", "at_us", type=Instant(), required=True, help="An instant of the minute: 10m (ago), or ISO 8601.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every vote of every frame.")
@click.option("--every", is_flag=True, help="Show also the candidates that never came near.")
@store_options
def command(
    camera: str,
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
    site = _site(store, site, camera)
    told = explained(store, site, camera, since_us, since_us + MINUTE_US, _heartbeat(store, site, camera))
    if as_json:
        click.echo(msgspec.json.encode(as_wire(told)).decode())
        return
    for line in as_lines(told, every=every):
        click.echo(line)


def _heartbeat(store: Store, site: str, camera: str) -> Causes:
    """What the camera's newest heartbeat says of a silence; of older ones nothing is kept."""
    beats = [pulse.beat for pulse in store.heartbeats.pulses(site) if pulse.camera == camera]

    def causes(since_us: int, until_us: int) -> list[str]:
        said = []
        for beat in (decode_beat(beat.body) for beat in beats if beat is not None):
            sent_us, state_us = microseconds(beat.agent.sent_at), microseconds(beat.since)
            if state_us < until_us and sent_us >= since_us:
                why = f" ({beat.cause})" if beat.cause else ""
                said.append(f"its heartbeat of {beat.agent.sent_at:%Y-%m-%dT%H:%M:%SZ} says: {beat.state}{why}")
        return said

    return causes


def _site(store: Store, site: str | None, camera: str) -> str:
    """The site of the camera. Raises Unknown for a camera that never sent, or one that several sites have."""
    cameras = store.cameras()
    sites = [c.site for c in cameras if c.camera == camera and site in (None, c.site)]
    if len(sites) == 1:
        return sites[0]
    if sites:
        raise Unknown(f"several sites have a camera `{camera}`: say --site {' or --site '.join(sites)}")
    near = difflib.get_close_matches(camera, [c.camera for c in cameras], n=1)
    known = ", ".join(f"{c.site}/{c.camera}" for c in cameras) or "none yet"
    hint = f"did you mean `{near[0]}`?" if near else f"cameras here: {known}"
    raise Unknown(f"no burst of {site or 'any site'}/{camera} was ever accepted; {hint}")
