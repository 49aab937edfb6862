"""The server's certificate: read again when it changes, and described for people."""

from __future__ import annotations

import hashlib
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from server.domain.errors import ConfigurationError
from server.hosting.self_signed import Pair, openssl

log = logging.getLogger(__name__)

IN_CLEAR = "tokens and pictures cross the network in the clear"
USE_TLS = (
    "make a certificate with `sectorwatch tls init`, start the server again, and set `url` and `fingerprint` of the "
    "agents as it prints them; or set host to 127.0.0.1 behind a proxy with TLS"
)
"""What mends that."""

_SOON = timedelta(days=21)
_LOOK_EVERY_S = 1.0
_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_NOT_YOURS = "let the user who runs the server read it: sudo chown USER FILE"
_ENCRYPTED = (
    "needs a passphrase, which nobody can type at a start: store the key without one, readable by this user only"
)


class ReloadingContext:
    """Gives the TLS context of a pair of files. A renewed pair is used for the next connection, without a restart.

    Raises ConfigurationError if the files cannot be used at first. Later the last good ones stay, and the log says so.
    """

    def __init__(self, pair: Pair, clock: Callable[[], float] = time.monotonic) -> None:
        self._pair = pair
        self._clock = clock
        self._seen = _edition(pair)
        self._context = context_of(pair)
        self._look_at = clock() + _LOOK_EVERY_S

    def __call__(self) -> ssl.SSLContext:
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            if (edition := _edition(self._pair)) != self._seen:
                self._seen = edition
                self._renew()
        return self._context

    def _renew(self) -> None:
        try:
            context, printed = context_of(self._pair), fingerprint(self._pair.certificate)
        except (ConfigurationError, OSError) as error:
            log.error("certificate not renewed", extra={"detail": f"{error}; the last good one stays in use"})
        else:
            self._context = context
            log.info("certificate renewed", extra={"fingerprint": printed})


def context_of(pair: Pair) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or newer, HTTP/1.1. Raises ConfigurationError that names the file and the remedy."""
    for setting, file in (("tls_cert", pair.certificate), ("tls_key", pair.key)):
        try:
            file.read_bytes()
        except OSError as error:
            advice = _NOT_YOURS if isinstance(error, PermissionError) else "`sectorwatch tls init` makes one"
            raise ConfigurationError(f"`{setting}` {file} cannot be read: {error.strerror}; {advice}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A client that ends its half by TCP alone can still read; a cut request shows by its length.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(pair.certificate, pair.key, password=_refuse_passphrase)
    except _Encrypted:
        raise ConfigurationError(f"`tls_key` {pair.key} {_ENCRYPTED}") from None
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(_what_is_wrong(pair, error)) from None
    return context


def fingerprint(certificate: Path) -> str:
    """The SHA-256 of the first certificate in the file, as OpenSSL prints it: `AB:CD:...`."""
    first = _PEM.search(certificate.read_text(encoding="latin-1"))
    if first is None:
        raise ConfigurationError(f"`tls_cert` {certificate} holds no certificate in PEM")
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(first[0])).hexdigest().upper()
    return ":".join(digest[index : index + 2] for index in range(0, len(digest), 2))


def valid_until(certificate: Path) -> datetime:
    """When the certificate expires. Raises ConfigurationError without OpenSSL's command."""
    printed = openssl("x509", "-noout", "-enddate", "-in", str(certificate))
    return datetime.strptime(printed.strip().partition("=")[2], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC)


def remarks(pair: Pair, now: datetime) -> Iterator[tuple[str, str]]:
    """What an operator should know of a pair that can be used, each with what mends it."""
    try:
        until = valid_until(pair.certificate)
    except ConfigurationError as error:
        yield f"nobody knows when the certificate {pair.certificate} expires", error.detail
    else:
        if until <= now + _SOON:
            state = "expired on" if until <= now else "expires on"
            what = (
                f"the certificate {pair.certificate} {state} {until:%Y-%m-%d}: agents that do not pin it refuse it then"
            )
            yield what, "renew it, or make one with `sectorwatch tls init --force`, whose fingerprint agents then need"
    if pair.key.stat().st_mode & 0o004:
        yield f"other users of this machine can read the key {pair.key}", f"chmod 600 {pair.key}"


class _Encrypted(Exception):
    pass


def _refuse_passphrase() -> str:
    raise _Encrypted


def _what_is_wrong(pair: Pair, error: OSError) -> str:
    reason = str(getattr(error, "reason", None) or error)
    if "KEY_VALUES_MISMATCH" in reason or "KEY_TYPE_MISMATCH" in reason:
        return (
            f"`tls_key` {pair.key} is not the key of `tls_cert` {pair.certificate}: name the two that belong together"
        )
    return (
        f"`tls_cert` {pair.certificate} and `tls_key` {pair.key} cannot be used "
        f"({reason.lower().replace('_', ' ')}): both must be in PEM"
    )


def _edition(pair: Pair) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes when a file is replaced, also through a symbolic link."""

    def of(file: Path) -> tuple[int, int, int] | None:
        try:
            stat = file.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    return tuple(map(of, pair))
