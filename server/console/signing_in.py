"""`/sign-in` and `/sign-out`.

A browser keeps a signed number of the user who signed in with it last. The number permits nothing: it only gives the
attempts of this user in this browser a count of their own, so that nobody else keeps the user out (`attempts`).
"""

from __future__ import annotations

import secrets
from http import HTTPStatus

from flask import Response, current_app, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from itsdangerous import BadSignature, URLSafeSerializer

from server.console.access import Access, is_encrypted
from server.console.pages import Pages, own_address
from server.domain.errors import OverQuota, RetryLater, Unauthorized

_DEVICE = "sectorwatch_device"
_DEVICE_S = 180 * 86_400
_DEVICE_BYTES = 8


def add(pages: Pages, access: Access) -> None:
    """The two pages that need no session."""

    @pages.shown.get("/sign-in")
    def sign_in() -> ResponseReturnValue:
        return render_template("sign_in.html", then=own_address(request.args.get("next", "/")), fault="")

    @pages.shown.post("/sign-in")
    def signed_in() -> ResponseReturnValue:
        then = own_address(request.form.get("next", "/"))
        name = request.form.get("name", "").strip().lower()[:100]
        device = _device_of(name)
        try:
            access.sign_in(name, request.form.get("password", "")[:1000], device)
        except (Unauthorized, RetryLater) as error:
            return _refused(error, name, then)
        response = make_response(redirect(then, HTTPStatus.SEE_OTHER))
        _remember(response, name, device or secrets.token_hex(_DEVICE_BYTES))
        return response

    @pages.shown.post("/sign-out")
    def signed_out() -> ResponseReturnValue:
        access.sign_out()
        response = redirect(url_for("console.sign_in"), HTTPStatus.SEE_OTHER)
        response.headers["Clear-Site-Data"] = '"cache"'  # nobody reads the pages again with the browser's Back
        return response


def _refused(error: Unauthorized | RetryLater, name: str, then: str) -> Response:
    shown = render_template("sign_in.html", then=then, fault=error.detail, name=name)
    if isinstance(error, Unauthorized):
        return make_response(shown, HTTPStatus.UNAUTHORIZED.value)
    status = HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, OverQuota) else HTTPStatus.SERVICE_UNAVAILABLE
    return make_response(shown, status.value, {"Retry-After": str(error.retry_after_s)})


def _device_of(name: str) -> str:
    """The number of this browser, if this user was the last to sign in with it; empty for another one."""
    try:
        known, device = _devices().loads(request.cookies.get(_DEVICE, ""))
    except (BadSignature, TypeError, ValueError):
        return ""
    return str(device) if known == name else ""


def _remember(response: Response, name: str, device: str) -> None:
    """Give the browser its number, for the form of `/sign-in` alone."""
    response.set_cookie(
        _DEVICE,
        _devices().dumps([name, device]),
        _DEVICE_S,
        path=url_for("console.sign_in"),
        secure=is_encrypted(request),
        httponly=True,
        samesite="Lax",
    )


def _devices() -> URLSafeSerializer:
    key = current_app.secret_key
    assert key is not None, "loaded before any form"
    return URLSafeSerializer(key, salt=_DEVICE)
