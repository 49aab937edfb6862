"""Each client has a share of its own, and none takes another's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from policies.observation import Box, Prediction
from server.app import runtime_of
from server.domain.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    OverQuota,
    RetryLater,
    SectorwatchError,
    TooMuchWork,
)
from server.web.admission import Admission, Quota
from server.web.auth import ANY_SITE, new_token
from tests.server.web_client import BrightnessEnsemble, body, encoded, envelope, files, jpeg, lossless_webp, make_app


class Clock:
    """Driven by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quota(clock: Clock) -> Quota:
    return Quota(60, clock=clock)


def test_a_client_may_send_a_minute_s_worth_at_once_and_then_its_rate(quota: Quota, clock: Clock) -> None:
    quota.check("gate")
    quota.charge("gate", 60)
    with pytest.raises(OverQuota) as refused:
        quota.check("gate")
    assert refused.value.retry_after_s == 1
    clock.now_s += 1
    quota.check("gate")


def test_a_request_may_be_larger_than_what_is_left_and_is_paid_for_afterwards(quota: Quota, clock: Clock) -> None:
    quota.charge("gate", 59)
    quota.check("gate")
    quota.charge("gate", 30)
    with pytest.raises(OverQuota) as refused:
        quota.check("gate")
    assert refused.value.retry_after_s == 30
    clock.now_s += 29
    with pytest.raises(OverQuota):
        quota.check("gate")
    clock.now_s += 1
    quota.check("gate")


def test_whoever_comes_back_when_told_to_is_let_in(clock: Clock) -> None:
    quota = Quota(7, clock=clock)
    for _ in range(20):
        quota.check("gate")
        quota.charge("gate", 10)
        with pytest.raises(OverQuota) as refused:
            quota.check("gate")
        clock.now_s += refused.value.retry_after_s


def test_over_an_hour_a_greedy_client_gets_its_rate_and_one_request(quota: Quota, clock: Clock) -> None:
    got = 0
    for _ in range(3600):
        clock.now_s += 1
        try:
            quota.check("gate")
        except OverQuota:
            continue
        quota.charge("gate", 8)
        got += 8
    assert 3600 <= got <= 3600 + 60 + 8


def test_one_client_s_share_is_nobody_else_s(quota: Quota) -> None:
    quota.charge("gate", 1000)
    quota.check("door")


def test_idle_hours_are_not_saved_up(quota: Quota, clock: Clock) -> None:
    quota.charge("gate", 60)
    clock.now_s += 10_000
    quota.charge("gate", 60)
    with pytest.raises(OverQuota):
        quota.check("gate")


def test_without_a_bound_nobody_is_refused() -> None:
    quota = Quota(0)
    quota.charge("gate", 1_000_000)
    quota.check("gate")


def test_the_clients_that_are_remembered_are_bounded(quota: Quota, clock: Clock) -> None:
    for number in range(10_000):
        quota.charge(f"address {number}", 61)
    quota.charge("a stranger", 61)
    with pytest.raises(OverQuota):
        quota.check("another stranger")  # they share what is left for strangers
    clock.now_s += 120  # all have their share again, and are forgotten
    quota.charge("a stranger", 61)
    quota.check("another stranger")


def without_room(admission: Admission, error: SectorwatchError | None = None) -> None:
    with admission.admitted("gate", 1) as upload:
        upload.begin(60)
        raise error or RetryLater("no room")


def test_what_was_charged_for_a_request_of_which_nothing_was_begun_is_given_back(quota: Quota) -> None:
    admission = Admission(1, body_bytes=10, total_bytes=10, quota=quota)
    for _ in range(3):
        with pytest.raises(RetryLater, match="no room"):
            without_room(admission)
    with admission.admitted("gate", 1) as upload:
        upload.begin(60)
    with pytest.raises(OverQuota), admission.admitted("gate", 1):
        pass
    with admission.admitted("door", 1) as upload:
        upload.begin(1)
        assert admission.in_work == 1


def test_work_that_was_done_stays_charged_also_when_it_came_to_nothing(quota: Quota) -> None:
    admission = Admission(1, body_bytes=10, total_bytes=10, quota=quota)
    with pytest.raises(RetryLater, match="no room"):
        without_room(admission, RetryLater("no room", begun=True))
    with pytest.raises(OverQuota):
        without_room(admission)


def test_frames_that_were_judged_stay_charged_when_the_database_does_not_take_the_result(quota: Quota) -> None:
    admission = Admission(1, body_bytes=10, total_bytes=10, quota=quota)
    with pytest.raises(DatabaseUnavailable):
        without_room(admission, DatabaseUnavailable("locked"))
    with pytest.raises(OverQuota):
        without_room(admission)


def test_a_request_is_charged_before_any_of_its_pictures_is_decoded(quota: Quota) -> None:
    admission = Admission(9, body_bytes=10, total_bytes=100, quota=quota)
    with admission.admitted("gate", 1) as first, admission.admitted("gate", 1) as second:
        first.begin(60)
        with pytest.raises(OverQuota):
            second.begin(60)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path, BrightnessEnsemble(), client_images_per_minute=2)
    yield app
    runtime_of(app).store.close()


def token_for(app: Flask, site: str, camera: str | None) -> dict[str, str]:
    token = new_token()
    runtime_of(app).store.add_token(token.id, "test", site, camera, token.hash)
    return {"Authorization": f"Bearer {token.token}"}


def sent(client: FlaskClient, headers: dict[str, str], camera: str, burst_id: str) -> TestResponse:
    frames = [jpeg(0), jpeg(255)]
    return client.post(
        "/v1/bursts", data=body(envelope(frames, camera=camera, burst_id=burst_id), frames), headers=headers
    )


def test_a_camera_beyond_its_share_gets_429_and_others_are_served(app: Flask) -> None:
    client = app.test_client()
    gate, door = (token_for(app, "north-yard", camera) for camera in ("gate", "door"))
    assert sent(client, gate, "gate", "0197-quota-1").status_code == 201
    refused = sent(client, gate, "gate", "0197-quota-2")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert refused.content_type == "application/problem+json"
    assert refused.get_json()["type"] == "urn:sectorwatch:problem:over-quota"
    assert sent(client, door, "door", "0197-quota-3").status_code == 201
    reader = token_for(app, ANY_SITE, None)
    assert f'quota_refusals_total{{client="{gate["Authorization"].split("_")[1]}"}} 1' in metrics_text(client, reader)


def metrics_text(client: FlaskClient, headers: dict[str, str]) -> str:
    return client.get("/metrics", headers=headers).text


def test_without_tokens_an_address_has_its_share(app: Flask) -> None:
    client = app.test_client()
    assert client.post("/batch", data={"file": files([jpeg(0), jpeg(9)])}).status_code == 200
    assert client.post("/batch", data={"file": files([jpeg(0)])}).status_code == 429
    answer = client.post("/v2/models/ensemble/infer", json={"inputs": []})
    assert answer.status_code == 429
    assert set(answer.get_json()) == {"error"}
    assert client.get("/models").status_code == 200


def test_a_picture_that_cannot_be_judged_stays_charged(app: Flask) -> None:
    client = app.test_client()
    gate = token_for(app, "north-yard", "gate")
    frames = [jpeg(0), jpeg(9)[:-200]]
    broken = body(envelope(frames, burst_id="0197-quota-1"), frames)
    assert client.post("/v1/bursts", data=broken, headers=gate).status_code == 422
    assert sent(client, gate, "gate", "0197-quota-2").status_code == 429


def test_a_burst_that_is_known_costs_nothing_and_neither_does_another_with_its_name(app: Flask) -> None:
    client = app.test_client()
    gate = token_for(app, "north-yard", "gate")
    frame = [jpeg(0)]
    once = envelope(frame, burst_id="0197-quota-1")
    other = envelope([jpeg(9)], burst_id="0197-quota-1")
    statuses = []
    for sent_envelope, frames in ((once, frame), *3 * [(once, frame)], (other, [jpeg(9)])):
        answer = client.post("/v1/bursts", data=body(sent_envelope, frames), headers=gate)
        statuses.append(answer.status_code)
    assert statuses == [201, 200, 200, 200, 422]
    assert sent(client, gate, "gate", "0197-quota-2").status_code == 201


class TwiceAtOnce(BrightnessEnsemble):
    """While the first request is judged, the same burst is sent again and judged first."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] | None = None

    def answer(
        self, images: Sequence[bytes], crops: Mapping[str, Box] | None = None, enlarged: Sequence[Box] = ()
    ) -> list[dict[str, tuple[Prediction, ...] | None]]:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().answer(images, crops, enlarged)


def test_a_burst_that_is_judged_twice_at_once_is_charged_twice(tmp_path: Path) -> None:
    ensemble = TwiceAtOnce()
    app = make_app(tmp_path, ensemble, client_images_per_minute=4)
    gate = token_for(app, "north-yard", "gate")
    answers = []
    ensemble.meanwhile = lambda: answers.append(sent(app.test_client(), gate, "gate", "0197-quota-1").status_code)
    answers.append(sent(app.test_client(), gate, "gate", "0197-quota-1").status_code)
    assert answers == [201, 200]
    assert sent(app.test_client(), gate, "gate", "0197-quota-2").status_code == 429
    runtime_of(app).store.close()


@pytest.mark.parametrize("error", [TooMuchWork("60 frames", begun=False), ConfigurationError("no", begun=False)])
def test_a_request_that_is_refused_for_ever_before_any_work_costs_nothing(
    quota: Quota, error: SectorwatchError
) -> None:
    admission = Admission(1, body_bytes=10, total_bytes=10, quota=quota)
    for _ in range(3):
        with pytest.raises(type(error)):
            without_room(admission, error)


def test_each_enlarged_sector_counts_as_one_more_image_of_every_frame(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble(), client_images_per_minute=4)
    far = "[cameras.gate.sectors.far]\ncoordinates = '0.4,0.2,0.6,0.2,0.6,0.3'\nenlarge = true\n"
    (tmp_path / "sites" / "north-yard.toml").write_text(f'site = "north-yard"\n{far}')
    client = app.test_client()
    gate, door = (token_for(app, "north-yard", camera) for camera in ("gate", "door"))
    assert sent(client, gate, "gate", "0197-gate-1").status_code == 201
    assert sent(client, gate, "gate", "0197-gate-2").status_code == 429
    assert [sent(client, door, "door", f"0197-door-{n}").status_code for n in range(3)] == [201, 201, 429]
    runtime_of(app).store.close()


def test_large_pictures_and_other_formats_count_as_several(app: Flask) -> None:
    client = app.test_client()
    png = encoded(Image.new("L", (1000, 900)), "PNG")
    assert client.post("/batch", data={"file": files([png])}).status_code == 200  # 0.9 megapixels count as 1.3 images
    assert client.post("/batch", data={"file": files([jpeg(0)])}).status_code == 429


def test_a_picture_that_its_header_refuses_costs_nothing(app: Flask) -> None:
    client = app.test_client()
    bomb = lossless_webp(8000, 6000)
    for _ in range(5):
        assert client.post("/batch", data={"file": files([bomb] * 60)}).status_code == 413
    assert client.post("/batch", data={"file": files([jpeg(0), jpeg(9)])}).status_code == 200
