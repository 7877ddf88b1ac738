from __future__ import annotations

import os

import pytest

from loadtests.samples import Probe, Sample, held, hop_buckets, quantile, told, trend


def samples(rss_mb: list[float], fds: list[int] | None = None) -> list[Sample]:
    """One every 10 s."""
    counts = fds or [10] * len(rss_mb)
    return [Sample(10.0 * n, rss, count, 0.5 * n) for n, (rss, count) in enumerate(zip(rss_mb, counts, strict=True))]


def test_a_trend_compares_the_first_quarter_with_the_last() -> None:
    found = trend([0, 1, 2, 3, 4, 5, 6, 7], [1, 1, 5, 5, 9, 5, 2, 2])
    assert (found.first, found.last, found.most) == (1, 2, 9)


def test_a_slope_leaves_out_the_first_quarter_in_which_caches_fill() -> None:
    assert trend([0, 900, 1800, 2700], [1, 100, 100, 100]).slope_h == pytest.approx(0, abs=1e-6)
    assert trend([0, 900, 1800, 2700], [0, 10, 20, 30]).slope_h == pytest.approx(40)


def test_a_process_that_holds_a_little_more_does_not_grow() -> None:
    assert not held("stream", samples([150.0] * 8 + [165.0] * 8)).grows


def test_memory_that_rises_with_the_run_grows() -> None:
    assert held("stream", samples([150.0 + 5 * n for n in range(40)])).grows


def test_files_left_open_grow() -> None:
    assert held("stream", samples([150.0] * 40, fds=list(range(40)))).grows


def test_processor_time_is_told_in_cores() -> None:
    found = held("worker", samples([1.0] * 5))
    assert found.cores == pytest.approx(0.05)
    assert told([found]).splitlines()[1].startswith("worker ")


def test_a_process_that_ended_gives_no_sample() -> None:
    probe = Probe(os.getpid())
    probe.look(1.0)
    assert len(probe.samples) == 1 and probe.samples[0].rss_mb > 1


def test_a_quantile_lies_inside_its_bucket() -> None:
    buckets = {0.1: 0.0, 0.2: 10.0, 0.4: 20.0, float("inf"): 20.0}
    assert quantile(buckets, 0.25) == pytest.approx(0.15)
    assert quantile(buckets, 0.75) == pytest.approx(0.3)


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile({1.0: 1.0, float("inf"): 10.0}, 0.9) == 1.0


def test_nothing_measured_is_no_number() -> None:
    assert quantile({}, 0.5) != quantile({}, 0.5)
    assert quantile({1.0: 0.0, float("inf"): 0.0}, 0.5) != 0


def test_a_hop_is_read_from_the_metrics() -> None:
    metrics = {
        "watchword_hop_seconds_bucket{hop=written,le=0.5}": 3.0,
        "watchword_hop_seconds_bucket{hop=written,le=+Inf}": 4.0,
        "watchword_hop_seconds_bucket{hop=visible,le=0.5}": 9.0,
        "watchword_hop_seconds_count{hop=written}": 4.0,
    }
    assert hop_buckets(metrics, "written") == {0.5: 3.0, float("inf"): 4.0}
