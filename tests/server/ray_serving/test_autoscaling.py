"""Replicas come while frames wait, and go when none do. Takes a minute: replicas start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from server.ray_serving import cluster as of_server
from server.ray_serving.messages import Lost
from tests.server.ray_serving.clusters import cluster, readiness, served_by, wait_until
from tests.server.ray_serving.shelves import SILENTLY, FolderShelf, said
from tests.server.swaps import Doing
from tests.server.web_client import files, jpeg

ROOM = 8


def test_waiting_frames_start_a_second_replica_which_admits_as_many_again_and_goes_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_server, "MORE_AFTER_S", 0.0)
    monkeypatch.setattr(of_server, "FEWER_AFTER_S", 0.0)
    monkeypatch.setattr(of_server, "SEEN_OVER_S", 11.0)  # Ray wants more than ten
    shelf = FolderShelf(tmp_path)
    settings: dict[str, Any] = {"ensemble": "ray", "ray_cpus": 0.1, "ray_max_replicas": 2, "ray_queued_images": 4}
    with cluster(2) as nodes:
        settings |= {"ray_address": nodes.address, "max_queued_images": ROOM}
        with served_by(tmp_path / "server", shelf.load, **settings) as (app, _channel, runtime):

            def replicas() -> int:
                try:
                    return len(runtime.service.current().handle.replicas.reports())  # type: ignore[attr-defined]
                except (Lost, TimeoutError):
                    return 0

            def post(*shades: int) -> Doing:
                frames = [jpeg(shade) for shade in shades]
                return Doing(lambda: app.test_client().post("/batch", data={"file": files(frames)}))

            def queued() -> int:
                assert runtime.service.engine is not None
                return runtime.service.engine.load().queued_images

            wait_until(lambda: not readiness(app) and runtime.service.engine, "it is ready")
            digest = runtime.service.current().digest
            shelf.write(closed=SILENTLY)
            in_work = [(0, 1)]
            waiting = [(shade, shade + 1) for shade in range(2, 2 + ROOM, 2)]
            sent = [post(*shades) for shades in in_work]
            wait_until(lambda: runtime.service.engine.load().running_images == 2, "the first are in work")  # type: ignore[union-attr]
            sent += [post(*shades) for shades in waiting]
            wait_until(lambda: queued() == ROOM, "the others wait")
            assert app.test_client().post("/batch", data={"file": files([jpeg(99)])}).status_code == 503
            wait_until(lambda: replicas() == 2, "a second replica answers")
            more = [(20, 21), (22, 23)]
            wait_until(lambda: runtime.service.engine._tally._room() == 2 * ROOM, "its room counts")  # type: ignore[union-attr]
            sent += [post(*shades) for shades in more]
            wait_until(lambda: queued() > ROOM or not all(each.is_alive() for each in sent), "more are admitted")
            shelf.write(closed="")
            while any(each.is_alive() for each in sent):
                shelf.let_all_go_on()
                sent[-1].join(0.05)
            for shades, each in zip([*in_work, *waiting, *more], sent, strict=True):
                answer = each.outcome
                assert isinstance(answer, TestResponse)
                assert answer.get_json() == {
                    model: [said(model, jpeg(shade)) for shade in shades] for model in ("a", "b")
                }
                assert answer.headers["X-Ensemble"] == digest
            wait_until(lambda: replicas() == 1, "the second replica is gone")
            assert app.test_client().post("/batch", data={"file": files([jpeg(1)])}).headers["X-Ensemble"] == digest
