"""Writes the Grafana dashboards beside this file, from dashboards.yaml.

    python deploy/grafana/make_dashboards.py [--check]

`python -m loadtests.dashboards` asks a real Prometheus every query of every panel while a stack is under load.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, Threshold, ThresholdsMode

FOLDER = Path(__file__).parent
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
RATE = "$__rate_interval"


def pages() -> list[dict[str, Any]]:
    """What dashboards.yaml says."""
    loaded: list[dict[str, Any]] = yaml.safe_load((FOLDER / "dashboards.yaml").read_text())
    return loaded


def built(page: dict[str, Any]) -> str:
    """The dashboard as JSON."""
    links = (
        dashboard.DashboardLink("Watchword").type("dashboards").tags(["watchword"]).as_dropdown(True).keep_time(True)
    )
    board = (
        dashboard.Dashboard(f"Watchword: {page['title']}")
        .uid(f"watchword-{page['name']}")
        .tags(["watchword"])
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .link(links)
    )
    for row in page["rows"]:
        board = board.with_row(dashboard.Row(row["row"]))
        for panel in row["panels"]:
            board = board.with_panel(_drawn(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _drawn(panel: dict[str, Any]) -> Any:
    kind = panel.get("kind", "lines")
    match kind:
        case "number":
            steps = [Threshold(value=None, color="red"), Threshold(value=panel["good_from"], color="green")]
            scale = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
            drawn: Any = stat.Panel().height(5).thresholds(scale)
        case "heatmap":
            drawn = heatmap.Panel().height(8)
        case "lines":
            drawn = timeseries.Panel().height(8).min(0).fill_opacity(8).line_width(1).legend(_legend())
        case _:
            raise ValueError(f"{panel['title']}: there is no kind {kind!r}; use number, heatmap, or leave it out")
    drawn = drawn.title(panel["title"]).description(panel["says"]).unit(panel["unit"])
    drawn = drawn.span(panel["width"]).datasource(SOURCE)
    for number, (legend, expr) in enumerate(panel["queries"].items()):
        query = prometheus.Dataquery().ref_id(chr(ord("A") + number)).legend_format(legend).range()
        query = query.expr(expr.replace("RATE", RATE))
        drawn = drawn.with_target(query.format("heatmap") if kind == "heatmap" else query)
    return drawn


def _legend() -> VizLegendOptions:
    """A table under the picture, with the last and the largest value."""
    return (
        VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )


def main() -> str | None:
    """Write them, or say what differs."""
    texts = {FOLDER / f"{page['name']}.json": built(page) for page in pages()}
    if sys.argv[1:] == ["--check"]:
        other = [file.name for file, text in texts.items() if not file.exists() or file.read_text() != text]
        return f"{', '.join(other)}: not what make_dashboards.py writes; run it" if other else None
    for file, text in texts.items():
        file.write_text(text)
    return None


if __name__ == "__main__":
    sys.exit(main())
