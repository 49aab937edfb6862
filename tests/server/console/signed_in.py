"""Browsers of users: a client of an application, with a session and its cookie."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from server.app import runtime_of
from server.domain.people import Role

PASSWORD = "correct horse battery"


def add_user(app: Flask, name: str = "anna", roles: Mapping[str, Role] | None = None) -> None:
    """A user with this name; without `roles` an operator of every site."""
    runtime_of(app).store.users.add(name, PASSWORD, {"*": "operator"} if roles is None else roles)


def browser(app: Flask, name: str = "anna") -> FlaskClient:
    """The browser of a user who has just signed in."""
    client = app.test_client()
    assert sign_in(client, name).status_code == 303
    return client


def sign_in(client: FlaskClient, name: str, password: str = PASSWORD, then: str = "/now") -> TestResponse:
    """What the form of `/sign-in` answers."""
    form = {"name": name, "password": password, "next": then, "csrf_token": csrf_token(client, "/sign-in")}
    return client.post("/sign-in", data=form)


def csrf_token(client: FlaskClient, page: str = "/now") -> str:
    """The token in the forms of a page."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(page).text)
    assert found is not None
    return found[1]
