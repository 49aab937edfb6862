"""Certificates for servers on loopback, made by OpenSSL."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def certificate(
    folder: Path, name: str, *, subject_names: str = "IP:127.0.0.1", authority: tuple[Path, Path] | None = None
) -> tuple[Path, Path]:
    """A certificate that signs itself, or that `authority` signs, and its key."""
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    named = ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={subject_names}"]
    signed = [] if authority is None else ["-CA", str(authority[0]), "-CAkey", str(authority[1])]
    subprocess.run([*request, *named, *signed, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


def fingerprint_line(pem: Path) -> str:
    """What OpenSSL prints: `sha256 Fingerprint=AB:CD:...`."""
    printed = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(pem)]
    return subprocess.run(printed, check=True, capture_output=True, text=True).stdout.strip()


def context_of(pem: Path, key: Path) -> ssl.SSLContext:
    """A server's TLS with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context
