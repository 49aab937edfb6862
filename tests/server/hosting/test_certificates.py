"""The files of a certificate: how they are made, renewed, and refused."""

from __future__ import annotations

import hashlib
import shutil
import socket
import ssl
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from server.domain.errors import ConfigurationError
from server.hosting.certificate import ReloadingContext, fingerprint, remarks, valid_until
from server.hosting.self_signed import Pair, make
from server.settings import InvalidSettings, ServerSettings, load_settings
from tests.server.hosting.test_tls import sectorwatch


def test_init_makes_a_key_for_this_user_alone_and_prints_the_lines_that_an_agent_reads(tmp_path: Path) -> None:
    done = sectorwatch("tls", "init", "--data-dir", str(tmp_path / "data"), "--name", "yard.example")
    assert done.exit_code == 0, done.output
    pair = Pair(tmp_path / "data" / "tls.crt", tmp_path / "data" / "tls.key")
    assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-fingerprint", "-sha256", "-in", pair.certificate],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in ("DNS:yard.example", f"DNS:{socket.gethostname()}", "DNS:localhost", "IP Address:127.0.0.1"):
        assert name in shown
    pin = f'fingerprint = "{shown.rpartition("Fingerprint=")[2].strip()}"'
    assert done.stdout.splitlines()[::2] == ["[server]", pin]
    assert done.stdout.splitlines()[1].startswith('url = "https://')
    assert ServerSettings(data_dir=tmp_path / "data").is_https
    assert (valid_until(pair.certificate) - datetime.now(UTC)).days in (3649, 3650)


def test_init_replaces_nothing_unless_it_is_told_to(tmp_path: Path) -> None:
    assert sectorwatch("tls", "init", "--data-dir", str(tmp_path)).exit_code == 0
    before = (tmp_path / "tls.crt").read_bytes()
    again = sectorwatch("tls", "init", "--data-dir", str(tmp_path))
    assert again.exit_code == 78
    assert "--force replaces it" in again.output
    assert (tmp_path / "tls.crt").read_bytes() == before
    assert sectorwatch("tls", "init", "--data-dir", str(tmp_path), "--force").exit_code == 0
    assert (tmp_path / "tls.crt").read_bytes() != before


def test_init_puts_the_files_where_the_settings_name_them(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text('tls_cert = "etc/yard.pem"\ntls_key = "etc/yard.key"\n')
    assert sectorwatch("tls", "init", "--config", str(tmp_path / "server.toml")).exit_code == 0
    assert sorted(file.name for file in (tmp_path / "etc").iterdir()) == ["yard.key", "yard.pem"]


def test_without_openssl_s_command_the_package_that_has_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = sectorwatch("tls", "init", "--data-dir", str(tmp_path))
    assert (done.exit_code, "sudo apt-get install openssl" in done.output) == (78, True)


@pytest.mark.parametrize("one", ["tls_cert", "tls_key"])
def test_one_of_the_two_files_without_the_other_is_refused(one: str) -> None:
    with pytest.raises(InvalidSettings, match="HTTPS needs both"):
        load_settings(remembered=False, **{one: "server.pem"})


def faulty(fault: str, folder: Path, good: Pair) -> Pair:
    pair = Pair(folder / "its.crt", folder / "its.key")
    for source, file in zip(good, pair, strict=True):
        shutil.copy(source, file)
    if fault == "missing":
        pair.certificate.unlink()
    elif fault == "other key":
        make(Pair(folder / "other.crt", pair.key), ["localhost"])
    elif fault == "no PEM":
        pair.certificate.write_text("a certificate")
    else:
        locked = ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", good.key, "-out", pair.key]
        subprocess.run(locked, check=True, capture_output=True)
    return pair


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("missing", "cannot be read: No such file or directory; `sectorwatch tls init` makes one"),
        ("other key", "is not the key of `tls_cert`"),
        ("no PEM", "both must be in PEM"),
        ("locked", "needs a passphrase, which nobody can type at a start"),
    ],
)
@pytest.mark.usefixtures("own_folder")
def test_files_that_cannot_be_used_keep_the_server_from_starting_and_are_named(
    fault: str, told: str, tmp_path: Path, certificate: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECTORWATCH_MODELS", "frame-change")
    pair = faulty(fault, tmp_path, certificate)
    done = sectorwatch("serve", "--tls-cert", str(pair.certificate), "--tls-key", str(pair.key))
    assert (done.exit_code, done.stderr.count("\n")) == (78, 1), done.output
    assert told in done.stderr
    assert str(tmp_path) in done.stderr


def test_a_renewal_that_cannot_be_used_leaves_the_last_good_certificate_and_is_logged(
    tmp_path: Path, certificate: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    pair = Pair(tmp_path / "its.crt", tmp_path / "its.key")
    make(pair, ["localhost"])
    context = ReloadingContext(pair, lambda: now[0])
    first = context()
    shutil.copy(certificate.certificate, pair.certificate)  # half of a renewal: the key follows
    now[0] = 2.0
    assert context() is first
    assert "certificate not renewed" in caplog.text
    shutil.copy(certificate.key, pair.key)
    now[0] = 4.0
    assert context() is not first


def test_a_renewed_certificate_without_a_fingerprint_leaves_the_last_good_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    pair = Pair(tmp_path / "its.crt", tmp_path / "its.key")
    make(pair, ["localhost"])
    context = ReloadingContext(pair, lambda: now[0])
    first = context()
    text = pair.certificate.read_text().replace("BEGIN CERTIFICATE", "BEGIN TRUSTED CERTIFICATE")
    pair.certificate.write_text(text.replace("END CERTIFICATE", "END TRUSTED CERTIFICATE"))
    now[0] = 2.0
    assert context() is first
    assert "certificate not renewed" in caplog.text


def test_the_fingerprint_is_that_of_the_first_certificate_of_a_chain(tmp_path: Path, certificate: Pair) -> None:
    other = Pair(tmp_path / "other.crt", tmp_path / "other.key")
    make(other, ["localhost"])
    chain = tmp_path / "chain.pem"
    chain.write_text(certificate.certificate.read_text() + other.certificate.read_text())
    der = ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text())
    assert fingerprint(chain).replace(":", "").lower() == hashlib.sha256(der).hexdigest()


def test_a_certificate_that_expires_soon_and_a_key_that_others_can_read_are_remarked_on(tmp_path: Path) -> None:
    pair = Pair(tmp_path / "its.crt", tmp_path / "its.key")
    make(pair, ["localhost"], days=20)
    pair.key.chmod(0o644)
    now = datetime.now(UTC)
    said = [what for what, _mend in remarks(pair, now)]
    assert ["expires on" in said[0], "can read the key" in said[1]] == [True, True]
    assert "expired on" in next(remarks(pair, datetime(2099, 1, 1, tzinfo=UTC)))[0]
    make(pair, ["localhost"])
    assert list(remarks(pair, now)) == []


def test_a_private_key_in_the_wrong_place_is_no_certificate(tmp_path: Path, certificate: Pair) -> None:
    with pytest.raises(ConfigurationError, match="holds no certificate in PEM"):
        fingerprint(certificate.key)
