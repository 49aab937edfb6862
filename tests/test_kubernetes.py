"""The manifests for Kubernetes: built by kustomize, valid by their schemas, and agreed among themselves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from policies.site.site_policy import parse_site_policy
from server.__main__ import command
from server.pipeline.site_policies import Sites
from server.settings import ServerSettings, described, load_settings
from tests.documentation import ROOT
from tests.server.web_client import BrightnessEnsemble, make_app

FOLDER = ROOT / "deploy" / "kubernetes"
BUILDS = ("base", "overlays/production", "overlays/ray")
VERSIONS = ("1.33", "1.35", "1.37")
CUSTOM = {"RayCluster"}
"""Kinds whose schema is not Kubernetes' own; the pods in them are checked."""

_SETTINGS = {setting.variable for setting in described()} | {"SECTORWATCH_CONFIG", "SECTORWATCH_CACHE_DIR"}
Manifest = dict[str, Any]


@cache
def built(build: str) -> tuple[Manifest, ...]:
    kubectl = shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))
    done = subprocess.run([kubectl, "kustomize", str(FOLDER / build)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def one(build: str, kind: str) -> Manifest:
    [found] = [manifest for manifest in built(build) if manifest["kind"] == kind]
    return found


def pods(build: str) -> list[Manifest]:
    """The pods that the manifests describe, each as a manifest of its own."""
    templates = [manifest["spec"]["template"] for manifest in built(build) if manifest["kind"] == "Deployment"]
    for cluster in (manifest["spec"] for manifest in built(build) if manifest["kind"] == "RayCluster"):
        templates += [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template} for template in templates]


def containers(build: str) -> list[tuple[Manifest, Manifest]]:
    """Each container with the specification of its pod."""
    specs = [pod["spec"] for pod in pods(build)]
    return [(each, spec) for spec in specs for each in (*spec.get("initContainers", ()), *spec["containers"])]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("build", BUILDS)
def test_each_manifest_is_valid_by_its_schema(build: str, version: str) -> None:
    example = yaml.safe_load((FOLDER / "base" / "secret.example.yaml").read_text(encoding="utf-8"))
    own = [manifest for manifest in built(build) if manifest["kind"] not in CUSTOM]
    for manifest in (*own, *pods(build), example):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_fault_in_a_manifest_is_noticed() -> None:
    wrong = yaml.safe_load(yaml.safe_dump(one("base", "Deployment")))
    wrong["spec"]["template"]["spec"]["terminationGraceSeconds"] = 90
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("build", BUILDS)
def test_each_container_is_confined_and_bounded_and_mounts_what_its_pod_has(build: str) -> None:
    for container, spec in containers(build):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"].keys() == {"requests", "limits"}
        assert ":" in container["image"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


@pytest.mark.parametrize("build", BUILDS)
def test_each_variable_of_a_container_is_a_setting_of_the_server(build: str) -> None:
    named = {each["name"] for container, _ in containers(build) for each in container.get("env", ())}
    assert {name.removesuffix("_FILE") for name in named} - _SETTINGS == set()


@pytest.mark.parametrize("build", BUILDS)
def test_the_settings_and_sites_are_those_that_the_server_reads(build: str, tmp_path: Path) -> None:
    maps = {m["metadata"]["name"].rpartition("-")[0]: m["data"] for m in built(build) if m["kind"] == "ConfigMap"}
    file = tmp_path / "server.toml"
    file.write_text(maps["sectorwatch-settings"]["server.toml"])
    assert load_settings(file, remembered=False).sites == "database"
    for name, text in maps["sectorwatch-sites"].items():
        assert parse_site_policy(text).site == name.removesuffix(".toml")


@pytest.mark.parametrize("build", BUILDS)
def test_a_pod_makes_the_tables_and_imports_its_sites_and_the_server_has_no_folder_of_them(
    build: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [deployment] = [pod for pod in pods(build) if any(each["name"] == "server" for each in pod["spec"]["containers"])]
    steps = [each for each in deployment["spec"]["initContainers"] if each["name"] in ("schema", "sites")]
    maps = {m["metadata"]["name"].rpartition("-")[0]: m["data"] for m in built(build) if m["kind"] == "ConfigMap"}
    (tmp_path / "server.toml").write_text(maps["sectorwatch-settings"]["server.toml"])
    monkeypatch.setenv("SECTORWATCH_CONFIG", str(tmp_path / "server.toml"))
    monkeypatch.setenv("SECTORWATCH_DATA_DIR", str(tmp_path))
    mount_configmap(tmp_path / "mounted", maps["sectorwatch-sites"])
    for step in steps:
        arguments = [each.replace("/etc/sectorwatch/sites", str(tmp_path / "mounted")) for each in step["args"]]
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 0, done.output
    assert done.stdout == "north-yard: version 1 is in force\n"
    mounting = [each["name"] for each, _ in containers(build) if "'sites'" in str(each.get("volumeMounts"))]
    assert mounting == ["sites"]


def mount_configmap(folder: Path, files: dict[str, str]) -> None:
    """Each file of a mounted ConfigMap is a link into a folder that a link names, so that all change at once."""
    (folder / "..2026_11_29").mkdir(parents=True)
    (folder / "..data").symlink_to("..2026_11_29")
    for name, text in files.items():
        (folder / "..2026_11_29" / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")


def test_a_server_reads_a_folder_of_sites_as_a_pod_sees_it(tmp_path: Path) -> None:
    mount_configmap(tmp_path, {"north-yard.toml": 'site = "north-yard"\n'})
    sites = Sites(tmp_path)
    assert (tuple(sites.sites()), dict(sites.faults()), dict(sites.passed_over())) == (("north-yard",), {}, {})


@pytest.mark.parametrize("build", BUILDS)
def test_a_pod_has_time_to_leave_the_service_and_to_finish_what_it_has_accepted(build: str) -> None:
    spec = one(build, "Deployment")["spec"]["template"]["spec"]
    [server] = spec["containers"]
    sleep_s = int(server["lifecycle"]["preStop"]["exec"]["command"][1])
    assert spec["terminationGracePeriodSeconds"] >= sleep_s + ServerSettings().graceful_timeout_s + 10


@pytest.mark.parametrize("build", BUILDS)
def test_probes_ask_the_admin_port_and_only_being_ready_depends_on_more_than_the_process(build: str) -> None:
    [server] = one(build, "Deployment")["spec"]["template"]["spec"]["containers"]
    asked = {probe: server[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")}
    assert {probe: get["path"] for probe, get in asked.items()} == {
        "startup": "/livez",
        "readiness": "/readyz",
        "liveness": "/livez",
    }
    assert {get["port"] for get in asked.values()} == {"admin"}


@pytest.mark.parametrize("build", BUILDS)
def test_service_budget_policy_and_autoscaler_mean_the_pods_of_the_server(build: str) -> None:
    deployment = one(build, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        one(build, "Service")["spec"]["selector"],
        one(build, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(build, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels for selector in selectors)
    autoscaler = one(build, "HorizontalPodAutoscaler")["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert autoscaler["minReplicas"] > 1


def test_the_metric_that_scales_is_one_of_a_live_server_and_the_adapter_s(tmp_path: Path) -> None:
    [metric] = one("base", "HorizontalPodAutoscaler")["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    [rule] = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text(encoding="utf-8"))["rules"]["custom"]
    assert (rule["name"]["as"], rule["seriesQuery"].partition("{")[0]) == (name, name)
    live = make_app(tmp_path, BrightnessEnsemble()).test_client().get("/metrics").text
    assert f"# HELP {name} " in live


def test_an_image_with_baked_weights_downloads_none() -> None:
    assert "weights" not in str(one("overlays/production", "Deployment"))
    assert "weights" in str(one("base", "Deployment"))
