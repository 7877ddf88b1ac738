"""Writes the Grafana dashboards beside this file, from what is said here.

    python deploy/grafana/make_dashboards.py [--check]

`tests/deploy/test_dashboards.py` asks a real Prometheus every query of every panel while a stack is under load.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grafana_foundation_sdk.builders import dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

FOLDER = Path(__file__).parent
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
RATE = "$__rate_interval"

Kind = Literal["lines", "number", "heatmap"]


@dataclass(frozen=True)
class Panel:
    """One picture: what it shows, in which unit, and the queries with their legends."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    says: str
    kind: Kind = "lines"
    warn: float | None = None
    """Red from here; with `kind` number."""
    wide: int = 8


@dataclass(frozen=True)
class Row:
    """A heading with its panels."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Page:
    """A dashboard."""

    name: str
    title: str
    rows: Sequence[Row]


def quantiles(metric: str, by: str = "", where: str = "") -> list[tuple[str, str]]:
    """p50, p95, p99 of a histogram."""
    group = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return [
        (
            f"histogram_quantile({q}, sum by ({group}) (rate({metric}_bucket{where}[{RATE}])))",
            f"p{round(q * 100)}{legend}",
        )
        for q in (0.5, 0.95, 0.99)
    ]


def quantile(q: float, metric: str, by: str, where: str = "") -> list[tuple[str, str]]:
    """One quantile of a histogram, by a label."""
    expr = f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket{where}[{RATE}])))"
    return [(expr, f"{{{{{by}}}}}")]


def rate(metric: str, by: str = "") -> str:
    """Per second."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[{RATE}]))"


def left(objective: str, promise: float) -> tuple[str, str]:
    """How much of the error budget of three days is left."""
    return f"1 - watchword:{objective}:bad_share_3d / {1 - promise:.6g}", "left"


WELL = Page(
    "well",
    "Is it well?",
    [
        Row(
            "What was promised",
            [
                Panel(
                    "Scenes found within 1.5 s, last hour",
                    "percentunit",
                    [("1 - watchword:freshness:bad_share_1h", "found in time")],
                    "Goal 99 %: from the camera to the moment that can be found.",
                    "number",
                    0.99,
                ),
                Panel(
                    "Searches within 0.5 s, last hour",
                    "percentunit",
                    [("1 - watchword:search_latency:bad_share_1h", "in time")],
                    "Goal 99 %.",
                    "number",
                    0.99,
                ),
                Panel(
                    "Searches that succeed, last hour",
                    "percentunit",
                    [("1 - watchword:search_success:bad_share_1h", "succeed")],
                    "Goal 99.9 %. Questions that are wrong, or given up by their caller, do not count.",
                    "number",
                    0.999,
                ),
                Panel(
                    "Error budget left, of three days",
                    "percentunit",
                    [
                        (left("freshness", 0.99)[0], "freshness"),
                        (left("search_latency", 0.99)[0], "search latency"),
                        (left("search_success", 0.999)[0], "search success"),
                    ],
                    "At 0 the promise is broken for these three days.",
                    wide=24,
                ),
            ],
        ),
        Row(
            "Now",
            [
                Panel(
                    "Cameras open",
                    "short",
                    [
                        ("sum(watchword_camera_sources_open)", "open"),
                        ("max(watchword_camera_sources_wanted)", "wanted"),
                    ],
                    "Cameras that deliver pictures, and those that are registered.",
                ),
                Panel(
                    "Frames behind",
                    "s",
                    [("max(watchword_stream_behind_seconds)", "behind")],
                    "How long the oldest frame that nobody looked at has waited.",
                ),
                Panel(
                    "Encoder engines",
                    "short",
                    [("sum(watchword_encoder_engines_ready)", "ready")],
                    "Engines that serve.",
                ),
                Panel(
                    "Captured to searchable",
                    "s",
                    quantiles("watchword_hop_seconds", where='{hop="visible"}'),
                    "Scenes that begin.",
                    wide=12,
                ),
                Panel("Search", "s", quantiles("watchword_query_search_seconds"), "As the server saw it.", wide=12),
                Panel(
                    "Frames shed, expired, lost",
                    "ops",
                    [
                        (rate("watchword_stream_frames_shed_total"), "shed"),
                        (rate("watchword_stream_frames_expired_total"), "expired"),
                        (f"{rate('watchword_camera_frames_lost_total')} or vector(0)", "lost"),
                    ],
                    "All are declared in the coverage of answers.",
                    wide=12,
                ),
                Panel(
                    "Free disk of the data folder",
                    "percentunit",
                    [("min(watchword_data_free_bytes / watchword_data_size_bytes)", "free")],
                    "Below 10 % an alert fires.",
                    wide=12,
                ),
            ],
        ),
    ],
)

LATENCY = Page(
    "latency",
    "Where the time goes",
    [
        Row(
            "A frame",
            [
                Panel(
                    "Captured to searchable",
                    "s",
                    [(f'sum by (le) (increase(watchword_hop_seconds_bucket{{hop="visible"}}[{RATE}]))', "{{le}}")],
                    "How many scenes took how long.",
                    "heatmap",
                    wide=12,
                ),
                Panel(
                    "Each hop, p50",
                    "s",
                    quantile(0.5, "watchword_hop_seconds", "hop"),
                    "Since the picture was taken, at each hop.",
                    wide=12,
                ),
                Panel(
                    "Each hop, p95",
                    "s",
                    quantile(0.95, "watchword_hop_seconds", "hop"),
                    "Since the picture was taken, at each hop.",
                    wide=12,
                ),
                Panel(
                    "Each hop, p99",
                    "s",
                    quantile(0.99, "watchword_hop_seconds", "hop"),
                    "Since the picture was taken, at each hop.",
                    wide=12,
                ),
            ],
        ),
        Row(
            "A question",
            [
                Panel(
                    "Search",
                    "s",
                    [(f"sum by (le) (increase(watchword_query_search_seconds_bucket[{RATE}]))", "{{le}}")],
                    "How many searches took how long.",
                    "heatmap",
                    wide=12,
                ),
                Panel("Search", "s", quantiles("watchword_query_search_seconds"), "As the server saw it.", wide=12),
                Panel(
                    "Parts of a search, p95",
                    "s",
                    quantile(0.95, "watchword_query_part_seconds", "part"),
                    "embed: the vector of the question. index: the nearest moments. judge: how sure, and joining. coverage: what was not looked at, beside the index.",
                    wide=12,
                ),
                Panel(
                    "Searches by outcome",
                    "ops",
                    [(rate("watchword_query_searches_total", "outcome"), "{{outcome}}")],
                    "A partial answer says what it misses.",
                    wide=12,
                ),
            ],
        ),
    ],
)

CAMERAS = Page(
    "cameras",
    "Cameras",
    [
        Row(
            "Pictures",
            [
                Panel(
                    "Cameras",
                    "short",
                    [
                        ("sum(watchword_camera_sources_open)", "open"),
                        ("max(watchword_camera_sources_wanted)", "wanted"),
                    ],
                    "Open: they deliver pictures now.",
                ),
                Panel(
                    "Pictures seen and kept",
                    "ops",
                    [
                        (rate("watchword_camera_frames_seen_total"), "seen"),
                        (rate("watchword_camera_frames_published_total"), "kept"),
                        (rate("watchword_camera_frames_same_total"), "nothing new"),
                    ],
                    "The gate leaves out what says nothing new.",
                ),
                Panel(
                    "Kept of what was seen",
                    "percentunit",
                    [
                        (
                            f"{rate('watchword_camera_frames_published_total')} / ({rate('watchword_camera_frames_seen_total')} > 0)",
                            "kept",
                        )
                    ],
                    "What the encoder has to look at.",
                ),
            ],
        ),
        Row(
            "Trouble",
            [
                Panel(
                    "Sources that failed",
                    "ops",
                    [(f"{rate('watchword_camera_source_failures_total', 'reason')} or vector(0)", "{{reason}}")],
                    "They are opened again, with pauses.",
                    wide=12,
                ),
                Panel(
                    "Frames lost before the broker",
                    "ops",
                    [(f"{rate('watchword_camera_frames_lost_total', 'reason')} or vector(0)", "{{reason}}")],
                    "Declared in the coverage of answers.",
                    wide=12,
                ),
            ],
        ),
    ],
)

ENCODER = Page(
    "encoder",
    "Encoder",
    [
        Row(
            "Work",
            [
                Panel(
                    "Items answered",
                    "ops",
                    [(rate("watchword_encoder_items_total", "kind, outcome"), "{{kind}} {{outcome}}")],
                    "Pictures, texts and detections.",
                    wide=12,
                ),
                Panel(
                    "Items waiting",
                    "short",
                    [("sum by (kind) (watchword_encoder_queued_items)", "{{kind}}")],
                    "Admitted and not answered yet.",
                    wide=12,
                ),
                Panel(
                    "Items a call",
                    "short",
                    [
                        (
                            f"sum by (kind) (rate(watchword_encoder_batch_items_sum[{RATE}])) / sum by (kind) (rate(watchword_encoder_batch_items_count[{RATE}]))",
                            "{{kind}}",
                        )
                    ],
                    "Full batches use an engine best.",
                    wide=12,
                ),
                Panel(
                    "Time of a call, p95",
                    "s",
                    quantile(0.95, "watchword_encoder_run_seconds", "kind"),
                    "One call of an engine.",
                    wide=12,
                ),
                Panel(
                    "Engine busy",
                    "percentunit",
                    [
                        (
                            f"sum by (instance, engine) (rate(watchword_encoder_run_seconds_sum[{RATE}]))",
                            "{{instance}} {{engine}}",
                        )
                    ],
                    "Saturation: at 1 more load only waits.",
                    wide=12,
                ),
                Panel(
                    "Refused at the door",
                    "ops",
                    [(f"{rate('watchword_encoder_refused_total', 'kind')} or vector(0)", "{{kind}}")],
                    "The queue was full.",
                    wide=12,
                ),
            ],
        ),
        Row(
            "Trouble",
            [
                Panel(
                    "Engines ready",
                    "short",
                    [("sum by (instance) (watchword_encoder_engines_ready)", "{{instance}}")],
                    "An engine that fails is opened again while others serve.",
                    wide=12,
                ),
                Panel(
                    "Engines that failed",
                    "ops",
                    [
                        (
                            f"{rate('watchword_encoder_engine_failures_total', 'engine, reason')} or vector(0)",
                            "{{engine}} {{reason}}",
                        )
                    ],
                    "failed: an error. hung: no answer in time.",
                    wide=12,
                ),
            ],
        ),
    ],
)

INDEX = Page(
    "index",
    "Stream and index",
    [
        Row(
            "Frames",
            [
                Panel(
                    "Frames taken and done",
                    "ops",
                    [
                        (rate("watchword_stream_frames_consumed_total"), "taken"),
                        (rate("watchword_stream_frames_done_total"), "done"),
                    ],
                    "Done: in a stored moment, in a letter, or declared.",
                ),
                Panel(
                    "Frames not taken yet",
                    "short",
                    [
                        ("sum(watchword_stream_lag_frames)", "in the broker"),
                        ("sum(watchword_stream_frames_open)", "taken, not done"),
                    ],
                    "How much waits.",
                ),
                Panel(
                    "Frames behind",
                    "s",
                    [("max by (instance) (watchword_stream_behind_seconds)", "{{instance}}")],
                    "How long the oldest of them has waited.",
                ),
                Panel(
                    "Partitions held",
                    "short",
                    [("sum by (state) (watchword_stream_partitions)", "{{state}}")],
                    "Together they are all partitions of the topic.",
                ),
                Panel(
                    "Dead letters",
                    "ops",
                    [(f"{rate('watchword_stream_dead_letters_total', 'reason')} or vector(0)", "{{reason}}")],
                    "Records that can never be processed.",
                ),
                Panel(
                    "Calls repeated",
                    "ops",
                    [(f"{rate('watchword_stream_retries_total', 'part')} or vector(0)", "{{part}}")],
                    "A part was away or full.",
                ),
            ],
        ),
        Row(
            "Moments",
            [
                Panel(
                    "Moments written",
                    "ops",
                    [(rate("watchword_stream_moments_written_total", "state"), "{{state}}")],
                    "Open ones are told again now and then.",
                ),
                Panel(
                    "Moments waiting",
                    "short",
                    [("sum(watchword_stream_moments_waiting)", "waiting")],
                    "For a shard that is away.",
                ),
                Panel(
                    "Shards that did not answer",
                    "ops",
                    [(rate("watchword_query_shards_missing_total"), "missing")],
                    "Such answers are partial and say so.",
                ),
            ],
        ),
    ],
)

CAPACITY = Page(
    "capacity",
    "Capacity",
    [
        Row(
            "Processes",
            [
                Panel(
                    "Processor",
                    "short",
                    [(f"sum by (process) (rate(process_cpu_seconds_total[{RATE}]))", "{{process}}")],
                    "Cores in use, by process.",
                    wide=12,
                ),
                Panel(
                    "Memory",
                    "bytes",
                    [("sum by (process) (process_resident_memory_bytes)", "{{process}}")],
                    "Resident, by process.",
                    wide=12,
                ),
                Panel(
                    "Open files",
                    "short",
                    [("sum by (process) (process_open_fds)", "{{process}}")],
                    "A line that only rises is a leak.",
                    wide=12,
                ),
                Panel(
                    "Cache",
                    "percentunit",
                    [
                        (
                            f'sum(rate(watchword_query_cache_lookups_total{{outcome="hit"}}[{RATE}])) / (sum(rate(watchword_query_cache_lookups_total[{RATE}])) > 0)',
                            "found",
                        )
                    ],
                    "Vectors of questions that were known.",
                    wide=12,
                ),
                Panel(
                    "Version",
                    "short",
                    [("sum by (process, version) (watchword_build_info)", "{{process}} {{version}}")],
                    "More than one while an upgrade runs.",
                    wide=12,
                ),
                Panel(
                    "Data folder",
                    "bytes",
                    [("min(watchword_data_free_bytes)", "free"), ("min(watchword_data_size_bytes)", "size")],
                    "The disk that holds it.",
                    wide=12,
                ),
            ],
        ),
    ],
)

PAGES = (WELL, LATENCY, CAMERAS, ENCODER, INDEX, CAPACITY)


def built(page: Page) -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard(f"Watchword: {page.title}")
        .uid(f"watchword-{page.name}")
        .tags(["watchword"])
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("Watchword")
            .type("dashboards")
            .tags(["watchword"])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    for row in page.rows:
        board = board.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            board = board.with_panel(_drawn(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _drawn(panel: Panel) -> timeseries.Panel | stat.Panel | heatmap.Panel:
    drawn: timeseries.Panel | stat.Panel | heatmap.Panel
    match panel.kind:
        case "number":
            drawn = stat.Panel().height(5)
            if panel.warn is not None:
                steps = [Threshold(value=None, color="red"), Threshold(value=panel.warn, color="green")]
                drawn = drawn.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        case "heatmap":
            drawn = heatmap.Panel().height(8)
        case "lines":
            drawn = timeseries.Panel().height(8).min(0).fill_opacity(8).line_width(1).legend(common_legend())
    drawn = drawn.title(panel.title).description(panel.says).unit(panel.unit).span(panel.wide).datasource(SOURCE)
    for number, (expr, legend) in enumerate(panel.queries):
        query = prometheus.Dataquery().ref_id(chr(ord("A") + number)).expr(expr).legend_format(legend).range()
        if panel.kind == "heatmap":
            query = query.format("heatmap")
        drawn = drawn.with_target(query)
    return drawn


def common_legend() -> object:
    """A table under the picture, with the last and the largest value."""
    from grafana_foundation_sdk.builders.common import VizLegendOptions

    return (
        VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )


def main() -> str | None:
    """Write them, or say what differs."""
    if sys.argv[1:] == ["--check"]:
        other = [page.name for page in PAGES if (FOLDER / f"{page.name}.json").read_text() != built(page)]
        return f"{', '.join(other)}: not what make_dashboards.py writes; run it" if other else None
    for page in PAGES:
        (FOLDER / f"{page.name}.json").write_text(built(page))
    return None


if __name__ == "__main__":
    sys.exit(main())
