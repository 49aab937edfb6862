"""Prometheus' rules and Grafana's dashboard: valid for the real parser, and of metrics that a server really has."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from server.__main__ import command as sectorwatch
from tests import programs
from tests.documentation import ROOT
from tests.server.web_client import BrightnessEnsemble, make_app

PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "sectorwatch.rules.yml"
ALERTS = ROOT / "tests" / "fixtures" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "sectorwatch.json"
_OTHERS = ("all is well", "a camera that was taken down 30 days ago, and another installation")
_METRIC = re.compile(r"\b(?:sectorwatch|process)_\w+")


def promtool(*arguments: str | Path) -> str:
    if missing := programs.missing():
        pytest.fail(missing)
    typed = [str(programs.program("promtool")), *map(str, arguments)]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """The queries of the dashboard as Prometheus gets them."""
    for panel in panels():
        for target in panel["targets"]:
            yield re.sub(r"\$__\w+", "5m", re.sub(r"\$(site|camera)\b", ".*", target["expr"]))


def test_the_rules_and_the_configuration_are_valid() -> None:
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert f"{len(rules())} rules found" in promtool("check", "rules", RULES)


def test_each_alert_fires_for_its_fault_and_none_fires_while_all_is_well() -> None:
    promtool("test", "rules", ALERTS)
    tested = [test["name"] for test in yaml.safe_load(ALERTS.read_text())["tests"]]
    assert tested == [*(rule["alert"] for rule in rules()), *_OTHERS]


def test_each_query_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions())]
    assert len(recorded) > 20
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    promtool("check", "rules", file)


def test_each_metric_of_a_rule_or_the_dashboard_is_one_of_a_live_server(tmp_path: Path) -> None:
    text = make_app(tmp_path, BrightnessEnsemble()).test_client().get("/metrics").text
    live = set()
    for family in text_string_to_metric_families(text):
        total, parts = ["_total"] if family.type == "counter" else [""], ["_bucket", "_sum", "_count"]
        live |= {family.name + end for end in (parts if family.type == "histogram" else total)}
    named = {name for source in (RULES, DASHBOARD) for name in _METRIC.findall(source.read_text())}
    assert sorted(named - live) == []


def test_each_command_that_an_alert_names_exists() -> None:
    named = [words for rule in rules() for words in re.findall(r"^sectorwatch ([a-z ]+)", rule["annotations"]["see"])]
    assert len(named) > 3
    context = click.Context(sectorwatch)
    for words in named:
        place: click.Command = sectorwatch
        for word in words.split():
            assert isinstance(place, click.Group), words
            found = place.get_command(context, word)
            assert found is not None, words
            place = found


def test_the_panels_of_the_dashboard_are_named_once_and_lie_beside_each_other() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    for key in ("id", "title"):
        values = [panel[key] for panel in dashboard["panels"]]
        assert len(set(values)) == len(values)
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells


def test_grafana_is_provisioned_with_the_source_and_the_folder_of_the_dashboard() -> None:
    grafana = ROOT / "deploy" / "grafana"
    [source] = yaml.safe_load((grafana / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((grafana / "provisioning/dashboards/sectorwatch.yml").read_text())["providers"]
    service = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]["grafana"]
    assert source["url"].removeprefix("$") in service["environment"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in service["volumes"]
