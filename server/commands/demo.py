"""`sectorwatch demo`: the main job from camera to events, on footage or a camera, with what it came to."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from policies.site.site_policy import parse_site_policy
from server.commands.folding import read_policy
from server.commands.local_stack import Agent, Rehearsal
from server.delivery.channels import text_line
from server.domain.errors import ConfigurationError
from server.store import Store, open_store

_LOOK_EVERY_S = 0.3
_PLAIN = 'site = "demo"\n'


@click.command()
@click.option("--footage", type=click.Path(path_type=Path), help="Play this video as if it were live.")
@click.option(
    "--camera", "source", metavar="SOURCE", help="A camera instead: 0, rtsp://..., or http://.../snapshot.jpg."
)
@click.option("--site-file", type=click.Path(path_type=Path), help="Site policy; its first camera is used.")
@click.option("--rate", default=2.0, show_default=True, type=click.FloatRange(0.1, 30), help="Frames per second.")
@click.option("--speed", default=1.0, show_default=True, type=click.FloatRange(0), help="Of footage; 0: at full speed.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to keep the data in (default: thrown away).")
def command(
    footage: Path | None, source: str | None, site_file: Path | None, rate: float, speed: float, keep: Path | None
) -> None:
    """Show the whole way of a burst: agent, server, ensemble, policy, events in the log."""
    if (footage is None) == (source is None):
        raise click.UsageError("give either --footage FILE or --camera SOURCE")
    if footage is not None and not footage.is_file():
        raise ConfigurationError(f"there is no video {footage}")
    policy, text = (parse_site_policy(_PLAIN), _PLAIN) if site_file is None else read_policy(site_file)
    name = next(iter(policy.cameras), "camera")
    camera: dict[str, Any] = {"name": name, **_source(footage, source)}
    if footage is not None:
        camera |= {"frames_per_s": rate, "speed": speed, "at_end": "stop", "burst": {"frames": max(1, round(4 * rate))}}
    else:
        frames = max(1, round(4 * rate))
        camera |= {"burst": {"frames": frames, "spacing_s": round(1 / rate, 3)}}
    folder = Path(tempfile.mkdtemp(prefix="sectorwatch-demo-")) if keep is None else keep
    try:
        _run(folder, policy.site, text, camera)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _source(footage: Path | None, source: str | None) -> Mapping[str, Any]:
    if footage is not None:
        return {"video": str(footage.resolve())}
    assert source is not None
    if source.isdigit():
        return {"device": int(source)}
    return {"rtsp" if source.startswith("rtsp") else "snapshot": source}


def _run(folder: Path, site: str, text: str, camera: Mapping[str, Any]) -> None:
    click.echo("Starting the server (Gunicorn, the ensemble loads) ...")
    with Rehearsal(folder, {site: text}) as rehearsal:
        click.echo(f"It is ready at {rehearsal.url}. The agent begins; events as they are confirmed:\n")
        began = time.monotonic()
        agent = rehearsal.agent(site, camera)
        store = open_store(rehearsal.database_url)
        told: Counter[str] = Counter()
        with suppress(KeyboardInterrupt):
            _follow(agent, store, told)
            _follow_until_quiet(store, told)
        agent.stop()
        elapsed_s = time.monotonic() - began
        status = agent.status()
    _summary(told, status, elapsed_s)


def _follow(agent: Agent, store: Store, told: Counter[str]) -> None:
    while not agent.wait(_LOOK_EVERY_S):
        _show_new(store, told)


def _follow_until_quiet(store: Store, told: Counter[str]) -> None:
    while _show_new(store, told):
        pass


def _show_new(store: Store, told: Counter[str]) -> int:
    """Print what was told since the last look; how many that was."""
    new = 0
    for logged in store.events(after_seq=told["seq"]):
        told["seq"] = logged.seq
        told[logged.event.kind] += 1
        new += 1
        click.echo(_fitted(text_line(logged)))
    return new


def _fitted(line: str) -> str:
    """On a terminal the beginning of the line, so that it is one line."""
    if not sys.stdout.isatty():
        return line
    width = shutil.get_terminal_size().columns
    return line if len(line) <= width else line[: width - 1] + "…"


def _summary(told: Counter[str], status: Mapping[str, Any], elapsed_s: float) -> None:
    told = Counter({kind: count for kind, count in told.items() if kind != "seq"})
    frames, sent = int(status.get("frames", 0)), int(status.get("bytes_sent", 0))
    click.echo("\nSummary")
    for kind, count in sorted(told.items()):
        click.echo(f"  {kind:<17} {count:>5}")
    click.echo(f"  {'events':<17} {sum(told.values()):>5}")
    click.echo(
        f"  {frames} frames in {status.get('bursts', 0)} bursts, {sent / 1e6:.2f} MB sent, "
        f"{elapsed_s:.0f} s, {frames / elapsed_s:.1f} images/s"
    )
