"""What the past of a fleet costs: `python -m tests.benchmarks.past.fleet_year [--frames 86400] [--cameras 2]`.

Camera-days as `replay` makes them (one frame a second, somebody in 5 % of them, six sectors), each kind of its own:
`empty`, `noise`, and `any`: the noise under a policy by which each weak box is somebody, the worst that a yard gives.
They are folded in this process: as `sectorwatch replay` does, as `replay --policy`, and as `tune` does, for eight
policies in one reading. CPU time of the median round gives camera-days in a CPU second. From it follows what a year of
a fleet takes, on as many processors as `--processors`. Last, all cameras are folded in a pool and in one process: CPU
of all processes, that of starting them included, and whether the results are equal.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click

from policies.site.site_policy import SitePolicy, parse_site_policy
from server.commands.folding import FoldTask, fold_as_accepted, fold_many, fold_policies
from server.store import open_store
from tests.benchmarks.past.replay import fill, site

DAY_FRAMES = 86_400
FLEET, DAYS = 1000, 365
TRIED = 8
_ANY = '[sensitivity]\nrule = "any"\n[min_score]\n"*" = 0.2\n\n[cameras.'


def policies(cameras: int, kind: str) -> tuple[SitePolicy, ...]:
    """The policy of a kind, and seven that differ from it in movement and scores, as those that `tune` tries."""
    text = site(cameras)
    if kind == "any":
        text = text.replace("[cameras.", _ANY, 1)
    every = [
        text.replace("targets =", f"movement = {{dwell_s = {1 + number / 4}}}\ntargets =", 1) for number in range(4)
    ]
    every += [text.replace("targets =", f"movement = {{sights = {number}}}\ntargets =", 1) for number in range(3, 7)]
    return tuple(map(parse_site_policy, every))


def cpu_s() -> float:
    """CPU time of this process and of those that it has waited for (s)."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def took_s(work: Callable[[], object], rounds: int) -> float:
    """CPU time of the median round (s)."""
    times = []
    for _ in range(rounds):
        begun_s = time.process_time()
        work()
        times.append(time.process_time() - begun_s)
    return statistics.median(times)


def measured(url: str, kind: str, cameras: int, frames: int, rounds: int, processors: int) -> Iterator[str]:
    tried = policies(cameras, kind)
    assert len({policy.digest for policy in tried}) == TRIED
    task = FoldTask(url, "pets", "cam0")
    works: dict[str, tuple[Callable[[], object], int]] = {
        "replay --policy": (lambda: fold_policies(task._replace(policies=tried[:1])), 1),
        f"tune, each of {TRIED} policies": (lambda: fold_policies(task._replace(policies=tried)), TRIED),
    }
    if kind != "any":
        works = {"replay": (lambda: fold_as_accepted(task), 1), **works}
    for how, (work, parts) in works.items():
        day_s = took_s(work, rounds) / parts * DAY_FRAMES / frames
        year_h = FLEET * DAYS * day_s / processors / 3600
        yield (
            f"{kind}, {how}: {day_s:.2f} CPU seconds a camera-day, {1 / day_s:.2f} camera-days a CPU second; "
            f"{FLEET} cameras for {DAYS} days: {year_h:,.0f} hours on {processors} processors"
        )
    tasks = [task._replace(camera=f"cam{number}", policies=tried[:1]) for number in range(cameras)]
    spent, results = [], []
    for processes in (1, cameras):
        begun_s = cpu_s()
        results.append(fold_many(tasks, processes))
        spent.append(cpu_s() - begun_s)
    verdict = "equal results" if results[0] == results[1] else "OTHER RESULTS"
    yield f"{kind}, {cameras} cameras in {cameras} processes: {spent[1] / spent[0]:.2f} times the CPU of one; {verdict}"


@click.command()
@click.option("--frames", default=DAY_FRAMES, show_default=True, help="Frames of each camera; one a second.")
@click.option("--cameras", default=2, show_default=True, type=click.IntRange(min=2))
@click.option("--rounds", default=3, show_default=True)
@click.option("--processors", default=64, show_default=True, help="Of the machine that a fleet's year is reckoned for.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to make the databases in, or to find them in.")
def main(frames: int, cameras: int, rounds: int, processors: int, keep: Path | None) -> None:
    """Measure, and print."""
    text = site(cameras)
    policy = parse_site_policy(text)
    with tempfile.TemporaryDirectory() as temporary:
        for kind in ("empty", "noise", "any"):
            made_of = "noise" if kind == "any" else kind
            file = (keep or Path(temporary)) / f"scale-{made_of}.sqlite"
            url = f"sqlite:///{file}"
            if not file.exists():
                with closing(open_store(url)) as store:
                    store.upgrade()
                    for camera in policy.cameras:
                        fill(store, policy, text, camera, frames, made_of)
            for line in measured(url, kind, cameras, frames, rounds, processors):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
