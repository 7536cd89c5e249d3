"""deploy/prometheus/alerts.yml: it is YAML of the right shape, and speaks of figures that taskd has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from taskd.runtime import meters

FILE = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yml"
RULES: list[dict[str, Any]] = [r for g in yaml.safe_load(FILE.read_text())["groups"] for r in g["rules"]]
DURATION = re.compile(r"^\d+[smhd]$")


def names() -> set[str]:
    """Every name that a scrape may have."""
    registry: CollectorRegistry = meters.REGISTRY
    return {sample for sample in registry._names_to_collectors if sample.startswith("taskd_")}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_is_complete_and_about_something(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.match(r"^Taskd[A-Za-z]+$", rule["alert"])
    assert DURATION.match(rule.get("for", "1s"))
    assert rule["labels"]["severity"] in ("page", "warn")
    assert rule["annotations"]["summary"].endswith(".")
    used = set(re.findall(r"\btaskd_\w+", rule["expr"]))
    assert used
    assert used <= names()
    assert rule["expr"].count("(") == rule["expr"].count(")")


def test_no_alert_is_there_twice() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
