"""Authentication: one bearer token per camera, and reader tokens, which read and do not send.

A token is `sw_<id>_<secret>`. The id is public and names its row. The secret is 256 random bits; it is shown once and
stored only as its SHA-256. A slow password hash protects secrets that people choose. Nobody can guess 256 random bits
at any speed, so a fast hash is right and costs each request nothing.

A camera's token sends that camera's bursts and reads what its site's file says of it; it does nothing else, so a stolen
camera reveals no events. A reader's token (without a camera) reads events, of one site or of all, and uses FlexServe's
endpoints. Before the first token is made, the server listens on loopback only, and every program on the machine may use
it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from werkzeug.wrappers import Request

from server.domain.errors import Forbidden, Unauthorized
from server.domain.people import EVERY_SITE, Role
from server.domain.records import Token

ANY_SITE = EVERY_SITE
"""The site of a reader's token that reads every site."""

_NO_HASH = "-" * 64
"""Compared where no valid token came, so that a refusal takes as long; no secret has this hash."""

_READING = ("GET", "HEAD")
"""What a browser sends by itself with a session's cookie changes nothing."""

_HINT = "`sectorwatch tokens add` makes one"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made: `token` is for its user and is shown once, `id` and `hash` are for the store."""

    token: str
    id: str
    hash: str


class TokenStore(Protocol):
    def has_tokens(self) -> bool:
        """Whether a token was ever made."""
        ...

    def token(self, token_id: str) -> Token | None: ...


def new_token() -> NewToken:
    """A fresh random token."""
    token_id, secret = secrets.token_hex(5), secrets.token_urlsafe(32)
    return NewToken(f"sw_{token_id}_{secret}", token_id, _hash(secret))


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one caller may do. `site` None: any site; `camera` None: reads; both None and `local`: everything.

    `client` is the name under which the caller's quota is counted: the token's id, or the address without a token.
    `roles` has the role by site (`*`: every site) of a user who signed in to the console; a user only reads here.
    """

    site: str | None
    camera: str | None
    client: str
    local: bool = False
    roles: Mapping[str, Role] | None = None

    def reads(self, site: str) -> bool:
        """Whether the caller may read this site."""
        if self.roles is not None:
            return ANY_SITE in self.roles or site in self.roles
        return self.camera is None and self.site in (None, site)

    @property
    def sites(self) -> tuple[str | None, ...]:
        """The sites that the caller may read, for questions that name none; (None,): any."""
        if self.roles is not None:
            return (None,) if ANY_SITE in self.roles else tuple(sorted(self.roles))
        return (self.site,)

    def to_send(self) -> None:
        """Raises Forbidden unless the caller may send bursts of some camera."""
        if self.roles is not None:
            raise Forbidden("a session of the console sends no bursts: they need the token of their camera")
        if self.camera is None and not self.local:
            raise Forbidden("this is a reader's token: bursts need the token of their camera")

    def to_send_for(self, site: str, camera: str) -> None:
        """Raises Forbidden unless the caller may send bursts of this camera."""
        self.to_send()
        if not self.local and (self.site, self.camera) != (site, camera):
            raise Forbidden(
                f"this token is for camera `{self.camera}` of site `{self.site}`, not for `{camera}` of `{site}`"
            )

    def to_read_policy(self, site: str, camera: str) -> None:
        """Raises Forbidden unless the caller is this camera, or reads this site."""
        if self.camera is None:
            self.to_read(site)
        else:
            self.to_send_for(site, camera)

    def to_read_something(self) -> None:
        """Raises Forbidden for a camera's token, which reads nothing of any site."""
        if self.camera is not None:
            raise Forbidden(f"this token sends bursts only; a reader's token has no camera ({_HINT})")

    def to_read(self, site: str | None = None) -> str | None:
        """The one site that the caller may read when it asks for `site`; None: all. Raises Forbidden."""
        if self.roles is not None:
            return self._of_session(site)
        self.to_read_something()
        if self.site is not None and site not in (None, self.site):
            raise Forbidden(f"this token reads site `{self.site}`, not `{site}`")
        return self.site or site

    def _of_session(self, site: str | None) -> str | None:
        assert self.roles is not None
        if ANY_SITE in self.roles:
            return site
        if site is None and len(self.roles) == 1:
            return next(iter(self.roles))
        if site is None:
            raise Forbidden(f"say which site with `site=`: you read {', '.join(sorted(self.roles))}")
        if site not in self.roles:
            raise Forbidden(f"you do not read site `{site}`")
        return site


class Authenticator:
    """Decides what a request may do: by its token, by the session of the console that it belongs to or, without tokens,
    by where it comes from.

    `session` gives what the current request's session may read; a session is for reading alone.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        open_classify: bool = False,
        session: Callable[[], Permissions | None] = lambda: None,
    ) -> None:
        self._store = store
        self._open_classify = open_classify
        self._session = session
        self._guarded = False

    def authenticate(self, request: Request) -> Permissions:
        """The caller's permissions. Raises Unauthorized without a token that is valid now."""
        sent = request.authorization
        if sent is not None and sent.type == "bearer":
            return self._permissions_of(sent.token or "")
        if request.method in _READING and (of_session := self._session()) is not None:
            return of_session
        if self.is_guarded():
            raise Unauthorized(f"send `Authorization: Bearer <token>` ({_HINT})")
        if not is_from_this_machine(request):
            raise Unauthorized(f"no token exists yet, so only programs on this machine may ask ({_HINT})")
        return Permissions(None, None, request.remote_addr or "", local=True)

    def authenticate_to_classify(self, request: Request) -> str:
        """The caller's `Permissions.client`.

        Raises Unauthorized or Forbidden unless it may use FlexServe's endpoints.
        """
        if self._open_classify:
            return request.remote_addr or ""
        permissions = self.authenticate(request)
        permissions.to_read()
        return permissions.client

    def is_guarded(self) -> bool:
        """Whether a token was ever made. Revoking the last one does not open the server again."""
        self._guarded = self._guarded or self._store.has_tokens()
        return self._guarded

    def _permissions_of(self, token: str) -> Permissions:
        token_id, _, secret = token.removeprefix("sw_").partition("_")
        row = self._store.token(token_id) if token.startswith("sw_") else None
        expected = row.hash if row is not None and row.revoked_at_us is None else _NO_HASH
        if not hmac.compare_digest(expected, _hash(secret)) or row is None:
            raise Unauthorized(f"this token is unknown or revoked ({_HINT})")
        return Permissions(None if row.site == ANY_SITE else row.site, row.camera, token_id)


def is_loopback(host: str) -> bool:
    """Whether `host` (a name or an address) can only be reached from this machine."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return False
    return bool((getattr(address, "ipv4_mapped", None) or address).is_loopback)


def is_for_this_machine(request: Request) -> bool:
    """Whether the request is addressed to a loopback name and was not sent by another site's web page.

    A browser on this machine sends what such a page asks for, even to the page's own name if that resolves to
    127.0.0.1.
    """
    origin = request.headers.get("Origin")
    is_own_page = origin is None or is_loopback(_name(origin.partition("//")[2]))
    return is_own_page and is_loopback(_name(request.host))


def is_from_this_machine(request: Request) -> bool:
    """Whether a program on this machine asks: neither forwarded by a proxy nor sent by another site's web page."""
    is_forwarded = any(map(request.headers.get, ("Forwarded", "X-Forwarded-For")))
    return not is_forwarded and is_loopback(request.remote_addr or "") and is_for_this_machine(request)


def _name(host: str) -> str:
    """`host` without its port and brackets."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
