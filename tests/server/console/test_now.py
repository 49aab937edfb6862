"""`/now`, as a browser on the server's own machine sees it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

from server.app import runtime_of
from server.domain.pictures.kept_frames import Picture
from tests.server.web.test_cameras import NOW, heartbeat
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app


def test_each_camera_has_a_card_with_its_newest_picture_and_the_state_of_its_sectors(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    client = app.test_client()
    frame = jpeg(240)
    burst = envelope([frame])
    assert client.post("/v1/bursts", data=body(burst, [frame])).status_code == 201
    sha256 = str(burst["frame_sha256"][0])
    at_us = 1_800_000_000_000_000 - 90_000_000_000
    picture = Picture("north-yard", "gate", at_us, sha256, frame, 0.9)
    assert runtime_of(app).store.frames.keep([picture]).frames == 1

    shown = client.get("/now")
    assert "Newest frame <time>" in shown.text
    assert "not the newest frame" in shown.text
    assert 'class="old"' in shown.text

    assert shown.status_code == 200
    assert f"/v1/frames/{sha256}?size=small" in shown.text
    assert re.search(r"<li class=\"(occupied|clear|unobserved)\">", shown.text)
    assert client.get(f"/v1/frames/{sha256}?size=small").status_code == 200
    [site] = client.get("/v1/now").json["sites"]
    assert [camera["camera"] for camera in site["cameras"]] == ["gate"]


def test_a_picture_of_the_newest_frame_is_not_called_old(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    client = app.test_client()
    frame = jpeg(240)
    burst = envelope([frame])
    assert client.post("/v1/bursts", data=body(burst, [frame])).status_code == 201
    newest = runtime_of(app).store.past.newest("north-yard")
    assert newest is not None
    picture = Picture("north-yard", "gate", newest.last_at_us, str(burst["frame_sha256"][0]), frame, 0.9)
    runtime_of(app).store.frames.keep([picture])
    shown = client.get("/now").text
    assert "· picture <time" in shown
    assert "not the newest frame" not in shown


def test_a_camera_with_two_agents_is_not_counted_as_well(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    client = app.test_client()
    for later_s, boot in enumerate("abababab"):
        sent_at = (NOW + timedelta(seconds=later_s)).isoformat()
        beat = heartbeat(agent={"boot_id": boot, "sent_at": sent_at}, waiting={"bursts": 0, "bytes": 0})
        assert client.post("/v1/heartbeats", json=beat).status_code < 300
    now = client.get("/v1/now").json
    [camera] = now["sites"][0]["cameras"]
    assert (camera["condition"], camera["cause"]) == ("ok", "two_agents")
    assert (now["well"], now["not_well"]) == (0, 1)
    day = client.get("/v1/day/today").json
    assert (day["well"], day["not_well"]) == (0, 1)


def test_a_picture_is_not_shown_to_a_program_that_never_opened_the_console(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    assert app.test_client().get(f"/v1/frames/{'0' * 64}").status_code == 401


def test_nobody_from_elsewhere_sees_the_console_before_there_is_a_user(tmp_path: Path) -> None:
    client = make_app(tmp_path, BrightnessEnsemble()).test_client()
    for elsewhere in ({"REMOTE_ADDR": "192.0.2.7"}, {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}, {"HTTP_HOST": "evil.test"}):
        refused = client.get("/now", environ_overrides=elsewhere)
        assert refused.status_code == 401
        assert "sectorwatch users add" in refused.text


def test_every_page_forbids_scripts_of_others_and_frames(tmp_path: Path) -> None:
    shown = make_app(tmp_path, BrightnessEnsemble()).test_client().get("/now")
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "north-yard" in shown.text


def test_files_are_kept_for_ever_under_the_digest_of_their_content(tmp_path: Path) -> None:
    client = make_app(tmp_path, BrightnessEnsemble()).test_client()
    [style] = re.findall(r'href="(/assets/[^"]+\.css)"', client.get("/now").text)
    asset = client.get(style)
    assert asset.status_code == 200
    assert "immutable" in asset.headers["Cache-Control"]
    assert client.get("/assets/0000000000000000/console.css").status_code == 404


def test_a_form_from_elsewhere_is_refused(tmp_path: Path) -> None:
    client = make_app(tmp_path, BrightnessEnsemble()).test_client()
    assert client.post("/sign-out").status_code == 400
