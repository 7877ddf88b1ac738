from __future__ import annotations

from prometheus_client import REGISTRY

from query.spent import Spent


def test_a_part_that_a_search_passes_twice_is_told_once_with_the_time_of_both() -> None:
    times = iter([10.0, 10.5, 20.0, 20.25])
    with Spent(lambda: next(times)) as spent:
        for _ in range(2):
            with spent.on("twice"):
                pass
    assert REGISTRY.get_sample_value("watchword_query_part_seconds_sum", {"part": "twice"}) == 0.75
    assert REGISTRY.get_sample_value("watchword_query_part_seconds_count", {"part": "twice"}) == 1
