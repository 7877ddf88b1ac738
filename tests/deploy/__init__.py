"""Tests of deploy/: chart, Compose file, rules, dashboards."""
