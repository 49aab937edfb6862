"""Hides secrets in text that people read: logs, errors of libraries, names of databases. Every formatter uses it."""

from __future__ import annotations

import re

HIDDEN = "***"
_TOKEN = re.compile(r"\b(sw_[0-9a-f]{10})_[\w-]+")
_PATH = re.compile(r"(?<=\burl: )/\S+")
"""An address as urllib3 names it, without its host."""
_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://\S+")
_USER = re.compile(r"(?<=://)(?P<user>[^/?#\s:]*)(?::[^\s]*)?@(?=[^@]*$)")
_VALUE = re.compile(r"([?&;][^=&;#\s]*=)[^&;#\s'\")\]},]*")
_FRAGMENT = re.compile(r"#[^\s'\")\]},]+")
_PLAIN_VALUE = re.compile(r"[?&;](?:sslmode|connect_timeout|application_name|timeout|mode|uri|page|limit)=$")
_PAIR = re.compile(
    r"""(?i)(\b[a-z_-]*(?:password|passwd|pwd|secret|api_?key|authorization)['"]?\s*[:=]\s*['"]?(?:(?:basic|bearer)\s+)?)"""
    r"""(?!\*\*\*)[^\s'"&,)}\]]+"""
)


def without_secrets(text: str) -> str:
    """The text without passwords, values of queries and fragments of the addresses in it, values of `password=`,
    and secrets of tokens.
    """
    if "://" in text:
        text = _ADDRESS.sub(lambda found: _shown(found[0]), text)
    text = _PATH.sub(lambda found: _shown(found[0]), text)
    text = _TOKEN.sub(rf"\g<1>_{HIDDEN}", text)
    return _PAIR.sub(lambda found: found[1] + HIDDEN, text)


def _shown(address: str) -> str:
    address = _USER.sub(lambda found: f"{found['user']}:{HIDDEN}@" if ":" in found[0] else found[0], address)
    head, mark, query = address.partition("?")
    values = _VALUE.sub(lambda found: found[0] if _PLAIN_VALUE.fullmatch(found[1]) else found[1] + HIDDEN, mark + query)
    return _FRAGMENT.sub(f"#{HIDDEN}", head + values)
