"""Writes watchword.rules.yml: recording rules and burn-rate alerts for each objective, then alerts on causes.

    python deploy/prometheus/make_rules.py [--check]

The burn-rate alerts follow one scheme for every objective, so they are written once here and not copied.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_name("watchword.rules.yml")
RUNBOOKS = "docs/runbooks"
WINDOWS = ("5m", "30m", "1h", "6h", "3d")
REFUSED = '(sum(rate(watchword_calls_refused_total{kind="search"}[WINDOW])) or vector(0))'
"""Searches refused at the door. A version that does not count them has none."""


def grown(counter: str, by: str) -> str:
    """An expression for what a counter grew by in 15 minutes, by a label. A series that begins with its first event has
    no earlier value to grow from, so it counts as it is."""
    return f"sum by ({by}) (increase({counter}[15m])) > 0 or sum by ({by}) ({counter} unless {counter} offset 15m) > 0"


@dataclass(frozen=True)
class Objective:
    """What users are promised: a share of good events."""

    name: str
    promise: float
    bad: str
    """The rate of bad events; WINDOW is replaced."""
    all: str
    """The rate of all events."""
    says: str


OBJECTIVES = (
    Objective(
        "freshness",
        0.99,
        'sum(rate(watchword_hop_seconds_count{hop="visible"}[WINDOW]))'
        ' - sum(rate(watchword_hop_seconds_bucket{hop="visible",le="1.5"}[WINDOW]))',
        'sum(rate(watchword_hop_seconds_count{hop="visible"}[WINDOW]))',
        "scenes that can be found within 1.5 s of the camera",
    ),
    Objective(
        "search_latency",
        0.99,
        "sum(rate(watchword_query_search_seconds_count[WINDOW]))"
        ' - sum(rate(watchword_query_search_seconds_bucket{le="0.5"}[WINDOW]))',
        "sum(rate(watchword_query_search_seconds_count[WINDOW]))",
        "searches answered within 0.5 s",
    ),
    Objective(
        "search_success",
        0.999,
        '(sum(rate(watchword_query_searches_total{outcome!~"ok|partial|invalid|unknown|cancelled"}[WINDOW]))'
        f" or vector(0)) + {REFUSED}",
        f'sum(rate(watchword_query_searches_total{{outcome!~"invalid|unknown|cancelled"}}[WINDOW])) + {REFUSED}',
        "searches that the service could answer",
    ),
)

BURNS = (
    # rate of burning, long window, short window, severity
    (14.4, "1h", "5m", "page"),
    (6.0, "6h", "30m", "page"),
    (1.0, "3d", "6h", "ticket"),
)

CAUSES: tuple[dict[str, Any], ...] = (
    {
        "alert": "WatchwordProcessAway",
        "expr": 'up{job=~".*watchword.*"} == 0',
        "for": "1m",
        "severity": "page",
        "summary": "{{ $labels.process }} at {{ $labels.instance }} cannot be scraped",
    },
    {
        "alert": "WatchwordCamerasSilent",
        "expr": "max(watchword_camera_sources_wanted) - sum(watchword_camera_sources_open) > 0",
        "for": "2m",
        "severity": "ticket",
        "summary": "{{ $value }} cameras deliver no picture",
    },
    {
        "alert": "WatchwordStreamLate",
        "expr": "max(watchword_stream_behind_seconds) > 10",
        "for": "1m",
        "severity": "page",
        "summary": "frames wait for {{ $value | humanizeDuration }} until they are looked at",
    },
    {
        "alert": "WatchwordFramesShed",
        "expr": "sum(rate(watchword_stream_frames_shed_total[10m]))"
        " / sum(rate(watchword_stream_frames_consumed_total[10m])) > 0.2",
        "for": "10m",
        "severity": "ticket",
        "summary": "{{ $value | humanizePercentage }} of the frames are passed over, "
        "since more arrive than can be looked at",
    },
    {
        "alert": "WatchwordFramesExpired",
        "expr": "sum(increase(watchword_stream_frames_expired_total[15m])) > 0",
        "severity": "page",
        "summary": 'the broker dropped {{ $value | printf "%.0f" }} frames before they were read',
    },
    {
        "alert": "WatchwordFramesLost",
        "expr": grown("watchword_camera_frames_lost_total", "reason"),
        "severity": "ticket",
        "summary": '{{ $value | printf "%.0f" }} frames did not reach the broker ({{ $labels.reason }})',
    },
    {
        "alert": "WatchwordRetentionBehind",
        "expr": "max(watchword_life_behind_seconds) > 3600 or max(watchword_life_refused) > 0",
        "for": "15m",
        "severity": "ticket",
        "summary": "what is erased or too old is hidden, and not removed",
    },
    {
        "alert": "WatchwordIndexAway",
        "expr": 'sum(rate(watchword_stream_retries_total{part="index"}[2m])) > 0'
        " or sum(rate(watchword_query_shards_missing_total[2m])) > 0",
        "for": "30s",
        "severity": "page",
        "summary": "a shard of Milvus does not answer: its moments wait, and answers are partial",
    },
    {
        "alert": "WatchwordEncoderDown",
        "expr": "sum(watchword_encoder_engines_ready) == 0 or absent(watchword_encoder_engines_ready)",
        "for": "30s",
        "severity": "page",
        "summary": "no encoder engine serves: nothing new is found, and no new words can be asked",
    },
    {
        "alert": "WatchwordEncoderEngineFails",
        "expr": "sum by (engine, reason) (increase(watchword_encoder_engine_failures_total[15m])) > 2",
        "severity": "ticket",
        "summary": 'engine {{ $labels.engine }} {{ $labels.reason }} {{ $value | printf "%.0f" }} times in 15 minutes',
    },
    {
        "alert": "WatchwordEncoderRefuses",
        "expr": "sum(rate(watchword_encoder_refused_total[5m])) > 0.1",
        "for": "5m",
        "severity": "ticket",
        "summary": "the encoder refuses {{ $value | humanize }} requests a second",
    },
    {
        "alert": "WatchwordSearchesRefused",
        "expr": 'sum(rate(watchword_calls_refused_total{kind="search"}[5m]))'
        ' / (sum(rate(watchword_calls_refused_total{kind="search"}[5m]))'
        " + sum(rate(watchword_query_searches_total[5m]))) > 0.02",
        "for": "5m",
        "severity": "ticket",
        "summary": "{{ $value | humanizePercentage }} of the searches are refused, "
        "since they could not be answered as soon as promised",
    },
    {
        "alert": "WatchwordDeadLetters",
        "expr": grown("watchword_stream_dead_letters_total", "reason"),
        "severity": "ticket",
        "summary": '{{ $value | printf "%.0f" }} records can never be processed ({{ $labels.reason }})',
    },
    {
        "alert": "WatchwordDiskFull",
        "expr": "min(watchword_data_free_bytes) / min(watchword_data_size_bytes) < 0.1",
        "for": "5m",
        "severity": "ticket",
        "summary": "{{ $value | humanizePercentage }} of the data folder's disk is free",
    },
)


def rules() -> dict[str, Any]:
    """All groups."""
    return {
        "groups": [
            # Groups are evaluated side by side and the rules of one in order: its alerts see what was just recorded.
            *(
                {"name": f"watchword-{one.name.replace('_', '-')}", "rules": [*_recorded(one), *_burns(one)]}
                for one in OBJECTIVES
            ),
            {"name": "watchword-causes", "rules": [_cause(one) for one in CAUSES]},
        ]
    }


def _recorded(one: Objective) -> list[dict[str, Any]]:
    return [
        {
            "record": f"watchword:{one.name}:bad_share_{window}",
            # Where nothing happens nothing is bad. Prometheus extrapolates each series by itself, so while they are
            # young the good ones may seem more than all.
            "expr": f"clamp_min(({one.bad}) / (({one.all}) > 0), 0) or vector(0)".replace("WINDOW", window),
        }
        for window in WINDOWS
    ]


def _burns(one: Objective) -> list[dict[str, Any]]:
    budget = 1 - one.promise
    name = "".join(word.capitalize() for word in one.name.split("_"))
    return [
        {
            "alert": f"Watchword{name}Burns",
            "expr": " and ".join(
                f"watchword:{one.name}:bad_share_{window} > {rate * budget:.6g}" for window in (long, short)
            ),
            "labels": {"severity": severity, "window": long},
            "annotations": {
                "summary": f"fewer than promised: {one.says} (goal {one.promise:.1%}); "
                f"{{{{ $value | humanizePercentage }}}} are not, over {long}",
                "runbook": f"{RUNBOOKS}/{one.name.replace('_', '-')}.md",
            },
        }
        for rate, long, short, severity in BURNS
    ]


def _cause(one: dict[str, Any]) -> dict[str, Any]:
    words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in one["alert"][len("Watchword") :])
    rule = {"alert": one["alert"], "expr": one["expr"]}
    if "for" in one:
        rule["for"] = one["for"]
    return rule | {
        "labels": {"severity": one["severity"]},
        "annotations": {"summary": one["summary"], "runbook": f"{RUNBOOKS}/{words.lstrip('-')}.md"},
    }


def text() -> str:
    """The file."""
    head = "# Made by deploy/prometheus/make_rules.py; change that.\n"
    return head + yaml.safe_dump(rules(), sort_keys=False, width=10_000)


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if FILE.read_text() == text() else f"{FILE.name} is not what make_rules.py writes: run it")
    FILE.write_text(text())
