"""Pages and their JSON: a page is one function, registered once.

The function gives a frozen struct. A template shows it, and its twin under `/v1` answers it as JSON. An action is the
function behind a form: it changes something and names the page to show then.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import msgspec
from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from policies.site.toml_errors import ready
from server.console import assets, words
from server.console.access import COOKIE, Access, Viewer, current_viewer
from server.console.pages.addresses import is_for_a_browser, without_slash
from server.console.pages.sharing import LiveParts
from server.domain.errors import Malformed, SectorwatchError, Unauthorized
from server.web.auth import Authenticator
from server.web.json_http import json_response, query_parameters
from server.web.openapi import Twin
from server.web.problem_json import http_problem, status_of

log = logging.getLogger(__name__)

MOST_FORM_BYTES = 1_000_000
"""A site policy has at most as much."""

_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

_NO_COOKIE = (
    "The form needs the cookie of this console. Allow cookies for this address, load the page again, and send it again."
)

Function = TypeVar("Function", bound=Callable[..., Any])


class NoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page without parameters."""


ready(NoQuery)


@dataclass(frozen=True, slots=True)
class To:
    """Go to another page of the console. `note` is shown there once."""

    address: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a page, for htmx to put in: a template, and what it shows."""

    template: str
    page: msgspec.Struct


class Streamed(Protocol):
    """What a feed gives: a struct for a program, server-sent events for a page."""

    def as_stream(self) -> bytes: ...


class Pages:
    """Registers pages, their twins and actions."""

    TWINS = "console_twins"
    """The blueprint of a request for a twin."""

    def __init__(self, access: Access, authenticator: Authenticator, csrf: CSRFProtect, live_parts: LiveParts) -> None:
        self._access = access
        self._authenticator = authenticator
        self._csrf = csrf
        self._live_parts = live_parts
        self.shown = Blueprint("console", "server.console", template_folder="templates")
        self.twins = Blueprint(self.TWINS, __name__)
        assets.add(self.shown)
        self.shown.before_request(self._before)
        self.shown.after_request(_guarded)
        self.shown.app_context_processor(lambda: {"asset": assets.address, "words": words})
        self.shown.app_template_filter("code")(words.with_code)
        self.shown.register_error_handler(SectorwatchError, self._failed)
        self.shown.register_error_handler(CSRFError, self._forged)
        self.shown.register_error_handler(HTTPException, self._http_failed)
        self.shown.register_error_handler(Exception, _unforeseen)
        self.shown.app_errorhandler(NotFound)(self._no_page)
        self.shown.app_errorhandler(MethodNotAllowed)(self._no_page)

    def page(
        self,
        rule: str,
        *,
        twin: Twin | None,
        template: str,
        query: type[msgspec.Struct] = NoQuery,
        is_live: bool = False,
    ) -> Callable[[Function], Function]:
        """Register `build(viewer, query, **parts of the rule)`, which gives the page's struct, or `To` another page.

        The template gets the struct as `page`, `query` and `viewer`. A request of htmx gets the same page; `hx-select`
        takes a part of it. `twin` stands in the OpenAPI document; None: another twin has all that it would have.

        `is_live`: what is in the page stays new while it is open. A request of htmx then gets the block `main` of the
        template alone, which all viewers with the same roles share for a moment. So this block gets no `viewer`, and
        `build` looks at the viewer's roles alone and always gives a struct.
        """
        ready(query)

        def register(build: Function) -> Function:
            def show(**parts: str) -> ResponseReturnValue:
                viewer = self._access.viewer()
                asked = query_parameters(query)
                if is_live and "HX-Request" in request.headers:
                    return self._live_part(viewer, lambda: _main(template, build(viewer, asked, **parts), asked))
                page = build(viewer, asked, **parts)
                if isinstance(page, To):
                    return _go(page)
                return render_template(template, page=page, query=asked, viewer=viewer)

            def answer(**parts: str) -> Response:
                reader = self._access.reader(self._authenticator.authenticate(request))
                page = build(reader, query_parameters(query), **parts)
                if isinstance(page, To):
                    raise Malformed(f"ask for the page itself: {page.address}")
                return json_response(page)

            self.shown.get(rule, endpoint=build.__name__)(show)
            if twin is not None:
                self.twins.get(twin.path, endpoint=build.__name__)(answer)
            return build

        return register

    def feed(
        self, rule: str, *, twin: Twin, query: type[msgspec.Struct]
    ) -> Callable[[Callable[..., Streamed]], Callable[..., Streamed]]:
        """Register `build(viewer, query)`, which gives what is new since `query.after`, as server-sent events.

        The answer ends at once: a browser asks again by itself, with the last number that it got. So no page holds a
        thread, and every proxy passes it.
        """
        ready(query)

        def register(build: Callable[..., Streamed]) -> Callable[..., Streamed]:
            def show() -> Response:
                asked = query_parameters(query)
                if (heard := _heard()) is not None:
                    asked = msgspec.structs.replace(asked, after=heard)
                response = Response(build(self._access.viewer(), asked).as_stream(), content_type="text/event-stream")
                response.headers["Cache-Control"] = "no-store"
                return response

            def answer() -> Response:
                reader = self._access.reader(self._authenticator.authenticate(request))
                return json_response(build(reader, query_parameters(query)))

            self.shown.get(rule, endpoint=build.__name__)(show)
            self.twins.get(twin.path, endpoint=build.__name__)(answer)
            return build

        return register

    def action(self, rule: str, *, form: type[msgspec.Struct]) -> Callable[[Function], Function]:
        """Register `act(viewer, form, **parts of the rule)`, which changes something and gives `To` or a `Part`.

        The form's fields are text; a field that is missing has its default. Only our own pages can send it.
        """

        def register(act: Function) -> Function:
            def do(**parts: str) -> ResponseReturnValue:
                viewer = self._access.viewer()
                try:
                    done = act(viewer, _filled(form), **parts)
                finally:  # it may have changed something before it failed
                    self._live_parts.forget()
                if isinstance(done, Part):
                    return render_template(done.template, page=done.page, viewer=viewer)
                return _go(done)

            self.shown.post(rule, endpoint=act.__name__)(do)
            return act

        return register

    def _live_part(self, viewer: Viewer, build: Callable[[], bytes]) -> Response:
        """The part that the current request asks for, with all news that its page has heard of."""
        key = request.full_path, tuple(sorted(viewer.roles.items()))
        response = Response(self._live_parts.of(key, _heard() or 0, build))
        response.headers["Cache-Control"] = "no-store"  # else a browser's Back shows it as the page of this address
        return response

    def _before(self) -> None:
        """The key for cookies and forms, then whether one of our own pages sent the form."""
        if request.endpoint == "console.asset":
            return
        self._access.load_key(current_app)
        if request.method == "POST":
            request.max_content_length = MOST_FORM_BYTES
            self._csrf.protect()

    def _failed(self, error: SectorwatchError) -> ResponseReturnValue:
        if isinstance(error, Unauthorized) and self._access.has_users() and request.method in ("GET", "HEAD"):
            if "HX-Request" in request.headers:
                return Response(status=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": url_for("console.sign_in")})
            there = quote(request.full_path.removesuffix("?"), safe="")
            return redirect(f"{url_for('console.sign_in')}?next={there}", HTTPStatus.SEE_OTHER)
        title, status = status_of(error)
        response = _error_page(status, title, error.detail)
        if retry_after_s := getattr(error, "retry_after_s", None):
            response.headers["Retry-After"] = str(retry_after_s)
        return response

    def _forged(self, error: CSRFError) -> Response:
        self._access.known()
        if COOKIE not in request.cookies:
            return _error_page(HTTPStatus.BAD_REQUEST, "Your browser sent no cookie", _NO_COOKIE)
        detail = "The session that the form belongs to has ended. Load the page again, sign in, and send it again."
        return _error_page(HTTPStatus.BAD_REQUEST, "The form is out of date", detail)

    def _no_page(self, error: HTTPException) -> ResponseReturnValue:
        """No page, or none for this method: for a browser a page that says so, for a program a problem document."""
        if not is_for_a_browser():
            return http_problem(error)
        if request.method in ("GET", "HEAD") and (address := without_slash()) is not None:
            return redirect(address, HTTPStatus.PERMANENT_REDIRECT)
        self._access.known()
        if isinstance(error, MethodNotAllowed):
            page = _error_page(
                HTTPStatus.METHOD_NOT_ALLOWED, "Nothing to send here", "This address takes no such form."
            )
            page.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        else:
            page = _error_page(HTTPStatus.NOT_FOUND, "Not found", "There is no page at this address.")
        return _guarded(page)

    def _http_failed(self, error: HTTPException) -> ResponseReturnValue:
        if error.code is None or error.code < HTTPStatus.BAD_REQUEST:
            return error.get_response()
        self._access.known()
        status = HTTPStatus(error.code)
        return _error_page(status, status.phrase, error.description or status.phrase)


def _heard() -> int | None:
    """The number of the newest news that the page of the current request has heard of."""
    last = request.headers.get("Last-Event-ID", "")
    return int(last) if last.isascii() and last.isdigit() and len(last) < 19 else None


def _main(template: str, page: msgspec.Struct, query: msgspec.Struct) -> bytes:
    """The block `main` of a template."""
    found = current_app.jinja_env.get_template(template)
    context: dict[str, Any] = {"page": page, "query": query}
    current_app.update_template_context(context)
    return "".join(found.blocks["main"](found.new_context(context))).encode()


def _go(to: To) -> ResponseReturnValue:
    if to.note:
        flash(to.note)
    return redirect(to.address, HTTPStatus.SEE_OTHER)


def _filled(form: type[msgspec.Struct]) -> msgspec.Struct:
    """The current request's form. Raises Malformed, which names the field."""
    names = {field.encode_name for field in msgspec.structs.fields(form)}
    given: Mapping[str, str] = {name: value for name, value in request.form.items() if name in names and value != ""}
    try:
        return msgspec.convert(given, form, strict=False)
    except msgspec.ValidationError as error:
        raise Malformed(f"the form cannot be used: {error}") from None


def _guarded(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "private, no-cache")
    return response


def _unforeseen(error: Exception) -> Response:
    instance = uuid.uuid4().urn
    log.error("page failed", extra={"instance": instance, "path": request.path}, exc_info=error)
    detail = f"An unforeseen error. The server's log has it under {instance}"
    return _error_page(HTTPStatus.INTERNAL_SERVER_ERROR, "The page could not be made", detail)


def _error_page(status: HTTPStatus, title: str, detail: str) -> Response:
    viewer = current_viewer()
    content = render_template("error.html", title=title, detail=detail, status=status.value, viewer=viewer)
    return make_response(content, status.value)
