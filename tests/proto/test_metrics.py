from __future__ import annotations

from prometheus_client.metrics import MetricWrapperBase

from proto import metrics

# Labels whose values come from a short list in the code or in the settings. A camera's name or an id never is one.
BOUNDED = {"engine", "reason", "hop", "kind", "outcome", "part", "state"}


def test_every_metric_has_a_meaning_a_unit_in_its_name_and_bounded_labels() -> None:
    catalogue = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    assert len(catalogue) > 10
    for metric in catalogue:
        (described,) = metric.describe()
        assert described.name.startswith("watchword_")
        assert described.documentation.endswith(".")
        assert set(metric._labelnames) <= BOUNDED, described.name
