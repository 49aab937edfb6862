"""Who asks: a user who signed in, a program with a reader's token, or anybody on this machine before the first user.

A session is a row of the database; the signed cookie holds its secret. It ends when its user signs out, is removed or
gets another password, when nobody has used it for hours, and after some days in all. Before the first user is added,
the console answers on loopback alone.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from flask import Flask, Request, g, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask_login import LoginManager, UserMixin, current_user, login_user, logout_user
from flask_wtf.csrf import CSRFProtect
from itsdangerous import URLSafeTimedSerializer

from server.domain.errors import Forbidden, SectorwatchError, Unauthorized, Unknown
from server.domain.people import LOCAL, Role
from server.web.auth import ANY_SITE, Permissions, is_from_this_machine, is_loopback

log = logging.getLogger(__name__)

COOKIE = "sectorwatch"
_LOCAL = LOCAL
"""Marks the session of a browser on this machine, before the first user."""


class SignedIn(Protocol):
    """A session that goes on: whose it is, and the role of that user by site (`*`: every site)."""

    @property
    def user(self) -> str: ...
    @property
    def roles(self) -> Mapping[str, Role]: ...


class Users(Protocol):
    def has_users(self) -> bool: ...
    def signing_key(self) -> bytes: ...
    def session(self, secret: str, *, is_use: bool = True) -> SignedIn | None: ...
    def begin_session(self, name: str, password: str, address: str, device: str = "") -> str: ...
    def end_session(self, secret: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks, and the role by site (`*`: every site)."""

    name: str
    roles: Mapping[str, Role]

    @property
    def sites(self) -> frozenset[str] | None:
        """The sites that this person reads; None: every site."""
        return None if ANY_SITE in self.roles else frozenset(self.roles)

    def reads(self, site: str) -> bool:
        return ANY_SITE in self.roles or site in self.roles

    def changes(self, site: str) -> bool:
        """Whether this person annotates events of the site, and changes its policy."""
        return "operator" in (self.roles.get(site), self.roles.get(ANY_SITE))

    def to_read(self, site: str) -> str:
        """The site. Raises Unknown for one that this person does not read, as for one that is not there."""
        if not self.reads(site):
            raise Unknown(f"no site `{site[:64]}` that you may read")
        return site

    def to_change(self, site: str) -> str:
        """The site. Raises Unknown as `to_read` does, and Forbidden for a site that this person only reads."""
        self.to_read(site)
        if not self.changes(site):
            raise Forbidden(
                f"you may look at site `{site}` and not change it: an operator may "
                f"(`sectorwatch users role {self.name} operator --site {site}`)"
            )
        return site

    @property
    def changes_all(self) -> bool:
        """Whether this person changes what concerns every site."""
        return self.roles.get(ANY_SITE) == "operator"

    def to_read_all(self) -> None:
        """Raises Forbidden for who does not read every site."""
        if self.sites is not None:
            raise Forbidden(f"this concerns every site, and you read {', '.join(sorted(self.sites))}")

    def to_change_all(self) -> None:
        """Raises Forbidden for who is not operator of every site."""
        self.to_read_all()
        if not self.changes_all:
            todo = f"`sectorwatch users role {self.name} operator`"
            raise Forbidden(f"you may look and not change: an operator of every site may ({todo})")


class _Account(UserMixin):  # type: ignore[misc]
    """What Flask-Login keeps of a session."""

    def __init__(self, secret: str, viewer: Viewer) -> None:
        self._secret = secret
        self.viewer = viewer

    def get_id(self) -> str:
        return self._secret


class _Cookies(SecureCookieSessionInterface):
    """Flask's signed cookies, with the key that all servers of a database share. Without a cookie nothing is read."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if COOKIE not in request.cookies:
            return self.session_class()
        try:
            return super().open_session(app, request)
        except SectorwatchError:  # the database does not answer; the page says so
            return self.session_class()

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        _load_key(app, self._users)
        return super().get_signing_serializer(app)

    def get_cookie_secure(self, app: Flask) -> bool:
        return is_encrypted(request)


class Access:
    """Decides who asks. `install` joins it to an application."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._has_users = False

    def install(self, app: Flask) -> CSRFProtect:
        """Sessions for `app`. The result checks that a form comes from one of our own pages."""
        app.config.update(
            SESSION_COOKIE_NAME=COOKIE,
            SESSION_COOKIE_SAMESITE="Lax",
            SESSION_COOKIE_HTTPONLY=True,
            WTF_CSRF_CHECK_DEFAULT=False,
            WTF_CSRF_TIME_LIMIT=None,
            WTF_CSRF_SSL_STRICT=False,  # a proxy may stand on another port; the token and SameSite=Lax suffice
        )
        app.session_interface = _Cookies(self._users)
        # Without `init_app`: its context processor asks the database while an error page is made, and its cookie to
        # remember people by makes every answer of the API vary by cookie.
        logins = LoginManager()
        logins.session_protection = None
        logins.user_loader(self._account)
        app.login_manager = logins  # type: ignore[attr-defined]
        csrf = CSRFProtect()
        csrf.init_app(app)
        return csrf

    def load_key(self, app: Flask) -> None:
        """The key that signs cookies and forms, read once. Raises RetryLater where the database does not answer."""
        _load_key(app, self._users)

    def has_users(self) -> bool:
        """Whether a user was ever added. Removing the last one does not open the console again."""
        self._has_users = self._has_users or self._users.has_users()
        return self._has_users

    def viewer(self) -> Viewer:
        """Who asks for a page. Raises Unauthorized for who has to sign in, Forbidden for a user of no site."""
        known = self._signed_in()
        if known is not None:
            return _remembered(_of_some_site(known))
        if self.has_users():
            raise Unauthorized("sign in to see this page")
        if not is_from_this_machine(request):
            raise Unauthorized(
                "no user exists yet, so the console answers on the server's own machine only: "
                "`sectorwatch users add NAME --role operator` adds one"
            )
        if _LOCAL not in session:  # else each answer would bring the cookie again
            session[_LOCAL] = True
        return _remembered(_local())

    def known(self) -> Viewer | None:
        """Who asks, for a page that needs no session; None: nobody, or the database does not answer."""
        try:
            permissions = self.permissions()
        except SectorwatchError:
            return None
        return None if permissions is None else _remembered(Viewer(permissions.client, permissions.roles or {}))

    def reader(self, permissions: Permissions) -> Viewer:
        """Who asks for the JSON of a page. Raises Unauthorized for a program that sends no token, once there are users,
        and Forbidden for a camera.
        """
        if permissions.local and self.has_users():
            raise Unauthorized("sign in, or send a reader's token (`sectorwatch tokens add` makes one)")
        return reader_of(permissions)

    def permissions(self) -> Permissions | None:
        """What the session of the current request may read; None without one."""
        if COOKIE not in request.cookies:  # else the answer would vary by cookie
            return None
        viewer = self._signed_in()
        if viewer is None:
            is_local = _LOCAL in session and not self.has_users() and is_from_this_machine(request)
            viewer = _local() if is_local else None
        return None if viewer is None else Permissions(None, None, viewer.name, roles=viewer.roles)

    def sign_in(self, name: str, password: str, device: str) -> None:
        """Begin a session, and end that which the browser had. `device`: the browser's number, empty for another one
        than the user signed in with before. Raises Unauthorized, and OverQuota after too many attempts.
        """
        secret = self._users.begin_session(name, password, client_address(request), device)
        account = self._account(secret)
        assert account is not None, "a session that has just begun"
        self.sign_out()
        login_user(account)

    def sign_out(self) -> None:
        """End the session, for whoever holds its cookie."""
        if current_user.is_authenticated:
            self._users.end_session(current_user.get_id())
        logout_user()
        session.clear()

    def _account(self, secret: str) -> _Account | None:
        found = self._users.session(secret, is_use=_is_by_a_person(request))
        return None if found is None else _Account(secret, Viewer(found.user, found.roles))

    def _signed_in(self) -> Viewer | None:
        if COOKIE not in request.cookies or not current_user.is_authenticated:
            return None
        viewer: Viewer = current_user.viewer
        return viewer


def client_address(of: Request) -> str:
    """The address of the browser: behind a proxy on this machine, that which the proxy names; nobody else may."""
    address = of.remote_addr or ""
    named = of.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    return (_plain_address(named) if is_loopback(address) else None) or _plain_address(address) or ""


def current_viewer() -> Viewer | None:
    """Who asks, where that is known already: it asks the database for nothing."""
    viewer: Viewer | None = g.get("viewer")
    return viewer


def _of_some_site(viewer: Viewer) -> Viewer:
    if not viewer.roles:
        raise Forbidden(
            "you may read no site yet: ask whoever runs this server "
            f"(`sectorwatch users role {viewer.name} viewer --site SITE`)"
        )
    return viewer


def reader_of(permissions: Permissions) -> Viewer:
    """Who asks for the JSON of a page, by session or by token. Raises Forbidden for a camera."""
    permissions.to_read_something()
    if permissions.roles is not None:
        return _of_some_site(Viewer(permissions.client, permissions.roles))
    return _local() if permissions.local else Viewer(permissions.client, {permissions.site or ANY_SITE: "viewer"})


def is_encrypted(of: Request) -> bool:
    """Whether the browser speaks HTTPS, to this server or to the proxy before it."""
    return of.is_secure or of.headers.get("X-Forwarded-Proto", "").split(",")[0].strip() == "https"


def _is_by_a_person(of: Request) -> bool:
    """Whether a person asks, and not a page that was left open: its live parts and pictures are no use of a session."""
    is_page = "text/html" in of.headers.get("Accept", "") and "HX-Request" not in of.headers
    return is_page or of.method == "POST"


def _remembered(viewer: Viewer) -> Viewer:
    g.viewer = viewer
    return viewer


def _plain_address(text: str) -> str | None:
    """An address in its shortest form, one of version 4 as such; None for what is none."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])  # the rest names a network card
    except ValueError:
        return None
    return str(getattr(found, "ipv4_mapped", None) or found)


def _load_key(app: Flask, users: Users) -> None:
    if not app.secret_key:
        app.secret_key = users.signing_key()


def _local() -> Viewer:
    return Viewer(LOCAL, {ANY_SITE: "operator"})
