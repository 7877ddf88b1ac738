"""Rules, dashboards and runbooks agree with each other and with the catalogue of metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram, Info

from proto import metrics

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
UNITS = {"s", "ops", "short", "percentunit", "bytes"}


def rules() -> list[dict[str, Any]]:
    loaded = yaml.safe_load((PROMETHEUS / "watchword.rules.yml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    boards = [json.loads(file.read_text()) for file in sorted(GRAFANA.glob("*.json"))]
    return [panel for board in boards for panel in board["panels"] if panel["type"] != "row"]


def exposed() -> set[str]:
    """Every name of a series that our processes have."""
    names = set()
    for metric in vars(metrics).values():
        match metric:
            case Counter():
                names.add(f"{metric._name}_total")
            case Histogram():
                names |= {f"{metric._name}_{part}" for part in ("bucket", "sum", "count")}
            case Info():
                names.add(f"{metric._name}_info")
            case Gauge():
                names.add(metric._name)
    return names


def asked() -> Iterator[tuple[str, str]]:
    """Every expression, with where it stands."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_every_metric_that_a_rule_or_a_panel_asks_for_exists() -> None:
    there = exposed()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for where, expr in asked():
        assert set(re.findall(r"watchword_[a-z_]+", expr)) <= there, where
        assert set(re.findall(r"watchword:[a-z_:0-9]+", expr)) <= recorded, where


def test_every_panel_says_what_it_shows_in_which_unit_and_names_its_lines() -> None:
    assert len(panels()) > 40
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_every_alert_has_a_page_that_says_what_to_do_and_every_page_an_alert() -> None:
    pages = {rule["annotations"]["runbook"] for rule in rules() if "alert" in rule}
    for page in pages:
        text = (ROOT / page).read_text()
        assert "## Look" in text
        assert "## Do" in text
    there = {str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert there - {"docs/runbooks/README.md"} == pages


def test_every_alert_is_tried_both_ways() -> None:
    tried = yaml.safe_load((PROMETHEUS / "tests" / "watchword.test.yml").read_text())
    cases = [case for test in tried["tests"] for case in test["alert_rule_test"]]
    for name in {rule["alert"] for rule in rules() if "alert" in rule}:
        outcomes = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == name}
        assert outcomes == {True, False}, name


@pytest.mark.parametrize("maker", [PROMETHEUS / "make_rules.py", GRAFANA / "make_dashboards.py"])
def test_the_files_are_what_their_makers_write(maker: Path) -> None:
    done = subprocess.run([sys.executable, str(maker), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_rules_fire_when_they_must_and_are_silent_when_they_must_be() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run(
        [promtool, "test", "rules", "tests/watchword.test.yml"],
        cwd=PROMETHEUS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
