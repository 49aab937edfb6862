"""The process that is connected to Ray, where others come to the cluster at the same time."""

from __future__ import annotations

import pytest
from ray.exceptions import ActorAlreadyExistsError

from server.domain.errors import RetryLater
from server.ray_serving import driver


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often Ray Serve was started; the first number is how often another server is quicker."""
    counts = [0, 0]

    def start(**_options: object) -> None:
        counts[1] += 1
        if counts[1] <= counts[0]:
            raise ActorAlreadyExistsError("SERVE_CONTROLLER_ACTOR")

    monkeypatch.setattr(driver.ray, "init", lambda *_given, **_options: None)
    monkeypatch.setattr(driver.serve, "start", start)
    monkeypatch.setattr(driver, "_START_AGAIN_S", 0.0)
    return counts


def test_a_server_that_another_one_forestalls_joins_what_that_one_started(starts: list[int]) -> None:
    starts[0] = 2
    driver.Driver().connect("192.0.2.1:6379")
    assert starts[1] == 3


def test_a_cluster_that_never_gets_ready_is_tried_again_later(starts: list[int]) -> None:
    starts[0] = 1000
    with pytest.raises(RetryLater, match="Ray Serve"):
        driver.Driver().connect("192.0.2.1:6379")
