"""Basic (RFC 7617) and Digest (RFC 7616, RFC 2069) authentication, from whatever a camera offers.

`requests.auth.HTTPDigestAuth` reads one challenge only, and no `auth-int`, `userhash` or quoted comma. Cameras send
several challenges in one header or in several, in any order, and renew the nonce as they like.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import NamedTuple

import requests
from requests.auth import AuthBase

from camera_agent.network.addresses import Credentials

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word
_PARAMETER = re.compile(rf'({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))')
_SCHEME = re.compile(_TOKEN)
_HASHES = {"SHA-512-256": "sha512_256", "SHA-256": "sha256", "MD5": "md5"}
"""From the strongest to the weakest."""
_MAX_TRIES = 3
"""For one picture. Many cameras lock a user out after five wrong passwords."""
_MAX_RENEWALS = 2


class Challenge(NamedTuple):
    """One offer of a `WWW-Authenticate` header. The scheme and the keys are in lower case."""

    scheme: str
    parameters: dict[str, str]

    @property
    def hash_name(self) -> str:
        """The algorithm of a Digest without `-sess`, as in `_HASHES`."""
        return self.parameters.get("algorithm", "MD5").upper().removesuffix("-SESS")

    @property
    def rank(self) -> int:
        """The smaller, the stronger. Negative for an offer that cannot be used."""
        if self.scheme == "basic":
            return len(_HASHES)
        is_usable = self.scheme == "digest" and "nonce" in self.parameters and self.hash_name in _HASHES
        return list(_HASHES).index(self.hash_name) if is_usable else -1


def challenges(header: str) -> list[Challenge]:
    """All challenges of a header (RFC 9110, section 11.6.1), also of several that are joined by commas."""
    found: list[Challenge] = []
    position = 0
    while position < len(header):
        if parameter := _PARAMETER.match(header, position):
            key, quoted, plain = parameter.groups()
            if found:
                value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                found[-1].parameters.setdefault(key.lower(), value)
            position = parameter.end()
        elif scheme := _SCHEME.match(header, position):
            found.append(Challenge(scheme[0].lower(), {}))
            position = scheme.end()
        else:  # a comma, a space, or what no grammar knows
            position += 1
    return found


class Login(AuthBase):
    """What a user and a password are worth to one camera. It keeps what the camera accepted for the next request.

    Call `begin` before each picture, and `is_worth_another_try` after each answer. The password is sent as the camera
    asks for it, strongest offer first; nothing is sent before it asks.
    """

    def __init__(self, given: Credentials) -> None:
        self._given = given
        self._encodings = ["utf-8"]
        if not "".join(given).isascii():
            self._encodings += ["latin-1"] if _fits_latin_1(given) else []
        self._current: tuple[Challenge, str] | None = None
        self._cnonce = os.urandom(8).hex()
        self._count = 0
        self._was_accepted = False
        self._tried: set[tuple[str, str, str]] = set()
        self._renewals = 0

    def begin(self) -> None:
        """A new picture: what failed for the last one may be tried again."""
        self._tried = set()
        self._renewals = 0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._current is None:
            return request
        challenge, encoding = self._current
        if challenge.scheme == "basic":
            pair = f"{self._given.user}:{self._given.password}".encode(encoding)
            request.headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
            return request
        self._count += 1
        value = digest_value(
            challenge, self._given, request.method or "GET", request.path_url, self._count, self._cnonce, encoding
        )
        request.headers["Authorization"] = value.encode(encoding)  # type: ignore[assignment]
        return request

    def is_worth_another_try(self, answer: requests.Response) -> bool:
        """Take in an answer. True if the same request has better prospects now."""
        if answer.status_code not in (401, 403):
            self._was_accepted = self._current is not None
            self._take_next_nonce(answer)
            return False
        offers = challenges(answer.headers.get("WWW-Authenticate", ""))
        if not offers:
            if answer.status_code == 403 and self._current is not None:
                return False  # it knows the user, and does not allow this picture
            offers = [Challenge("basic", {})]  # some expect a password without asking
        usable = sorted((offer for offer in offers if offer.rank >= 0), key=lambda offer: offer.rank)
        return self._renew(usable) or self._choose(usable)

    def _renew(self, offers: list[Challenge]) -> bool:
        """The same again with the camera's new nonce, where only the old nonce was wrong."""
        if self._current is None or self._renewals >= _MAX_RENEWALS:
            return False
        challenge, encoding = self._current
        same = next((offer for offer in offers if _key(offer, "") == _key(challenge, "")), None)
        if same is None or same.parameters.get("nonce") == challenge.parameters.get("nonce"):
            return False
        if not self._was_accepted and same.parameters.get("stale", "").lower() != "true":
            return False
        self._renewals += 1
        self._use(same, encoding)
        return True

    def _choose(self, offers: list[Challenge]) -> bool:
        if self._current is not None:
            self._tried.add(_key(*self._current))
            self._current, self._was_accepted = None, False
        if len(self._tried) >= _MAX_TRIES:
            return False
        for offer in offers:
            for encoding in self._encodings:
                if _key(offer, encoding) not in self._tried:
                    self._use(offer, encoding)
                    return True
        return False

    def _use(self, challenge: Challenge, encoding: str) -> None:
        self._current, self._count, self._cnonce = (challenge, encoding), 0, os.urandom(8).hex()

    def _take_next_nonce(self, answer: requests.Response) -> None:
        """`Authentication-Info: nextnonce="..."` (RFC 7616, section 3.5)."""
        info = challenges("digest " + answer.headers.get("Authentication-Info", ""))[0].parameters
        if self._current is not None and self._current[0].scheme == "digest" and info.get("nextnonce"):
            challenge, encoding = self._current
            self._use(challenge._replace(parameters={**challenge.parameters, "nonce": info["nextnonce"]}), encoding)


def digest_value(
    challenge: Challenge, given: Credentials, method: str, uri: str, count: int, cnonce: str, encoding: str = "utf-8"
) -> str:
    """The value of `Authorization` for a Digest challenge (RFC 7616, section 3.4), for a request without a body."""
    asked = challenge.parameters
    realm, nonce = asked.get("realm", ""), asked["nonce"]

    def hashed(*parts: str) -> str:
        text = ":".join(parts).encode(encoding)
        return hashlib.new(_HASHES[challenge.hash_name], text, usedforsecurity=False).hexdigest()

    offered = {word.strip().lower() for word in asked.get("qop", "").split(",")}
    qop = next((word for word in ("auth", "auth-int") if word in offered), None)
    secret = hashed(given.user, realm, given.password)
    if asked.get("algorithm", "").upper().endswith("-SESS"):
        secret = hashed(secret, nonce, cnonce)
    about = hashed(method, uri) if qop != "auth-int" else hashed(method, uri, hashed(""))
    counted = f"{count:08x}"
    response = hashed(secret, nonce, about) if qop is None else hashed(secret, nonce, counted, cnonce, qop, about)
    has_user_hash = asked.get("userhash", "").lower() == "true"
    user = hashed(given.user, realm) if has_user_hash else given.user
    fields = [f"{key}={_quoted(text)}" for key, text in (("username", user), ("realm", realm), ("nonce", nonce))]
    fields += [f"uri={_quoted(uri)}", f'response="{response}"']
    fields += [f"algorithm={asked['algorithm']}"] if "algorithm" in asked else []
    fields += [f"opaque={_quoted(asked['opaque'])}"] if "opaque" in asked else []
    fields += [f"qop={qop}", f"nc={counted}"] if qop is not None else []
    fields += [f'cnonce="{cnonce}"'] if qop is not None or asked.get("algorithm", "").upper().endswith("-SESS") else []
    fields += ["userhash=true"] if has_user_hash else []
    return "Digest " + ", ".join(fields)


def _key(challenge: Challenge, encoding: str) -> tuple[str, str, str]:
    return challenge.scheme, challenge.hash_name if challenge.scheme == "digest" else "", encoding


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _fits_latin_1(given: Credentials) -> bool:
    try:
        "".join(given).encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True
