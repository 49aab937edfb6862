"""`/day/...`: what happened, as a page and as JSON."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from server.analysis.day import DaySpan, Lane
from server.app import runtime_of
from server.console.timeline import build
from server.console.timeline.parts import CELL_US, lane_shown
from server.domain.pictures.kept_frames import Picture
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app

EVENING = "2027-01-14T"

_numbers = itertools.count(1)


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """The clock is at 8:00 on 2027-01-15."""
    return make_app(tmp_path, BrightnessEnsemble())


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def send(client: FlaskClient, clock: str, greys: Sequence[int], step_ms: int = 1000, **changes: Any) -> dict[str, Any]:
    """A burst with frames of these shades; a bright one shows a person."""
    number = next(_numbers)
    frames = [jpeg(grey, (64 + 2 * number, 48 + 2 * index)) for index, grey in enumerate(greys)]
    burst = envelope(
        frames,
        burst_id=f"0197-burst-{number:04}",
        captured_at=f"{clock}Z",
        offsets_ms=[step_ms * index for index in range(len(frames))],
        **changes,
    )
    assert client.post("/v1/bursts", data=body(burst, frames)).status_code == 201
    return burst | {"frames": frames}


def visit(client: FlaskClient, hour: str, **changes: Any) -> dict[str, Any]:
    """A person for ten seconds, and some seconds of nobody around."""
    return send(client, f"{EVENING}{hour}:00", [20] * 4 + [240] * 10 + [20] * 16, **changes)


def told(client: FlaskClient, filters: str = "") -> Any:
    return client.get(f"/v1/day/2027-01-14?{filters}").json


def test_the_first_page_is_today_and_leads_to_last_night_and_to_the_newest_day_with_an_event(
    client: FlaskClient,
) -> None:
    visit(client, "18:12")
    send(client, "2027-01-15T07:00:00", [20] * 4)
    today = client.get("/").headers["Location"]
    assert today == "/day/2027-01-15?site=north-yard"
    page = client.get(today).text
    assert 'href="/day/2027-01-14?site=north-yard&amp;from=22%3A00#visits">Last night' in page
    assert 'href="/day/2027-01-14?site=north-yard">The newest day with events before: 2027-01-14' in page
    assert "Last night" not in client.get("/day/2027-01-14").text
    assert client.get("/day/today").headers["Location"] == "/day/2027-01-15?site=north-yard"
    assert client.get("/v1/day/today").json["day"] == "2027-01-15"
    assert client.get("/v1/day/yesterday").json["day"] == "2027-01-14"
    assert client.get("/day/yesterday?camera=gate").headers["Location"] == "/day/2027-01-14?site=north-yard&camera=gate"


def test_a_visit_is_one_row_with_its_picture_and_its_events_behind_it(app: Flask, client: FlaskClient) -> None:
    burst = visit(client, "18:12")
    kept = [
        Picture("north-yard", "gate", 1_799_950_320_000_000 + i * 1_000_000, sha256, burst["frames"][i], 0.9)
        for i, sha256 in enumerate(burst["frame_sha256"])
    ]
    runtime_of(app).store.frames.keep(kept)
    page = client.get("/day/2027-01-14").text
    [row] = told(client, "site=north-yard")["visits"]
    assert page.count('<a class="visit"') == 1
    assert (row["target"], row["place"], row["picture"] in burst["frame_sha256"]) == ("person", "view", True)
    assert f"/v1/frames/{row['picture']}?size=small" in page
    assert {"entered", "left", "presence_started", "presence_ended"} <= {each["kind"] for each in row["events"]}
    assert f'href="/events/{row["id"]}?' in page


def test_bars_show_occupied_clear_and_unobserved_and_say_it_in_words(client: FlaskClient) -> None:
    visit(client, "18:12")
    day = told(client)
    [lane] = day["lanes"]
    assert [span["state"] for span in lane["spans"]] == ["unobserved", "clear", "occupied", "clear", "unobserved"]
    assert lane["spans"][0]["since"] == "2027-01-14T00:00:00Z"
    assert lane["spans"][-1]["until"] == "2027-01-15T00:00:00Z"
    assert lane["visits"] == 1
    assert [bar["state"] for bar in lane["bars"]] == ["unobserved", "occupied"]
    page = client.get("/day/2027-01-14").text
    assert '<path class="unobserved" d="M0 4h728v12h-728z' in page
    assert '<td class="totals">1 visit, 10 s, not watched' in page
    assert "18:12 to 24:00" in page


@pytest.mark.parametrize("seed", range(10))
def test_a_cell_of_a_bar_shows_the_strongest_state_in_it(seed: int) -> None:
    chance, since_us, at_us = random.Random(seed), 7_000_000, 7_000_000 + seed % 3 * 1_000_000_000
    spans: list[DaySpan] = []
    cells = [""] * 960
    strength = ("", "clear", "not_kept", "unobserved", "occupied")
    for _ in range(chance.randrange(200)):
        state: Any = chance.choice(strength[1:])
        end_us = at_us + chance.choice([1, 500_000, CELL_US, 90_000_001, 700_000_000])
        spans.append(DaySpan(state, at_us, end_us))
        for cell in range((at_us - since_us) // CELL_US, (end_us - 1 - since_us) // CELL_US + 1):
            cells[cell] = max(cells[cell], state, key=strength.index)
        at_us = end_us
    shown = [""] * 960
    for bar in lane_shown(Lane("gate", "road", "person", tuple(spans)), since_us, has_spans=False).bars:
        for begin, length in re.findall(r"M(\d+) \d+h(\d+)v", bar.path):
            shown[int(begin) : int(begin) + int(length)] = [bar.state] * int(length)
    assert shown == cells


def test_a_night_with_nobody_says_so(client: FlaskClient) -> None:
    at_s = 22 * 3600
    while at_s < 30 * 3600 + 30:
        day, rest = divmod(at_s, 86_400)
        clock = f"2027-01-{14 + day}T{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
        send(client, clock, [20, 20, 20, 20], step_ms=25_000)
        at_s += 100
    page = client.get("/day/2027-01-15").text
    assert "Nobody, 22:00 to 06:00, watched all the time" in page


def test_filters_leave_rows_and_bars_out(client: FlaskClient) -> None:
    visit(client, "18:12")
    visit(client, "18:12", camera="shed")
    visit(client, "19:12")

    def asked(filters: str) -> tuple[int, int]:
        day = told(client, filters)
        return len(day["lanes"]), len(day["visits"])

    assert asked("") == (2, 3)
    assert asked("camera=shed") == (1, 1)
    assert asked("camera=shed&from=19:00") == (1, 0)
    assert asked("from=18:30") == (2, 1)
    assert asked("kind=crossed") == (2, 0)
    assert asked("kind=left") == (2, 3)
    assert asked("sector=pond") == (0, 0)
    assert asked("target=person&sector=view") == (2, 3)
    assert "Nothing of this day fits the filters" in client.get("/day/2027-01-14?target=cat").text


def test_what_cannot_be_asked_for_is_answered_with_what_can(client: FlaskClient) -> None:
    visit(client, "18:12")
    assert client.get("/day/2027-01-14?from=9999-12-31T23:59:59-12:00").status_code == 200
    for wrong in (
        "/day/2027-13-40",
        "/day/2027-01-14?from=2027-01-14T18:00",
        "/day/2027-01-14?from=noon",
        "/day/2027-01-14?colour=red",
        "/day/0001-01-01",
    ):
        assert client.get(wrong).status_code == 400
    assert "No camera of this site has sent anything yet" in client.get("/day/2027-01-14?site=elsewhere").text


def test_a_server_without_a_site_says_what_to_do(tmp_path: Path) -> None:
    app = make_app(tmp_path, BrightnessEnsemble())
    (tmp_path / "sites" / "north-yard.toml").unlink()
    shown = app.test_client().get("/")
    assert (shown.status_code, "No site yet" in shown.text) == (200, True)


def test_no_filter_is_html(client: FlaskClient) -> None:
    visit(client, "18:12")
    for name in ("site", "camera", "sector", "target", "kind", "from"):
        assert "<b>gate" not in client.get(f"/day/2027-01-14?{name}=<b>gate</b>").text
    assert "<b>gate" not in client.get("/day/<b>gate").text


def test_an_hour_that_comes_twice_has_its_names_and_later_visits_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = in_oslo(tmp_path)
    monkeypatch.setattr(build, "ROWS", 1)
    send(client, "2026-10-25T00:30:00", [20] * 4 + [240] * 10 + [20] * 16)
    send(client, "2026-10-25T01:20:00", [20] * 4 + [240] * 10 + [20] * 16)
    first = client.get("/v1/day/2026-10-25").json
    assert (first["cells"], first["hours"][1:3]) == (1000, [["02", 80], ["04", 200]])
    assert '<text x="20.0%" dx="3" y="12">04</text>' in client.get("/day/2026-10-25").text
    assert (first["visits"][0]["time"][:5], first["more_from"][:16], first["more_from"][-6:]) == (
        "02:30",
        "2026-10-25T02:20",
        "+01:00",
    )
    then = client.get("/v1/day/2026-10-25", query_string={"from": first["more_from"]}).json
    assert ([each["time"][:5] for each in then["visits"]], then["begins"][:5]) == (["02:20"], "02:20")
    assert then["more_from"] is None


def test_an_hour_that_clocks_skip_is_named_as_they_show_it(tmp_path: Path) -> None:
    day = in_oslo(tmp_path).get("/v1/day/2026-03-29").json
    assert (day["cells"], day["hours"][1:3]) == (920, [["03", 80], ["04", 120]])


def test_pictures_of_visits_have_their_size_before_they_are_loaded(app: Flask, client: FlaskClient) -> None:
    burst = visit(client, "18:12")
    kept = Picture("north-yard", "gate", 1_799_950_324_000_000, burst["frame_sha256"][4], burst["frames"][4], 0.9)
    runtime_of(app).store.frames.keep([kept])
    assert 'width="96" height="54" loading="lazy"' in client.get("/day/2027-01-14").text


def in_oslo(tmp_path: Path) -> FlaskClient:
    app = make_app(tmp_path, BrightnessEnsemble())
    policy = tmp_path / "sites" / "north-yard.toml"
    policy.write_text(
        policy.read_text().replace('site = "north-yard"', 'site = "north-yard"\ntimezone = "Europe/Oslo"')
    )
    return app.test_client()
