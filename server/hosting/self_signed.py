"""A key, and a certificate that it signs itself: HTTPS without an authority, known to agents by its fingerprint.

OpenSSL's command makes it. It is there where TLS is: Debian's `ca-certificates` needs it.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from server.domain.errors import ConfigurationError

DAYS = 3650
"""How long a certificate of `make` is valid. Agents know it by its fingerprint, so it need not be short-lived."""
_CONFIG = """
[req]
distinguished_name = subject
x509_extensions = extensions
prompt = no
[subject]
CN = sectorwatch
[extensions]
subjectAltName = {names}
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
"""
"""Not an authority: a machine that trusts the certificate trusts it for this server alone."""


class Pair(NamedTuple):
    """The files of a certificate (with those that lead to its authority, if there are any) and of its key, in PEM."""

    certificate: Path
    key: Path


def names_here() -> tuple[str, ...]:
    """The names and addresses under which other machines may reach this one, and those of loopback."""
    host = socket.gethostname()
    names = [host] if "." in host else [host, f"{host}.local"]
    return tuple(dict.fromkeys([*names, "localhost", *_addresses(), "127.0.0.1", "::1"]))


def make(pair: Pair, names: Sequence[str], days: int = DAYS) -> None:
    """Make a key that only this user can read, and a certificate that it signs itself, for these names and addresses.

    Files that are there are replaced. Raises ConfigurationError.
    """
    for file in pair:
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigurationError(f"cannot make the folder {file.parent}: {error.strerror}") from None
    asides = Pair(*(file.with_name(f".{file.name}.{os.getpid()}") for file in pair))
    request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256"]
    described = ["-days", str(days), "-config", "/dev/stdin"]
    before = os.umask(0o077)
    try:
        openssl(
            *request,
            *described,
            *("-out", str(asides.certificate), "-keyout", str(asides.key)),
            text=_CONFIG.format(names=_alternatives(names)),
        )
        asides.key.chmod(0o600)
        asides.certificate.chmod(0o644)
        for aside, file in zip(asides, pair, strict=True):
            aside.replace(file)
    except OSError as error:
        raise ConfigurationError(f"cannot write {error.filename}: {error.strerror}") from None
    finally:
        os.umask(before)
        for aside in asides:
            aside.unlink(missing_ok=True)


def openssl(*arguments: str, text: str = "") -> str:
    """What OpenSSL's command prints. Raises ConfigurationError where it fails, and where there is none."""
    try:
        done = subprocess.run(["openssl", *arguments], input=text, capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        raise ConfigurationError("OpenSSL's command is missing: sudo apt-get install openssl") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ConfigurationError(f"openssl {arguments[0]} failed: {last}")
    return done.stdout


def _alternatives(names: Sequence[str]) -> str:
    def one(name: str) -> str:
        try:
            return f"IP:{ip_address(name)}"
        except ValueError:
            return f"DNS:{name}"

    return ",".join(map(one, names))


def _addresses() -> list[str]:
    """The addresses of this machine: first those from which it reaches other networks. Nothing is sent."""
    found = []
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append(str(probe.getsockname()[0]).partition("%")[0])
        except OSError:  # no such network here
            continue
    with suppress(OSError):
        listed = subprocess.run(["hostname", "--all-ip-addresses"], capture_output=True, text=True, check=False)  # noqa: S607
        found += [address.partition("%")[0] for address in listed.stdout.split()]
    return found
