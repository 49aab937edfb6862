"""`sectorwatch demo`: run agent and server on footage or a camera, and show the events and a summary."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import click

from policies.site.site_policy import parse_site_policy
from server.commands.events import VisitPrinter
from server.commands.folding import read_policy
from server.commands.local_stack import LocalStack
from server.domain.errors import ConfigurationError
from server.domain.times.local_time import LocalTime, zone_of
from server.store import Store, open_store

_LOOK_EVERY_S = 0.3
_AT_ONCE = 500
_OTHER_ENDS = (signal.SIGTERM, signal.SIGHUP)
"""Beside Ctrl-C."""
_PLAIN = 'site = "demo"\n'


@click.command()
@click.option("--footage", type=click.Path(path_type=Path), help="Play this video as a live camera.")
@click.option(
    "--camera", "source", metavar="SOURCE", help="Use this camera instead: 0, rtsp://..., or http://.../snapshot.jpg."
)
@click.option("--site-file", type=click.Path(path_type=Path), help="Site policy; its first camera is used.")
@click.option("--rate", default=2.0, show_default=True, type=click.FloatRange(0.1, 30), help="Frames per second.")
@click.option("--speed", default=1.0, show_default=True, type=click.FloatRange(0), help="Of footage; 0: at full speed.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Folder that keeps the data (default: the data is deleted)."
)
@click.option("--stay", is_flag=True, help="When the footage is over, leave the console running until Ctrl-C.")
def command(
    footage: Path | None,
    source: str | None,
    site_file: Path | None,
    rate: float,
    speed: float,
    keep: Path | None,
    stay: bool,
) -> None:
    """Show the whole way of a burst from the agent through the server to the events in the log and the console.

    It prints the console's address first, for a browser on this machine. Ctrl-C ends it.
    """
    if (footage is None) == (source is None):
        raise click.UsageError("give either --footage FILE or --camera SOURCE")
    if footage is not None and not footage.is_file():
        raise ConfigurationError(f"there is no video {footage}")
    policy, text = (parse_site_policy(_PLAIN), _PLAIN) if site_file is None else read_policy(site_file)
    name = next(iter(policy.cameras), "camera")
    camera: dict[str, Any] = {"name": name, "burst": {"frames": max(1, round(4 * rate))}}
    if footage is not None:
        camera |= {"video": str(footage.resolve()), "frames_per_s": rate, "speed": speed, "at_end": "stop"}
    else:
        camera |= _source(str(source))
        camera["burst"]["spacing_s"] = round(1 / rate, 3)
    with (
        (
            tempfile.TemporaryDirectory(prefix="sectorwatch-demo-", ignore_cleanup_errors=True)
            if keep is None
            else nullcontext(keep)
        ) as folder,
        _ending_cleanly(),
    ):
        _run(Path(folder), policy.site, text, camera, stay=stay)


def _source(source: str) -> dict[str, Any]:
    kind = "rtsp" if source.startswith("rtsp") else "snapshot"
    return {"device": int(source)} if source.isdigit() else {kind: source}


@contextmanager
def _ending_cleanly() -> Iterator[None]:
    """Other signals end the demonstration as Ctrl-C does: without a server that is left behind."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in _OTHER_ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(folder: Path, site: str, text: str, camera: Mapping[str, Any], *, stay: bool) -> None:
    click.echo("Starting the server; the ensemble loads ...")
    with LocalStack(folder, {site: text}) as stack, closing(open_store(stack.database_url)) as store:
        click.echo(f"Open the console in a browser on this machine: {stack.url}/")
        click.echo("The agent starts; events are shown as they are confirmed:\n")
        began = time.monotonic()
        agent = stack.agent(site, camera)
        events = _Events(store, VisitPrinter(store, LocalTime(zone_of(text)), site, camera["name"]))
        is_over = False
        with suppress(KeyboardInterrupt):
            while not (is_over := agent.wait(_LOOK_EVERY_S)):
                events.show_new()
            events.show_new()
        _summary(events.kinds, agent.stop(), time.monotonic() - began)
        if stay and is_over:
            click.echo(f"\nThe console stays at {stack.url}/ until Ctrl-C.")
            with suppress(KeyboardInterrupt):
                stack.wait_for_server()


class _Events:
    """Prints the events of a store as they come, and counts their `kinds`."""

    def __init__(self, store: Store, printer: VisitPrinter) -> None:
        self.kinds: Counter[str] = Counter()
        self._store = store
        self._printer = printer
        self._last = 0

    def show_new(self) -> None:
        """Print those since the last time."""
        while new := self._store.events(after_seq=self._last, limit=_AT_ONCE):
            self._last = new[-1].seq
            self.kinds.update(logged.event.kind for logged in new)
            self._printer.announced(new)


def _summary(kinds: Counter[str], status: Mapping[str, Any], elapsed_s: float) -> None:
    frames, sent = int(status.get("frames", 0)), int(status.get("bytes_sent", 0))
    click.echo("\nSummary")
    for kind, count in (*sorted(kinds.items()), ("events", kinds.total())):
        click.echo(f"  {kind:<17} {count:>5}")
    click.echo(
        f"  {frames} frames in {status.get('bursts', 0)} bursts, {sent / 1e6:.2f} MB sent, "
        f"{elapsed_s:.0f} s, {frames / elapsed_s:.1f} images/s"
    )
