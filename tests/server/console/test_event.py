"""The page of an event: pictures of its visit, the arithmetic, what it comes from, and answers by one key each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert, update
from werkzeug.test import TestResponse

from server.app import runtime_of
from server.console import judging
from server.domain.keeping import Keep, KeepFrames
from server.store import Store
from server.store.schema import cameras
from server.store.schema import events as event_rows
from tests.server.console.scene import OSLO, console, event_of
from tests.server.console.signed_in import add_user, browser, csrf_token
from tests.server.scenes import Yard, across


@pytest.fixture
def yard(tmp_path: Path, walked_yard: Path) -> Iterator[tuple[Flask, Yard]]:
    with console(tmp_path, like=walked_yard) as made:
        yield made


@pytest.fixture
def app(yard: tuple[Flask, Yard]) -> Flask:
    return yard[0]


@pytest.fixture
def store(app: Flask) -> Store:
    return runtime_of(app).store


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def press(client: FlaskClient, address: str, key: str, **more: str) -> TestResponse:
    """What the button, link or form does that a key clicks on a page."""
    page = client.get(address).text
    link = re.search(rf'<a href="([^"]+)" data-key="{re.escape(key)}"', page)
    if link:
        return client.get(link[1].replace("&amp;", "&"))
    for form in re.findall(r"<form.*?</form>", page, re.S):
        button = re.search(rf'<button([^>]*)data-key="{re.escape(key)}"', form)
        if button:
            fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form))
            named = re.search(r'name="([^"]+)" value="([^"]+)"', button[1])
            action = re.search(r'action="([^"]+)"', form)
            assert action
            data = {name: value.replace("&amp;", "&") for name, value in fields.items()}
            return client.post(action[1], data=data | ({named[1]: named[2]} if named else {}) | more)
    raise AssertionError(f"nothing on the page has the key {key}")


def test_a_page_shows_the_visit_with_the_arithmetic_and_what_it_comes_from(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "entered", "west")
    shown = client.get(f"/events/{event.id}")
    assert shown.status_code == 200
    assert "person entered west" in shown.text
    assert re.search(r"Of the same stay: .*>present at 08:00:0\d<", shown.text)
    assert "2 needed, 1 seen: eye .90, which suffices alone from .4 on" in shown.text
    assert f"/v1/frames/{event.provenance.frame_sha256[0]}" in shown.text
    assert shown.text.count("<img ") > 10
    assert 'class="course"' in shown.text
    assert f"Policy {event.provenance.policy[:8]} was in force when the burst came, and still is." in shown.text
    assert all(burst_id in shown.text for burst_id in event.provenance.burst_ids)
    assert " style=" not in shown.text


def test_the_twin_says_the_same_as_json(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "moved")
    page = client.get(f"/v1/events/{event.id}/page").json
    assert page["place"] == "west > east"
    assert page["reason"]["margin"] == event.margin
    assert page["origin"]["policy"] == event.provenance.policy
    assert page["deciding"]["sha256"] == event.provenance.frame_sha256[0]
    assert {frame["picture"] for frame in page["frames"]} == {"kept"}


def test_verify_shows_each_check_and_one_that_fails_in_words(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "entered", "west")
    checked = client.get(f"/v1/events/{event.id}/page?verify=yes").json["verified"]
    assert re.fullmatch(r"all \d+ checks hold", checked["summary"])
    assert {check["state"] for check in checked["checks"]} == {"holds"}
    folder = runtime_of(client.application).settings.data_dir
    [file] = folder.rglob(event.provenance.frame_sha256[0])
    file.write_bytes(b"another picture")
    shown = client.get(f"/events/{event.id}?verify=yes").text
    assert re.search(r"1 of \d+ checks failed", shown)
    assert "its bytes have another SHA-256" in shown


def test_one_key_an_event_judges_all_events_and_opens_the_next_without_an_answer(
    client: FlaskClient, store: Store
) -> None:
    events = [each.event for each in store.begun()]
    assert len(events) > 5
    address, keys = f"/events/{events[0].id}?site=yard&unjudged=yes", 0
    for number in range(len(events)):
        done = press(client, address, "f" if number % 2 else "t")
        assert done.status_code == 303
        address, keys = done.location, keys + 1
    assert keys == len(events)
    truths = [store.annotations.of([event.id])[event.id].truth for event in events]
    assert truths == ["false" if number % 2 else "true" for number in range(len(events))]
    assert "last event of the list without an answer" in client.get(address).text


def test_an_answer_has_the_name_of_who_is_signed_in_and_a_line_in_the_audit(app: Flask, store: Store) -> None:
    add_user(app, "anna")
    client = browser(app, "anna")
    event = event_of(store, "entered", "west")
    press(client, f"/events/{event.id}", "t", note="the postman")
    [kept] = store.annotations.history(event.id, 5)
    assert (kept.author, kept.truth, kept.note) == ("anna", "true", "the postman")
    [line] = [each for each in store.audit.page() if each.what == "annotation_added"]
    assert (line.author, line.site, line.subject) == ("anna", "yard", event.id)


def test_undo_on_the_next_page_takes_back_the_last_answer_and_goes_back_to_its_event(
    client: FlaskClient, store: Store
) -> None:
    first = store.begun(limit=1)[0].event
    done = press(client, f"/events/{first.id}?unjudged=yes", "f")
    assert f"done={first.id}" in done.location
    undone = press(client, done.location, "u")
    assert urlsplit(undone.location).path == f"/events/{first.id}"
    assert store.annotations.of([first.id])[first.id].truth == "unsure"
    listed = client.get(f"/v1/events/{first.id}/page").json
    assert [each["truth"] for each in listed["judgements"]] == ["false", "unsure"]
    again = press(client, undone.location, "t")
    assert f"done={first.id}" in again.location, "an event whose answer was taken back is open again"


def test_undo_brings_back_the_answer_before(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "entered", "west")
    address = f"/events/{event.id}"
    press(client, address, "t")
    press(client, address, "f")
    press(client, address, "u")
    assert store.annotations.of([event.id])[event.id].truth == "true"


def test_each_undo_takes_back_one_more_answer_until_none_counts(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "entered", "west")
    address = f"/events/{event.id}"
    token = csrf_token(client, address)

    def answer(action: str, **form: str) -> str:
        done = client.post(f"{address}/{action}", data={"csrf_token": token, **form})
        said = re.search(r'role="status">([^<]*)<', client.get(done.location).text)
        counting = store.annotations.of([event.id]).get(event.id)
        assert said is not None or action == "truth"
        return f"{counting and counting.truth}: {said[1].strip() if said and action == 'undo' else ''}"

    nothing = "No answer to this event counts, so there is nothing to take back."
    assert answer("undo") == f"None: {nothing}"
    for truth in ("unsure", "true", "false"):
        answer("truth", truth=truth)
    assert answer("undo") == "true: Taken back: false. It counts as true again."
    assert answer("undo") == "unsure: Taken back: true. It counts as unsure again."
    kept = store.annotations.of([event.id])[event.id]
    assert not judging.is_unjudged(kept), "a person is unsure"
    assert answer("undo") == "unsure: Taken back: unsure. The event is open again."
    kept = store.annotations.of([event.id])[event.id]
    assert judging.is_unjudged(kept)
    made = store.annotations.history(event.id, 20)
    assert answer("undo") == f"unsure: {nothing}"
    assert store.annotations.history(event.id, 20) == made
    assert 'data-key="u"' not in client.get(address).text


def test_next_and_previous_stay_in_the_list_that_the_viewer_came_from(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "entered", "west")
    asked = {"site": "yard", "camera": "gate", "sector": "west", "target": "person"}
    expected = [e.event.id for e in store.begun() if e.event.sector == "west" or e.event.from_sector == "west"]
    found, address = [event.id], f"/v1/events/{event.id}/page"
    for _ in range(20):
        page = client.get(address, query_string=asked).json
        if page["later"] is None:
            break
        assert {name: value for name, [value] in parse_qs(urlsplit(page["later"]["address"]).query).items()} == asked
        found.append(page["later"]["event"])
        address = f"/v1/events/{found[-1]}/page"
    assert found == expected[expected.index(event.id) :]


def test_the_list_of_a_viewer_has_no_events_of_other_sites_however_many_they_are(
    app: Flask, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_PAGES", (1,))
    first, *others, last = [each.event for each in store.begun()]
    assert len(others) > 3
    with store._engine.begin() as connection:
        connection.execute(insert(cameras).values(number=99, site="dock", camera="gate", longest_us=0))
        connection.execute(
            update(event_rows).where(event_rows.c.id.in_([each.id for each in others])).values(camera=99)
        )
    add_user(app, "vera", {"yard": "viewer"})
    client = browser(app, "vera")
    page = client.get(f"/v1/events/{first.id}/page").json
    assert page["later"] == {"event": last.id, "address": f"/events/{last.id}", "matches": True}
    assert client.get(f"/v1/events/{last.id}/page").json["earlier"]["event"] == first.id


def test_pages_that_list_events_link_to_them_within_their_list(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "entered", "west")
    asked = {"site": "yard", "camera": "gate", "target": "person", "kind": "entered", "sector": "west"}
    for page, expected in (
        (client.get("/day/2026-11-22", query_string=asked), asked),
        (client.get("/day/2026-11-22"), {"site": "yard"}),
        (client.get("/why?at=2026-11-22T08:00"), {"site": "yard", "camera": "gate"}),
    ):
        links = re.findall(rf'href="/events/{event.id}\?([^"]*)"', page.text)
        assert links
        for link in links:
            assert dict(parse_qsl(link.replace("&amp;", "&"))) == expected


def test_who_only_looks_sees_no_buttons_and_changes_nothing(app: Flask, store: Store) -> None:
    add_user(app, "vera", {"yard": "viewer"})
    client = browser(app, "vera")
    event = event_of(store, "entered", "west")
    shown = client.get(f"/events/{event.id}")
    assert 'data-key="t"' not in shown.text
    assert "an operator of yard may" in shown.text
    token = csrf_token(client, "/now")
    for path in (f"/events/{event.id}/truth", f"/events/{event.id}/undo"):
        assert client.post(path, data={"csrf_token": token, "truth": "true"}).status_code == 403
    missed = {"site": "yard", "camera": "gate", "fact": "entered|west", "at": "08:00", "csrf_token": token}
    assert client.post("/missed", data=missed).status_code == 403
    assert store.annotations.all() == []


def test_an_event_of_another_site_is_as_unknown_as_one_that_does_not_exist(app: Flask, store: Store) -> None:
    add_user(app, "otto", {"elsewhere": "operator"})
    client = browser(app, "otto")
    event = event_of(store, "entered", "west")
    token = csrf_token(client, "/now")
    refused = client.get(f"/events/{event.id}")
    unknown = client.get(f"/events/{'0' * 32}")
    assert (refused.status_code, unknown.status_code) == (404, 404)
    assert refused.text.replace(event.id, "") == unknown.text.replace("0" * 32, "")
    assert "page lists the events that there are" in refused.text
    assert "yard" not in refused.text.replace("sectorwatch", "")
    truth = {"csrf_token": token, "truth": "true"}
    assert client.post(f"/events/{event.id}/truth", data=truth).status_code == 404
    assert client.get(f"/v1/events/{event.id}/page").status_code == 404


def test_the_first_letters_of_an_id_lead_to_its_page(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "entered", "west")
    found = client.get(f"/events/{event.id[:8]}?site=yard")
    assert (found.status_code, found.location) == (303, f"/events/{event.id}?site=yard")


def test_a_picture_that_is_not_there_says_why_in_its_place(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "entered", "west")
    store.retention.sweep(lambda _site: Keep(frames=KeepFrames("none")))
    shown = client.get(f"/events/{event.id}").text
    assert "This picture is no longer kept." in shown
    assert "<img " not in shown
    assert 'class="box mine"' in shown


def test_an_event_whose_bursts_are_gone_says_so_and_keeps_its_facts(
    client: FlaskClient, yard: tuple[Flask, Yard], store: Store
) -> None:
    event = event_of(store, "entered", "west")
    yard[1].clock.advance(20 * 86_400)
    yard[1].pipeline.process(yard[1].walk(900, lambda _t: None, 20 * 86_400))
    store.retention.sweep(lambda _site: Keep(observations_days=1))
    shown = client.get(f"/events/{event.id}?verify=yes")
    assert shown.status_code == 200
    assert "Its frames are no longer kept: older than the site keeps" in shown.text
    assert "what the others take is no longer kept" in shown.text


def test_a_superseded_event_names_the_late_burst_and_the_event_that_counts(
    tmp_path: Path,
) -> None:
    with console(tmp_path, until_s=0) as (app, yard):
        store = runtime_of(app).store
        bursts = yard.walked(across, 26)
        for one in (*bursts[:1], *bursts[2:]):
            yard.pipeline.process(one)
        yard.pipeline.process(bursts[1])
        gone = [each for each in store.events(withdrawn=True) if each.is_withdrawn]
        assert gone
        client = app.test_client()
        for each in gone:
            shown = client.get(f"/events/{each.event.id}")
            assert shown.status_code == 200
            assert "This event no longer holds: superseded by a late burst of 2026-11-22 08:00:02." in shown.text
        replaced = [client.get(f"/v1/events/{each.event.id}/page").json["replaced_by"] for each in gone]
        assert any(replaced)


def test_what_was_missed_is_noted_with_its_instant_in_the_site_s_zone(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "left", "west")
    page = client.get(f"/events/{event.id}").text
    assert '<option value="crossed|middle">crossed middle</option>' in page
    assert '<option value="moved|west|east">moved west &gt; east</option>' in page
    token = csrf_token(client, f"/events/{event.id}")
    fields = {"site": "yard", "camera": "gate", "at": "2026-11-22 08:00:12", "csrf_token": token}
    done = client.post("/missed", data=fields | {"fact": "moved|east|west", "back": f"/events/{event.id}"})
    assert (done.status_code, done.location) == (303, f"/events/{event.id}")
    assert "Noted: person moved east &gt; west at 2026-11-22 08:00:12, missed." in client.get(done.location).text
    [kept] = store.annotations.all()
    assert (kept.truth, kept.from_sector, kept.to_sector) == ("missed", "east", "west")
    for wrong in ({"fact": "moved|east"}, {"fact": "entered|nowhere"}, {"fact": "flew|east"}, {"at": "soon"}):
        refused = client.post("/missed", data=fields | {"fact": "entered|west"} | wrong)
        assert refused.status_code in (400, 422), wrong


def test_an_address_cannot_turn_undo_into_another_form_or_to_another_site(app: Flask, store: Store) -> None:
    add_user(app, "olaf", {"yard": "viewer", "elsewhere": "operator"})
    add_user(app, "anna")
    event, other = event_of(store, "entered", "west"), event_of(store, "moved")
    anna, olaf = browser(app, "anna"), browser(app, "olaf")
    press(anna, f"/events/{event.id}", "t")
    for done in ("../../sign-out?", f"{event.id}%0A", "0" * 32, f"../{event.id}", "", "x" * 99):
        shown = anna.get(f"/events/{event.id}?done={done}")
        assert shown.status_code == 200
        assert re.findall(r'action="/events/([^"]*)/undo"', shown.text) == [event.id], done
        assert anna.get(f"/v1/events/{other.id}/page?done={done}").json["undoes"] is None
    assert anna.get(f"/v1/events/{other.id}/page?done={event.id}").json["undoes"] == event.id
    assert olaf.get(f"/v1/events/{other.id}/page?done={event.id}").json["undoes"] is None


def test_notes_and_names_are_never_html(client: FlaskClient, store: Store) -> None:
    event = event_of(store, "entered", "west")
    press(client, f"/events/{event.id}", "t", note="<script>alert(1)</script>")
    shown = client.get(f"/events/{event.id}?sector=%22%3E%3Cscript%3E").text
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert '"><script>' not in shown


def test_a_search_through_many_events_ends_and_can_go_on(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_PAGES", (1, 2))
    events = [each.event for each in store.begun()]
    page = client.get(f"/events/{events[0].id}?sector=nowhere").text
    assert "Search further on" in page
    later = client.get(f"/v1/events/{events[0].id}/page?sector=nowhere").json["later"]
    assert (later["event"], later["matches"]) == (events[3].id, False)
    done = press(client, f"/events/{events[0].id}?sector=nowhere", "t")
    assert urlsplit(done.location).path == f"/events/{events[0].id}", "nobody judges what is not in his list"
    assert "The next 3 events have an answer or are not in the list." in client.get(done.location).text


def test_an_event_at_the_border_of_days_links_to_the_day_of_its_site(tmp_path: Path) -> None:
    with console(tmp_path / "night", OSLO.replace("Europe/Oslo", "Etc/GMT+8"), until_s=26) as (app, _):
        event = event_of(runtime_of(app).store, "entered", "west")
        shown = app.test_client().get(f"/events/{event.id}").text
    assert "/day/2026-11-21?site=yard" in shown
    assert "2026-11-21 23:00:0" in shown


def test_lines_have_arrows_and_enlarged_parts_and_nuisances_are_drawn(tmp_path: Path) -> None:
    text = (
        OSLO.replace(
            "[cameras.gate.sectors.east]",
            "[cameras.gate.sectors.far]\nenlarge = true\n"
            "polygon = [[0.8, 0.4], [0.9, 0.4], [0.9, 0.5], [0.8, 0.5]]\n[cameras.gate.sectors.east]",
        )
        + "[[cameras.gate.suppress]]\nname = 'flag'\nbox = [0.8, 0.1, 0.9, 0.2]\nmax_score = 0.5\n"
    )
    with console(tmp_path / "drawn", text) as (app, _):
        client, store = app.test_client(), runtime_of(app).store
        shown = client.get(f"/events/{event_of(store, 'crossed').id}").text
        overlay = client.get(f"/v1/events/{event_of(store, 'crossed').id}/page").json["overlay"]
    [line] = overlay["lines"]
    assert line["arrow"]["text"] == "eastward"
    first, last = (float(point.split(",")[0]) for point in line["arrow"]["points"].split())
    assert first < 500 < last, "eastward is from left to right"
    assert [each["text"] for each in overlay["enlarged"]] == ["far"]
    assert [each["text"] for each in overlay["nuisances"]] == ["flag"]
    assert 'class="way head"' in shown
    assert 'class="enlarged"' in shown
