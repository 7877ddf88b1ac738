"""Samples of processes' memory, open files and processor time, and whether any of them grows.

Pure, except for `Probe`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psutil

LEAST_GROWTH_MB = 24.0
MOST_GROWTH = 0.10
MOST_FDS = 8
"""How many more file descriptors the last quarter may have than the first: caches fill, connections are reopened."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process used at one time."""

    at_s: float
    rss_mb: float
    fds: int
    cpu_s: float
    threads: int = 0


class Probe:
    """Samples one process."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.samples: list[Sample] = []

    def look(self, at_s: float) -> None:
        """Take a sample, unless the process has ended."""
        try:
            with self._process.oneshot():
                times = self._process.cpu_times()
                self.samples.append(
                    Sample(
                        at_s,
                        self._process.memory_info().rss / 1e6,
                        self._process.num_fds(),
                        times.user + times.system,
                        self._process.num_threads(),
                    )
                )
        except psutil.NoSuchProcess:
            return


@dataclass(frozen=True, slots=True)
class Trend:
    """How a number changed over time: its median in the first and the last quarter, its slope, its maximum."""

    first: float
    last: float
    slope_h: float
    """Increase per hour, by least squares over all after the first quarter."""
    most: float


def trend(times_s: Sequence[float], values: Sequence[float]) -> Trend:
    """The trend of at least four values."""
    quarter = max(1, len(values) // 4)
    later_s, later = np.asarray(times_s[quarter:]), np.asarray(values[quarter:])
    slope = float(np.polyfit(later_s, later, 1)[0]) * 3600 if len(later) > 1 else 0.0
    return Trend(statistics.median(values[:quarter]), statistics.median(values[-quarter:]), slope, max(values))


@dataclass(frozen=True, slots=True)
class Held:
    """What one process used over a run."""

    name: str
    rss_mb: Trend
    fds: Trend
    cores: float
    """Processor time over the run, in cores."""

    @property
    def grows(self) -> bool:
        """Whether it ended with more than allowed."""
        allowed = max(LEAST_GROWTH_MB, MOST_GROWTH * self.rss_mb.first)
        return self.rss_mb.last - self.rss_mb.first > allowed or self.fds.last - self.fds.first > MOST_FDS


def held(name: str, samples: Sequence[Sample]) -> Held:
    """Summarise the samples."""
    times = [sample.at_s for sample in samples]
    spent = (samples[-1].cpu_s - samples[0].cpu_s) / max(1e-9, times[-1] - times[0])
    return Held(
        name,
        trend(times, [sample.rss_mb for sample in samples]),
        trend(times, [float(sample.fds) for sample in samples]),
        spent,
    )


def told(everybody: Sequence[Held]) -> str:
    """A table: medians of the first and the last quarter of the run."""
    lines = [f"{'':<16}{'RSS MB, first':>14}{'last':>8}{'most':>8}{'MB/h':>8}{'fds, first':>12}{'last':>6}{'core':>7}"]
    lines += [
        f"{one.name:<16}{one.rss_mb.first:>14.1f}{one.rss_mb.last:>8.1f}{one.rss_mb.most:>8.1f}"
        f"{one.rss_mb.slope_h:>8.1f}{one.fds.first:>12.0f}{one.fds.last:>6.0f}{one.cores:>7.2f}"
        for one in everybody
    ]
    return "\n".join(lines)


def quantile(buckets: Mapping[float, float], share: float) -> float:
    """A quantile of a histogram, interpolated in its bucket; `buckets` are cumulative counts by upper bound."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if not total:
        return float("nan")
    wanted, below, reached = share * total, 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if bound == float("inf"):
                return below
            inside = (wanted - reached) / (buckets[bound] - reached) if buckets[bound] > reached else 1.0
            return below + inside * (bound - below)
        below, reached = bound, buckets[bound]
    return below


def hop_buckets(metrics: Mapping[str, float], hop: str) -> dict[float, float]:
    """The histogram of one hop, from the result of `rig.metrics`."""
    begins, ends = f"watchword_hop_seconds_bucket{{hop={hop},le=", "}"
    return {
        float(key.removeprefix(begins).removesuffix(ends)): value
        for key, value in metrics.items()
        if key.startswith(begins)
    }
