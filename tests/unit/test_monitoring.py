"""Tests of deploy/prometheus/alerts.yml and deploy/grafana/taskd.json: their shape, and that their figures exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from taskd.runtime import meters

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
RULES: list[dict[str, Any]] = [r for g in yaml.safe_load(ALERTS.read_text())["groups"] for r in g["rules"]]
PANELS: list[dict[str, Any]] = json.loads((DEPLOY / "grafana" / "taskd.json").read_text())["panels"]
#: Figures that prometheus-client has for every process.
PROCESS = {"process_resident_memory_bytes"}
DURATION = re.compile(r"^\d+[smhd]$")


def names() -> set[str]:
    """Return every name that a scrape may have."""
    registry: CollectorRegistry = meters.REGISTRY
    return {sample for sample in registry._names_to_collectors if sample.startswith("taskd_")}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_is_complete_and_uses_known_figures(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.match(r"^Taskd[A-Za-z]+$", rule["alert"])
    assert DURATION.match(rule.get("for", "1s"))
    assert rule["labels"]["severity"] in ("page", "warn")
    assert rule["annotations"]["summary"].endswith(".")
    used = set(re.findall(r"\btaskd_\w+", rule["expr"]))
    assert used
    assert used <= names()
    assert rule["expr"].count("(") == rule["expr"].count(")")


def test_no_alert_is_defined_twice() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_each_panel_draws_known_figures(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        used = set(re.findall(r"\b(?:taskd|process)_\w+", target["expr"]))
        assert used
        assert used <= names() | PROCESS
        assert target["expr"].count("(") == target["expr"].count(")")


def test_no_two_panels_overlap() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS]
    assert len(set(places)) == len({panel["id"] for panel in PANELS}) == len(PANELS)
