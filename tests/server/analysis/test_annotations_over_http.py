"""Annotations over HTTP: who may, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient

from policies.events import instant
from server.analysis.annotations import annotation_of
from server.app import runtime_of
from server.web.auth import ANY_SITE, new_token
from tests.server.analysis.annotated import ids
from tests.server.scenes import Yard
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = make_app(tmp_path, BrightnessEnsemble())
    frames = [jpeg(grey) for grey in (0, 1, *range(200, 212), *range(2, 42))]
    assert app.test_client().post("/v1/bursts", data=body(envelope(frames), frames)).status_code == 201
    yield app
    runtime_of(app).store.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def reader(app: Flask, site: str, camera: str | None = None) -> dict[str, str]:
    made = new_token()
    runtime_of(app).store.add_token(made.id, "test", site, camera, made.hash)
    return {"Authorization": f"Bearer {made.token}"}


def seen_by_a_person(**changes: Any) -> dict[str, Any]:
    fact = {"site": "north-yard", "camera": "gate", "kind": "left", "sector": "view", "at": "2027-01-15T07:59:05Z"}
    return {"author": "ann", "missed": fact | changes}


def test_an_event_is_annotated_over_http_and_read_back_page_by_page(app: Flask, client: FlaskClient) -> None:
    event = client.get("/v1/events").get_json()["events"][0]
    answer = client.post("/v1/annotations", json={"event": event["id"], "truth": "true", "author": "ann"})
    assert (answer.status_code, answer.get_json()["subject"]) == (201, event["id"])
    answer = client.post("/v1/annotations", json=seen_by_a_person() | {"note": "behind the van"})
    assert (answer.status_code, answer.get_json()["truth"]) == (201, "missed")
    page = client.get("/v1/annotations?limit=1").get_json()
    assert ([a["truth"] for a in page["annotations"]], page["next"]) == (["true"], 1)
    page = client.get("/v1/annotations?after=1&site=north-yard").get_json()
    assert ([a["note"] for a in page["annotations"]], page["next"]) == (["behind the van"], 2)
    assert client.get("/v1/annotations?after=2").get_json() == {"annotations": [], "next": 2}


def test_an_annotation_is_not_kept_without_its_line_in_the_audit(yard: Yard) -> None:
    made = annotation_of(yard.store, ids(yard)[0], "true", "ann")
    with pytest.raises(UnicodeEncodeError):  # of an author whom no database can store
        yard.store.annotations.add([made], by="ann\ud800")
    assert yard.store.annotations.all() == []
    yard.store.annotations.add([made, made], by="ann")
    [line] = yard.store.audit.page()
    assert (line.author, line.subject, line.detail) == ("ann", made.subject, "true entered, and 1 more")


def test_who_annotates_over_http_is_in_the_audit_by_the_token_whatever_the_author_says(
    app: Flask, client: FlaskClient
) -> None:
    headers = reader(app, "north-yard")
    store = runtime_of(app).store
    body = seen_by_a_person() | {"author": "somebody else"}
    assert client.post("/v1/annotations", json=body, headers=headers).status_code == 201
    (line, *_others) = store.audit.page()
    (token,) = store.list_tokens()
    assert (line.author, line.what, line.site) == (f"token {token.id}", "annotation_added", "north-yard")
    assert line.subject == store.annotations.all()[0].subject
    assert line.detail == "missed left, by somebody else"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"truth": "true", "author": "ann"}, 400),
        ({"event": "0" * 32, "author": "ann"}, 400),
        ({"event": "0" * 32, "truth": "maybe", "author": "ann"}, 400),
        ({"event": "0" * 32, "truth": "true"}, 400),
        ({"event": "0" * 32, "truth": "true", "author": "ann", "colour": 1}, 400),
        ({"event": "0" * 32, "truth": "true", "author": "ann"}, 404),
        (seen_by_a_person(camera="door"), 404),
        (seen_by_a_person(sector="attic"), 422),
        (seen_by_a_person() | {"truth": "true"}, 400),
    ],
)
def test_what_is_no_annotation_is_refused(client: FlaskClient, body: dict[str, Any], status: int) -> None:
    assert client.post("/v1/annotations", json=body).status_code == status
    assert client.get("/v1/annotations").get_json()["annotations"] == []


def test_a_form_from_a_foreign_page_is_no_annotation(client: FlaskClient) -> None:
    assert client.post("/v1/annotations", data="{}", content_type="text/plain").status_code == 415
    for data in (b"{", b'{"author": "\xff"}'):
        assert client.post("/v1/annotations", data=data, content_type="application/json").status_code == 400
    much = client.post("/v1/annotations", json=seen_by_a_person() | {"note": "x" * 70_000})
    assert much.status_code == 413
    assert client.get("/v1/annotations?limit=0").status_code == 400
    assert client.get(f"/v1/annotations?after={2**63}").status_code == 400
    assert client.get("/v1/annotations?colour=red").status_code == 400


def test_only_readers_of_the_site_annotate_and_see_its_annotations(app: Flask, client: FlaskClient) -> None:
    event = client.get("/v1/events").get_json()["events"][0]
    mine, other = reader(app, "north-yard"), reader(app, "dock")
    camera, every = reader(app, "north-yard", "gate"), reader(app, ANY_SITE)
    body = {"event": event["id"], "truth": "false", "author": "ann"}
    assert client.post("/v1/annotations", json=body).status_code == 401
    assert client.post("/v1/annotations", json=body, headers=camera).status_code == 403
    assert client.post("/v1/annotations", json=seen_by_a_person(), headers=other).status_code == 403
    hidden = client.post("/v1/annotations", json=body, headers=other)
    absent = client.post("/v1/annotations", json=body | {"event": "0" * 32}, headers=other)
    assert hidden.status_code == absent.status_code == 404
    assert client.post("/v1/annotations", json=body, headers=mine).status_code == 201
    assert client.post("/v1/annotations", json=body, headers=every).status_code == 201
    assert len(client.get("/v1/annotations", headers=mine).get_json()["annotations"]) == 2
    assert client.get("/v1/annotations", headers=other).get_json()["annotations"] == []
    assert client.get("/v1/annotations?site=north-yard", headers=other).status_code == 403
    assert client.get("/v1/annotations", headers=camera).status_code == 403


def test_an_annotations_time_is_told_as_an_instant(client: FlaskClient) -> None:
    added = client.post("/v1/annotations", json=seen_by_a_person()).get_json()
    assert added["at"] == msgspec.to_builtins(instant(1_800_000_000_000_000 - 55_000_000))
