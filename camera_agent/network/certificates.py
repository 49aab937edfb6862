"""Whether the certificate of a camera or server is trusted: by fingerprint, by a file, or publicly."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.util.ssl_match_hostname import CertificateError, match_hostname

_FINGERPRINT = re.compile(r"(?i)(?:sha-?256(?:[ _]fingerprint)?\s*[=:]\s*)?((?:[0-9a-f]{2}[: ]?){31}[0-9a-f]{2})")
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_EOF", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


Connection = ssl.SSLSocket | ssl.SSLObject


class Trust(NamedTuple):
    """Which certificate a camera or server may present: the one of this SHA-256 fingerprint (64 hex digits), whatever
    name or dates are in it; else one in `ca_file`, or that a certificate in it signed; else a publicly trusted one.
    """

    ca_file: str | None = None
    fingerprint: str | None = None


PUBLIC = Trust()
"""Trusts what browsers trust."""


class Peer(NamedTuple):
    """Words for a message: what presents a certificate, who confirms its fingerprint, and where the setting belongs."""

    name: str
    confirmed: str
    place: str
    plain: str


CAMERA = Peer("camera", "its own pages show", "for this camera", "http:// there, or rtsp://")
SERVER = Peer("server", "`sectorwatch doctor` on the server prints", "in [server]", "http:// there")


def read_fingerprint(text: str) -> str:
    """64 hex digits from a fingerprint as `openssl x509 -noout -fingerprint -sha256` and browsers print it.

    Raises `ValueError`.
    """
    found = _FINGERPRINT.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            "`fingerprint` is the SHA-256 of the certificate, 64 hex digits: "
            "`openssl x509 -noout -fingerprint -sha256 -in FILE` prints it, and so does `camera-agent doctor`"
        )
    return re.sub("[: ]", "", found[1]).lower()


def spelled_fingerprint(digits: str) -> str:
    """`AB:CD:...`, as OpenSSL prints it."""
    return ":".join(digits[index : index + 2] for index in range(0, len(digits), 2)).upper()


def tls_context(trust: Trust) -> ssl.SSLContext:
    """A context whose handshake fails for a certificate that is not trusted, before anything is sent."""
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH
    if trust.fingerprint is not None:
        return _pinned(trust.fingerprint)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if trust.ca_file is None:
        _load(context, bundle)
        return context
    _load(context, trust.ca_file)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a camera's own certificate need not be an authority's
    context.check_hostname = False  # checked below, unless the file has this very certificate
    listed = _fingerprints(trust.ca_file)

    def check(connection: Connection) -> None:
        if _fingerprint(connection.getpeercert(binary_form=True)) in listed:
            return
        try:
            match_hostname(connection.getpeercert(), connection.server_hostname or "")  # type: ignore[arg-type]
        except CertificateError as error:
            raise ssl.SSLCertVerificationError(str(error)) from error

    return _checked_by(check, context)


def presented_fingerprint(host: str, port: int, timeout_s: float) -> str | None:
    """The fingerprint of the certificate that is presented there, 64 hex digits; None where there is none.

    Only the handshake is made: nothing is sent to whoever presents it. Raises `OSError`.
    """
    with socket.create_connection((host, port), timeout_s) as connection:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _accept_any(context)
        with context.wrap_socket(connection, server_hostname=host) as tls:
            return _fingerprint(tls.getpeercert(binary_form=True))


def explain_refusal(error: BaseException, host: str, port: int, trust: Trust, peer: Peer, timeout_s: float) -> str:
    """Why no TLS connection to a camera or server came about, and which of its settings mends it."""
    inner: BaseException | None = error
    reason = ""
    while inner is not None:
        if isinstance(inner, ssl.SSLCertVerificationError):
            reason = inner.verify_message if getattr(inner, "verify_message", "") else str(inner)
        inner = inner.__cause__ or inner.__context__
    if not reason and any(word in str(error) for word in _NOT_TLS):
        return f"port {port} of {host} does not speak TLS: is it {peer.plain}?"
    try:
        presented = presented_fingerprint(host, port, timeout_s)
    except OSError:
        presented = None
    if presented is None:
        return f"no TLS connection to {host} port {port} ({reason or error}): is it {peer.plain}?"
    pin = f'`fingerprint = "{spelled_fingerprint(presented)}"`'
    if presented == trust.fingerprint:
        return f"the TLS connection to {host} port {port} broke off ({error})"
    if trust.fingerprint is not None:
        return (
            f"the {peer.name} presents another certificate than its `fingerprint`: is it the right {peer.name}, was it "
            f"reset? If {peer.confirmed} the SHA-256 that it presents, set {pin} {peer.place}"
        )
    if not reason:
        return (
            f"the {peer.name}'s TLS is outdated: this machine accepts it only for a known certificate. "
            f"If {peer.confirmed} this SHA-256, set {pin} {peer.place}"
        )
    file = "" if trust.ca_file is None else " by its `ca_file`"
    return (
        f"the {peer.name}'s certificate is not trusted{file} ({reason}). If {peer.confirmed} this SHA-256, "
        f"set {pin} {peer.place}, or `ca_file` to a file with its certificate"
    )


def _pinned(fingerprint: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _accept_any(context)

    def check(connection: Connection) -> None:
        if _fingerprint(connection.getpeercert(binary_form=True)) != fingerprint:
            raise ssl.SSLCertVerificationError("another certificate than the pinned one")

    return _checked_by(check, context)


def _checked_by(check: Callable[[Connection], None], context: ssl.SSLContext) -> ssl.SSLContext:
    """The context, with a check at the end of each handshake: on a socket and, through a proxy with TLS, within TLS."""

    class CheckedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            check(self)

    class CheckedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            check(self)

    context.sslsocket_class, context.sslobject_class = CheckedSocket, CheckedObject
    return context


def _accept_any(context: ssl.SSLContext) -> None:
    """Leave the check of the certificate to the caller. Cameras' old versions and short keys will do, too."""
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")


def _load(context: ssl.SSLContext, bundle: str) -> None:
    if Path(bundle).is_dir():
        context.load_verify_locations(capath=bundle)
    else:
        context.load_verify_locations(cafile=bundle)


def _fingerprints(file: str) -> frozenset[str | None]:
    pem = Path(file).read_text(encoding="latin-1")
    blocks = re.findall("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
    return frozenset(_fingerprint(ssl.PEM_cert_to_DER_cert(block)) for block in blocks)


def _fingerprint(certificate: bytes | None) -> str | None:
    return None if not certificate else hashlib.sha256(certificate).hexdigest()
