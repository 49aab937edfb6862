"""How soon Tune shows what a change would do: `python -m tests.benchmarks.past.tuning [--frames 86400] [--kind noise]`.

The page of a camera whose day `replay` makes (one frame a second, somebody in 5 % of them, six sectors), with forty
annotated events, is asked as a browser asks it: again as soon as it has answered, until nothing is left to replay.
First figures: the first answer that has some. Complete: the last answer. `nothing changed` is the first question to a
server that has just started, so it waits for a process that replays. CPU: of the processes that replay, which
everything else on the machine goes before, and of the server.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import click
from flask import Flask
from flask.testing import FlaskClient

from policies.site.site_policy import parse_site_policy
from server.analysis.annotations import annotation_of_event
from server.app import create_app, runtime_of
from server.settings import ServerSettings
from server.store import open_store
from tests.benchmarks.past.replay import START_US, fill, site
from tests.server.web_client import BrightnessEnsemble

CAMERA, SECTOR = "cam0", "junction"
ANNOTATED = 40
STATES: tuple[tuple[str, dict[str, str]], ...] = (
    ("nothing changed", {}),
    ("another rule", {"rule": "any"}),
    ("another score", {"scores": "yolov3-tiny:0.35"}),
    ("another confirmation", {"hits": "4", "frames": "8"}),
    ("the first change again", {"rule": "any"}),
)


def filled(folder: Path, frames: int, kind: str) -> str:
    """A database with a camera's day and its annotations, and the site's file beside it."""
    text = site(1)
    if (folder / "sites").exists():
        return f"sqlite:///{folder / 'sectorwatch.sqlite'}"
    (folder / "sites").mkdir()
    (folder / "sites" / "pets.toml").write_text(text, encoding="utf-8")
    url = f"sqlite:///{folder / 'sectorwatch.sqlite'}"
    with closing(open_store(url)) as store:
        store.upgrade()
        fill(store, parse_site_policy(text), text, CAMERA, frames, kind)
        events = [logged.event for logged in store.events()]
        chosen = events[:: max(1, len(events) // ANNOTATED)]
        truths = ("true", "true", "true", "false")
        store.annotations.add([annotation_of_event(e, truths[i % 4], "ann") for i, e in enumerate(chosen)])  # type: ignore[arg-type]
    return url


def asked(client: FlaskClient, query: dict[str, str]) -> tuple[float, float, float, int]:
    """Seconds to the first figures and to the complete ones, the longest answer, and the number of answers."""
    begun_s = time.monotonic()
    first_s, longest_s, count = 0.0, 0.0, 0
    while True:
        at_s = time.monotonic()
        answer = client.get(f"/tune/pets/{CAMERA}/{SECTOR}?{urlencode(query)}")
        assert answer.status_code == 200, answer.text
        count, longest_s = count + 1, max(longest_s, time.monotonic() - at_s)
        if not first_s and 'class="number"' in answer.text:
            first_s = time.monotonic() - begun_s
        if "aria-busy" not in answer.text:
            return first_s, time.monotonic() - begun_s, longest_s, count


def child_s(pid: int) -> float:
    """The CPU time of a process (s)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_s(app: Flask) -> float:
    """The CPU time of the processes that replay (s)."""
    processes = [child.process for child in runtime_of(app).replays._children]
    return sum(child_s(process.pid or 0) for process in processes if process is not None)


@click.command()
@click.option("--frames", default=86_400, show_default=True, help="Frames of the camera; one a second.")
@click.option("--kind", type=click.Choice(["empty", "noise"]), default="noise", show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to make the database in, or to find it in.")
def main(frames: int, kind: str, keep: Path | None) -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        url = filled(folder, frames, kind)
        settings = ServerSettings(data_dir=folder, database_url=url, sites_dir=folder / "sites")
        later_us = START_US + (frames + 600) * 1_000_000
        app = create_app(settings, ensemble=BrightnessEnsemble(), channels=[], clock=lambda: later_us)
        try:
            for name, query in STATES:
                before_s, mine_s = children_s(app), time.process_time()
                first_s, complete_s, longest_s, count = asked(app.test_client(), query)
                took_s, mine_s = children_s(app) - before_s, time.process_time() - mine_s
                line = f"first figures after {first_s:.2f} s, complete after {complete_s:.2f} s"
                cpu = f"CPU {took_s:.2f} s of the replay and {mine_s:.2f} s of the server"
                sys.stdout.write(f"{name}: {line}; {cpu}; {count} answers, the longest {longest_s:.2f} s\n")
                sys.stdout.flush()
        finally:
            runtime_of(app).replays.close()


if __name__ == "__main__":
    main()
