"""What a scrape gets is what the client library would write of the same families."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from service.telemetry.exposition import Exposition

TEXT = st.text(max_size=6)
VALUES = st.floats() | st.integers(-(10**9), 10**9).map(float)
SAMPLES = st.lists(st.tuples(TEXT, TEXT, VALUES), max_size=4)


class Given(Collector):
    def __init__(self, help: str, samples: list[tuple[str, str, float]]) -> None:
        self._help = help
        self._samples = samples

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for kind in (GaugeMetricFamily, CounterMetricFamily):
            family = kind(f"llm_{kind.__name__.lower()}", self._help, labels=("b", "a"))
            for b, a, value in self._samples:
                family.add_metric((b, a), value)
            yield family
        info = InfoMetricFamily("llm_what", self._help, labels=("a",))
        histogram = HistogramMetricFamily("llm_wait", self._help, labels=("a",))
        for b, a, value in self._samples:
            info.add_metric((a,), {"of": b})
            histogram.add_metric((a,), [("0.1", 1.0), ("+Inf", value)], sum_value=value)
        yield info
        yield histogram


@given(help=TEXT, samples=SAMPLES)
def test_every_kind_of_family_is_written_as_the_library_writes_it(
    help: str, samples: list[tuple[str, str, float]]
) -> None:
    registry = CollectorRegistry()
    registry.register(Given(help, samples))
    exposition = Exposition((), registry)

    text, kind = exposition.encode("")
    assert text == generate_latest(registry)
    assert kind.startswith("text/plain; version=0.0.4")

    openmetrics, kind = exposition.encode("application/openmetrics-text; version=1.0.0")
    assert openmetrics == generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
