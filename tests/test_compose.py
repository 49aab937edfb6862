"""The Compose file: valid by the specification's schema, confined, and made of files that are there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.settings import ServerSettings, load_settings
from tests import programs
from tests.documentation import ROOT

FILE = ROOT / "deploy" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def schema_faults(file: Path) -> str:
    checker = shutil.which("check-jsonschema") or str(Path(sys.executable).with_name("check-jsonschema"))
    typed = [checker, "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_file_is_valid_by_the_schema_of_the_compose_specification() -> None:
    assert schema_faults(FILE) == ""


def test_a_fault_in_the_file_is_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text(encoding="utf-8").replace("stop_grace_period", "stop_grace_time", 1))
    assert "stop_grace_time" in schema_faults(wrong)


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_confined_bounded_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"memory", "cpus", "pids"}
    assert "healthcheck" in service or service["build"]["dockerfile"] == "deploy/Dockerfile"
    assert "build" in service or re.search(r":v?\d", service["image"])


def test_only_the_proxy_and_the_broker_are_reached_from_outside() -> None:
    published = {name: service.get("ports", []) for name, service in SERVICES.items()}
    outside = {name for name, ports in published.items() if any(not port.startswith("127.0.0.1:") for port in ports)}
    assert outside == {"proxy", "broker"}


def test_each_secret_is_a_file_that_git_ignores_and_each_configuration_a_file_that_is_there() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
    ignored = subprocess.run(["git", "check-ignore", "-q", "deploy/secrets/database_url"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
    files = [each["file"] for each in COMPOSE["configs"].values()]
    files += [mount.partition(":/")[0] for each in SERVICES.values() for mount in each["volumes"] if mount[0] in ".$"]
    assert [file for file in files if not (FILE.parent / _DEFAULT.sub(r"\1", file)).exists()] == []


def test_the_server_is_given_longer_to_stop_than_its_uploads_may_take() -> None:
    assert int(SERVICES["server"]["stop_grace_period"].removesuffix("s")) > ServerSettings().graceful_timeout_s


def test_the_server_reads_the_settings_that_its_container_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "database_url"
    secret.write_text("postgresql://sectorwatch:word@database/sectorwatch")
    inside = {"/run/secrets/database_url": str(secret), "/etc/sectorwatch/server.toml": "deploy/server.example.toml"}
    monkeypatch.chdir(ROOT)
    for name, value in SERVICES["server"]["environment"].items():
        monkeypatch.setenv(name, inside.get(value, value))
    settings = load_settings(remembered=False)
    assert settings.admin_host == "0.0.0.0"
    assert settings.database_url.endswith("@database/sectorwatch")


def test_the_database_is_healthy_only_once_it_takes_connections_by_tcp() -> None:
    assert SERVICES["database"]["healthcheck"]["test"][:4] == ["CMD", "pg_isready", "--host", "127.0.0.1"]


def test_the_first_start_in_the_manual_names_the_files_that_compose_reads_and_a_site_that_its_token_is_for() -> None:
    manual = (FILE.parent / "README.md").read_text(encoding="utf-8").partition("### Compose\n")[2].partition("\n## ")[0]
    assert {f"secrets/{name}" for name in COMPOSE["secrets"]} <= set(re.findall(r"secrets/\w+", manual))
    written = set(re.findall(r"(SECTORWATCH_\w+)=", manual))
    assert written == set(re.findall(r"\$\{(SECTORWATCH_\w+):-", FILE.read_text(encoding="utf-8")))
    [(source, site)] = re.findall(r"^\$ install -D -m 0644 (\S+) mine/sites/(\S+)\.toml$", manual, re.M)
    assert tomllib.loads((FILE.parent / source).read_text(encoding="utf-8"))["site"] == site
    assert f"tokens add --site {site} " in manual


def test_the_proxy_s_file_is_accepted_by_caddy(tmp_path: Path) -> None:
    if missing := programs.missing():
        pytest.fail(missing)
    file = FILE.parent / "containers" / "Caddyfile"
    typed = [str(programs.program("caddy")), "validate", "--config", str(file), "--adapter", "caddyfile"]
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(typed, env=os.environ | home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
