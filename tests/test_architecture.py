"""DESIGN's arrows hold, and each contract that holds them can fail."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("server", "policies", "camera_agent")

BREACHES = {
    "policies import nothing of ours, and do no I/O": ("policies/fold.py", "import requests"),
    "policies know no clock, no chance, no machine": ("policies/fold.py", "import time"),
    "the agent imports neither server nor policies nor torch": (
        "camera_agent/__init__.py",
        "import policies.fold",
    ),
    "the server does not import the agent": ("server/catalogue/card.py", "import camera_agent"),
    "torch has one door": ("server/pipeline/pipeline.py", "import torch"),
    "pictures have one door on each side": ("server/domain/burst.py", "import numpy"),
    "picamera2 has one door": ("camera_agent/capture/live.py", "import picamera2"),
    "SQL has one door": ("server/pipeline/site_policies.py", "import sqlalchemy"),
    "the web has one door": ("server/pipeline/pipeline.py", "import flask"),
    "gunicorn has one door": ("server/commands/serve.py", "import gunicorn"),
    "apprise has one door": ("server/delivery/factory.py", "import apprise"),
    "messages to people are built in layers": (
        "server/delivery/notify/memory.py",
        "import server.delivery.notify.post",
    ),
    "prometheus has one door": ("server/web/bursts.py", "import prometheus_client"),
    "only the composition root and the commands join the parts": ("server/web/bursts.py", "import server.store"),
    "the agent is built in layers": (
        "camera_agent/logs.py",
        "import camera_agent.agent",
    ),
    "the agent's capture is built in layers": (
        "camera_agent/capture/motion_gate.py",
        "import camera_agent.capture.live",
    ),
    "the agent's cameras are built in layers": (
        "camera_agent/cameras/camera.py",
        "import camera_agent.cameras.factory",
    ),
    "the agent's uplink is built in layers": (
        "camera_agent/uplink/byte_budget.py",
        "import camera_agent.uplink.uplink",
    ),
    "policies are built in layers": ("policies/geometry.py", "import policies.site.rules"),
    "rooms of the policies are built in layers, and no stage knows another": (
        "policies/tracking/follow.py",
        "import policies.tracking.visits",
    ),
    "the application is built in layers": ("server/app/runtime.py", "import server.app.composition"),
    "pages are built in layers and know nothing of each other": (
        "server/console/words.py",
        "import server.console.pages",
    ),
    "the page of sectors is built in layers": (
        "server/console/sectors/shapes.py",
        "import server.console.sectors.page",
    ),
    "endpoints are built in layers and know nothing of each other": (
        "server/web/events.py",
        "import server.web.models",
    ),
    "the Open Inference Protocol is built in layers": (
        "server/web/oip_v2/codec.py",
        "import server.web.oip_v2.endpoints",
    ),
    "admission is built in layers": ("server/web/admission/shares.py", "import server.web.admission.admission"),
    "the document of the API is built in layers": (
        "server/web/openapi/operations.py",
        "import server.web.openapi.own_paths",
    ),
    "settings are read by what declares them": ("server/settings/declaration.py", "import server.settings.sources"),
    "object stores have one door": ("server/frames/folder.py", "import fsspec"),
    "pyarrow has one door": ("server/analysis/exports/text_forms.py", "import pyarrow"),
    "exports are built in layers": ("server/analysis/exports/tables.py", "import server.analysis.exports.forms"),
    "Camtrap DP packages are built in layers": (
        "server/analysis/exports/camtrap/kinds.py",
        "import server.analysis.exports.camtrap.package",
    ),
    "the place of pictures is built in layers": ("server/frames/folder.py", "import server.frames.keeper"),
    "the engine is built in layers": ("server/engine/stages.py", "import server.engine.batcher"),
    "ray has one door": ("server/serving/service.py", "import ray"),
    "the ensemble on Ray is built in layers": ("server/ray_serving/wire.py", "import server.ray_serving.tally"),
    "serving is built in layers": ("server/serving/machine.py", "import server.serving.loading"),
    "what registers pages is above what it needs": (
        "server/console/pages/sharing.py",
        "import server.console.pages.registering",
    ),
    "the page of a day is built in layers": (
        "server/console/timeline/parts.py",
        "import server.console.timeline.build",
    ),
    "the page Tune is built in layers": ("server/console/tuning/address.py", "import server.console.tuning.routes"),
    "what tries changed policies is built in layers": (
        "server/analysis/tuning/scoring.py",
        "import server.analysis.tuning.past",
    ),
    "the store is built in layers": ("server/store/rows.py", "import server.store.turn"),
    "what the store knows of people is built in layers": (
        "server/store/people/audit.py",
        "import server.store.people.users",
    ),
    "argon2 has one door": ("server/store/people/users.py", "import argon2"),
    "the stored bursts are built in layers, behind one interface": (
        "server/store/bursts/packing.py",
        "import server.store.bursts.keeping",
    ),
    "the stored events are built in layers": ("server/store/events/outbox.py", "import server.store.events.rewriting"),
    "the tables share their metadata and types of columns": (
        "server/store/schema/columns.py",
        "import server.store.schema.events",
    ),
    "the care of the database is built in layers": (
        "server/store/care/integrity.py",
        "import server.store.care.salvage",
    ),
    "the channel of webhooks is built in layers": (
        "server/delivery/webhook/template.py",
        "import server.delivery.webhook.messages",
    ),
    "jinja2 has one door": ("server/delivery/webhook/messages.py", "import jinja2"),
    "paho has one door": ("server/delivery/mqtt/channel.py", "import paho.mqtt.client"),
    "the channel of MQTT is built in layers": (
        "server/delivery/mqtt/topics.py",
        "import server.delivery.mqtt.channel",
    ),
    "delivery is built in layers, and no channel knows another": (
        "server/delivery/sender.py",
        "import server.delivery.dispatcher",
    ),
    "retention is built in layers": ("server/store/retention/gone.py", "import server.store.retention.retention"),
    "refolds are built in layers": ("server/store/refolding/marks.py", "import server.store.refolding.refolds"),
    "replays are built in layers": ("server/replays/job.py", "import server.replays.service"),
    "the pipeline is built in layers": ("server/pipeline/response.py", "import server.pipeline.pipeline"),
    "the server is built in layers": ("server/domain/records.py", "import server.store.schema"),
}
"""Contract -> a file, and the line that would break the contract there."""


def contracts() -> list[str]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [contract["name"] for contract in settings["tool"]["importlinter"]["contracts"]]


def verdicts(folder: Path) -> dict[str, str]:
    """What import-linter says of the packages in `folder`: contract -> KEPT or BROKEN."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return dict(re.findall(r"^(.+?) (KEPT|BROKEN)", done.stdout, re.MULTILINE)) or {"output": done.stdout + done.stderr}


def test_every_contract_is_kept() -> None:
    assert verdicts(ROOT) == dict.fromkeys(contracts(), "KEPT")


def test_every_contract_breaks_on_an_import_it_forbids(tmp_path: Path) -> None:
    assert set(BREACHES) == set(contracts())
    copy_packages(tmp_path)
    for file, line in BREACHES.values():
        with (tmp_path / file).open("a", encoding="utf-8") as source:
            source.write(f"\n{line}\n")
    assert verdicts(tmp_path) == dict.fromkeys(contracts(), "BROKEN")


def test_a_module_without_a_place_in_the_layers_is_noticed(tmp_path: Path) -> None:
    copy_packages(tmp_path)
    (tmp_path / "server" / "anywhere.py").write_text("", encoding="utf-8")
    layers = contracts()[-1]
    assert verdicts(tmp_path)[layers] == "BROKEN"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_called_by_a_name_that_says_nothing(package: str) -> None:
    nothing = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
    named = {path.stem for path in (ROOT / package).rglob("*.py")}
    assert not named & nothing


def copy_packages(folder: Path) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
