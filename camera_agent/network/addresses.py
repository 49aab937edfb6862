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
_IN_TEXT = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*://\S*?|//[^\s/@]*@\S*?|(?:(?<=url: )|(?<=GET ))/[^\s?]*(?:\?\S*?)?|\?[^\s?=&]*=\S*?)"
    r"([\])}>'\"`,.;:!]*)(?=\s|$)"
)
"""An address, or its path or query without the host: errors of urllib3 and lines of FFmpeg have it."""
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
_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        alpha api asp aspx audio auth auto av avc axis backchannel basic best bin bursts cam camera cameras cgi ch
        channel channels classify current day demo digest door east file folder frame frames ftp full gate get h hd
        hevc hi high htm html http id idx image images img index input ip ipcam isapi jpeg jpg js json lens live
        liveview login low main media medium mjpeg mjpg mode monitor motion mp mpeg mpegts multicast night north nph
        nphmotion nvr off on onvif out output path php picture pictures play png port preview profile proxy psia
        push quality realmonitor record res rtp rtsp sd secondary sensor server snap snapshot snapshots south static
        still stream streaming streams sub svc tcp test tmpfs track tracks type udp unicast use user users v vga
        video videos view viewer vod web webcam west www x y yard
        """,
    )
)
"""What the paths of cameras and servers are made of. Other words of a path, or longer numbers, may be a secret."""
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[._*-]")
_MOST_DIGITS, _MOST_NUMBERS, _MOST_LETTERS = 4, 3, 2
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
    if "/" in text or "?" in text:
        text = _IN_TEXT.sub(lambda found: _shown_part(found[1]) + found[2], text)
    return _PAIR_IN_TEXT.sub(lambda found: found[1] + HIDDEN, text)


def _shown_part(part: str) -> str:
    """An address, one without its scheme, a path or a query, as a message has it."""
    if part.startswith("//"):
        return shown(f"x:{part}").removeprefix("x:")
    if "://" in part:
        return shown(part)
    path, mark, query = part.partition("?")
    return _shown_path(path) + _shown_query(mark + query)


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
    """The path up to its first `=`, and of its steps those that are harmless: `/user=admin_password=...` is usual,
    and so is `/live/KEY`.
    """
    named, is_pair, _ = path.partition("=")
    visible = "/".join(step if _is_harmless(step) else HIDDEN for step in named.split("/"))
    return f"{visible}={HIDDEN}" if is_pair else visible


def _is_harmless(step: str) -> bool:
    """Whether a step of a path, or a value, is made of known words, single letters and short numbers."""
    parts = _PARTS.findall(step)
    numbers = [part for part in parts if part.isdigit()]
    letters = [part for part in parts if len(part) == 1 and part.isalpha()]
    return (
        "".join(parts) == step
        and len(numbers) <= _MOST_NUMBERS
        and len(letters) <= _MOST_LETTERS
        and all(len(number) <= _MOST_DIGITS for number in numbers)
        and all(part.lower() in _WORDS for part in parts if part.isalpha() and len(part) > 1)
    )


def _shown_query(query: str) -> str:
    """With values of harmless keys, and keys with a known name: any other may be a part of a password with a `&`."""
    if not query:
        return ""
    steps = []
    for step in re.split("[&;]", query[1:]):
        key, is_pair, value = step.partition("=")
        name = unquote(key).lower()
        is_harmless = name in _HARMLESS and _is_harmless(value)
        is_named = is_pair and _SECRET_KEY.fullmatch(name)
        steps.append(step if is_harmless else f"{key}={HIDDEN}" if is_named else HIDDEN)
    return "?" + "&".join(steps)
