"""The Prometheus of load tests is set up as the shipped one is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from loadtests.dashboards import queries
from loadtests.prometheus import DEPLOY, configuration

TARGETS = {"worker": "127.0.0.1:8710", "query": "127.0.0.1:8713"}


def test_it_scrapes_each_process_under_its_name_at_the_pace_that_is_shipped() -> None:
    shipped = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    made = configuration(TARGETS)
    assert made["global"] == shipped["global"]
    (job,) = made["scrape_configs"]
    assert job["job_name"] == shipped["scrape_configs"][0]["job_name"]
    assert {one["labels"]["process"]: one["targets"] for one in job["static_configs"]} == {
        process: [address] for process, address in TARGETS.items()
    }


def test_prometheus_takes_the_configuration_with_the_shipped_rules(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration(TARGETS)))
    done = subprocess.run([promtool, "check", "config", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_of_every_dashboard_is_asked_over_a_fixed_window() -> None:
    asked = list(queries())
    assert {one.board for one in asked} == {"cameras", "capacity", "encoder", "index", "latency", "well"}
    assert len(asked) > 60
    assert not [one for one in asked if "$" in one.expr]
