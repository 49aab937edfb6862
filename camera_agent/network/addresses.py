"""Addresses of cameras, servers and proxies: the password in them, and what of an address may be shown.

What cannot be taken apart for certain is hidden whole: a password with a `/`, `?` or `#` makes a part of itself look
like a host, a port or a path.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

HIDDEN = "***"
_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^/?#]*@)?"
    r"(?P<host>(?:\[[^\s/?#@\[\]]*\]|[^\s/?#@:\[\]]*)(?::[0-9]*)?)"
    r"(?P<path>(?:/[^?#@]*)?)(?P<query>(?:\?[^#@]*(?:@[^#@/]*)*)?)(?P<fragment>(?:\#[^@]*)?)"
)
"""An `@` stands before the host or in the last values of the query; anywhere else it may end a password."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BARE = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._/-]*)?")
"""A host without a scheme, as people write it by mistake."""
_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://\S*?|\?[^\s?=&]*=\S*?)([\])}>'\"`,.;:!]*)(?=\s|$)")
"""An address, or the query of one without its host: urllib3's errors have it."""
_PAIR_IN_TEXT = re.compile(
    r"""(?i)(\b[a-z_-]*(?:pass\w*|pwd|token|secret|api_?key|auth|usr)(?:=|['"]\s*[:=]\s*)|\bauthorization['"]?\s*[:=]\s*)"""
    r"""(?!\*\*\*)(?:b?['"])?(?:(?:basic|bearer|digest)\s+)?[^\s&]+"""
)
_EXAMPLE = "user:password@"
"""The user part in our own advice."""
_HARMLESS = frozenset(
    {"camera", "cam", "ch", "channel", "compression", "fps", "height", "id", "profile", "quality", "resolution", "size"}
    | {"stream", "subtype", "width"}
)
"""Keys of a query whose short values are shown. Cameras have too many words for a password to list those instead."""
_SECRET_KEY = re.compile(r"(?:login|user|usr|name|pass|pw|token|secret|api_?key|key|auth)[a-z_]{0,8}")
_SHORT_VALUE = re.compile(r"[A-Za-z0-9.x*_-]{0,12}")
_TOKEN = re.compile(r"(?=[^/]*[0-9])(?=[^/]*[A-Za-z])[A-Za-z0-9]{16,}")
_MALFORMED_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODE = "in user and password write @ as %40, / as %2F, ? as %3F, # as %23, : as %3A and % as %25"
_MAX_PORT = 65_535


class Credentials(NamedTuple):
    """A user and a password as they are typed, not percent-encoded."""

    user: str
    password: str


def shown(address: str) -> str:
    """The address for people: no user, no password, no value of a query or path that may be a secret."""
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        if _BARE.fullmatch(address):
            return address
        scheme = _SCHEME.match(address)
        return f"{scheme[0] if scheme else ''}{HIDDEN}"
    user = f"{HIDDEN}@" if parts["user"] not in (None, _EXAMPLE) else parts["user"] or ""
    fragment = f"#{HIDDEN}" if parts["fragment"] else ""
    return f"{parts['scheme']}{user}{parts['host']}{_shown_path(parts['path'])}{_shown_query(parts['query'])}{fragment}"


def without_secrets(text: str) -> str:
    """The text with every address in it as `shown`, and without the values of words such as `password=`.

    For messages of libraries, which quote addresses in whole or in part.
    """
    if "://" in text or "?" in text:
        text = _IN_TEXT.sub(
            lambda found: (_shown_query if found[1].startswith("?") else shown)(found[1]) + found[2], text
        )
    return _PAIR_IN_TEXT.sub(lambda found: found[1] + HIDDEN, text)


def address_fault(address: str, schemes: tuple[str, ...]) -> str | None:
    """Why no connection can be made with this address, and what to write; None for a usable one."""
    if any(sign.isspace() or not sign.isprintable() for sign in address):
        return "contains a space or an invisible character: write a space as %20"
    scheme = _SCHEME.match(address)
    if scheme is None or scheme[0].lower().removesuffix("://") not in schemes:
        return f"{shown(address)!r} does not begin with {' or '.join(f'{scheme}://' for scheme in schemes)}"
    if _ADDRESS.fullmatch(address) is None and "@" in address:
        return f"{shown(address)!r} cannot be taken apart: {_ENCODE}; an @ behind the host is %40, too"
    no_host = f"{shown(address)!r} names no valid host and port: {schemes[0]}://host:port/"
    try:
        parts = urlsplit(without_credentials(address))
        port = parts.port
    except ValueError:  # its text quotes a part of the address
        return no_host
    if _ADDRESS.fullmatch(address) is None or not parts.hostname or port == 0:
        return no_host
    return None


def address_advice(address: str) -> str | None:
    """What to write instead in an address that is usable, but that other programs understand in another way."""
    user = _user_part(address)
    if "@" in user or _MALFORMED_PERCENT.search(user):
        return _ENCODE
    return None


def credentials(address: str) -> Credentials | None:
    """User and password of the address; None without a user part."""
    user = _user_part(address)
    name, _, password = user.partition(":")
    return Credentials(unquote(name), unquote(password)) if user else None


def without_credentials(address: str) -> str:
    """The address without its user part: what a library gets that would quote it in its errors."""
    parts = _ADDRESS.match(address)
    if parts is None or parts["user"] is None:
        return address
    return parts["scheme"] + address[parts.end("user") :]


def with_credentials(address: str, given: Credentials | None) -> str:
    """The address with this user part, percent-encoded so that every program reads it alike."""
    bare = without_credentials(address)
    if given is None:
        return bare
    scheme, _, rest = bare.partition("://")
    return f"{scheme}://{quote(given.user, safe='')}:{quote(given.password, safe='')}@{rest}"


def at_host(address: str, scheme: str, host: str, port: int) -> str:
    """The same address with another scheme, host and port; it has no user part then."""
    parts = urlsplit(without_credentials(address))
    return urlunsplit((scheme, f"{host}:{port}", parts.path, parts.query, ""))


def is_loopback(address: str) -> bool:
    """Whether the address leads to this machine."""
    host = (urlsplit(without_credentials(address)).hostname or "").rstrip(".")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _user_part(address: str) -> str:
    parts = _ADDRESS.match(address)
    return "" if parts is None or parts["user"] is None else str(parts["user"])[:-1]


def _shown_path(path: str) -> str:
    """The path up to its first `=`, and without tokens: `/user=admin_password=...` is usual, too."""
    named, is_pair, _ = path.partition("=")
    visible = "/".join(HIDDEN if _TOKEN.fullmatch(step) else step for step in named.split("/"))
    return f"{visible}={HIDDEN}" if is_pair else visible


def _shown_query(query: str) -> str:
    """With values of harmless keys, and keys with a known name: any other may be a part of a password with a `&`."""
    if not query:
        return ""
    steps = []
    for step in re.split("[&;]", query[1:]):
        key, is_pair, value = step.partition("=")
        name = unquote(key).lower()
        is_harmless = name in _HARMLESS and _SHORT_VALUE.fullmatch(value)
        is_named = is_pair and _SECRET_KEY.fullmatch(name)
        steps.append(step if is_harmless else f"{key}={HIDDEN}" if is_named else HIDDEN)
    return "?" + "&".join(steps)
