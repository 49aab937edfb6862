"""The fleet's benchmark runs on both databases, and counts what its cameras have sent and the log has told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from server.store import open_store
from tests.benchmarks.fleet.__main__ import new_database
from tests.benchmarks.fleet.cameras import Activity
from tests.benchmarks.fleet.place import prepare
from tests.benchmarks.fleet.recorded import FRAMES, SCENES, recording
from tests.benchmarks.fleet.running import Plan, run
from tests.server import databases


@pytest.fixture(params=databases.NAMES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    with new_database(request.param, tmp_path) as made:
        yield made


def test_a_small_fleet_is_measured(url: str, tmp_path: Path) -> None:
    plan = Plan(
        cameras=3,
        servers=1 if url.startswith("sqlite") else 2,
        seconds=60.0,
        activity=Activity(busy=1.0, frames=4),
        at_once=3,
        warm=3,
        most=9,
        idle_s=0.0,
    )
    folder = tmp_path / "run"
    measured = run(plan, prepare(folder, url, plan.cameras), url, folder)
    assert measured.bursts >= 9
    assert measured.events > 0
    assert measured.server_cpu_s > 0
    assert (measured.database_cpu_s > 0) == (measured.servers == 2)
    assert measured.outbox.most_s < 60
    assert any(line.startswith("  CPU a burst: servers") for line in measured.lines())
    with closing(open_store(url)) as store:
        counts = store.counts()
        assert len(store.cameras()) == 3
    assert counts["observations"] >= 4 * (measured.bursts + 3)


def test_the_recorded_labels_show_nobody_one_person_and_a_crowd() -> None:
    most = {
        scene: max(
            sum(one.label == "person" and one.score > 0.5 for one in answer["yolov3-tiny"] or ()) for answer in answers
        )
        for scene, answers in recording().answers.items()
    }
    assert tuple(most) == SCENES
    assert {len(answers) for answers in recording().answers.values()} == {FRAMES}
    assert most["quiet"] == 0 < most["one"] < most["crowd"]
