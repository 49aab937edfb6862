"""`/sign-in` and `/sign-out`."""

from __future__ import annotations

from http import HTTPStatus

from flask import make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from server.console.access import Access
from server.console.pages import Pages, own_address
from server.domain.errors import OverQuota, Unauthorized


def add(pages: Pages, access: Access) -> None:
    """The two pages that need no session."""

    @pages.shown.get("/sign-in")
    def sign_in() -> ResponseReturnValue:
        return render_template("sign_in.html", then=own_address(request.args.get("next", "/")), fault="")

    @pages.shown.post("/sign-in")
    def signed_in() -> ResponseReturnValue:
        then = own_address(request.form.get("next", "/"))
        name, password = request.form.get("name", "").strip().lower()[:100], request.form.get("password", "")[:1000]
        try:
            access.sign_in(name, password)
        except (Unauthorized, OverQuota) as error:
            status = HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, OverQuota) else HTTPStatus.UNAUTHORIZED
            shown = render_template("sign_in.html", then=then, fault=error.detail, name=name)
            response = make_response(shown, status.value)
            if isinstance(error, OverQuota):
                response.headers["Retry-After"] = str(error.retry_after_s)
            return response
        return redirect(then, HTTPStatus.SEE_OTHER)

    @pages.shown.post("/sign-out")
    def signed_out() -> ResponseReturnValue:
        access.sign_out()
        response = redirect(url_for("console.sign_in"), HTTPStatus.SEE_OTHER)
        response.headers["Clear-Site-Data"] = '"cache"'  # nobody reads the pages again with the browser's Back
        return response
