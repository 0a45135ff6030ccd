"""Counters and histograms that keep their lines of /metrics until something is counted again.

A server of many models has twenty thousand series, of which a few hundred have changed since the
last scrape. The client library makes each of them anew, which takes ten microseconds a series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

# The library does not say so.
number: Callable[[float], str] = floatToGoString


class Child:
    """One set of label values. Counted on the event loop, read on the thread of a scrape."""

    def __init__(self, family: Metric, child: Any, labels: dict[str, str]) -> None:
        self._family = family
        self._child = child
        self._labels = labels
        # Counts what was counted: lines are of the state that they were begun with.
        self._changes = 0
        self._heads: list[str] = []
        self._kept: dict[bool, tuple[int, str]] = {}

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        self._child.inc(amount, exemplar)
        self._changes += 1

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        self._child.observe(amount, exemplar)
        self._changes += 1

    def lines(self, *, openmetrics: bool) -> str:
        kept = self._kept.get(openmetrics)
        changes = self._changes
        if kept is None or kept[0] != changes:
            kept = self._kept[openmetrics] = changes, self._written(exemplars=openmetrics)
        return kept[1]

    def _written(self, *, exemplars: bool) -> str:
        samples = [sample for metric in self._child.collect() for sample in metric.samples]
        if not self._heads:
            named = Metric(self._family.name, "", self._family.type)
            for sample in samples:
                named.add_sample(sample.name, {**self._labels, **sample.labels}, 0.0)
            text = generate_latest(Only(named)).decode()
            self._heads = [line[: -len("0.0")] for line in text.split("\n") if line[:1] not in ("#", "")]
        return "".join(
            f"{head}{number(sample.value)}"
            f"{told(sample.exemplar) if exemplars and sample.exemplar else ''}\n"
            for head, sample in zip(self._heads, samples, strict=True)
        )


class Kept(Collector):
    """A family of the client library, and its lines. Without labels it is its own only child."""

    def __init__(self, family: Counter | Histogram, *labels: str) -> None:
        # A `_created` series beside each child would double the counters.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._of = family
        self._labels: Final = labels
        (metric,) = family.collect()
        self._metric = Metric(metric.name, metric.documentation, metric.type)
        self._children: dict[tuple[str, ...], Child] = {}
        if not labels:
            child = self._children[()] = Child(self._metric, family, {})
            self.inc, self.observe = child.inc, child.observe

    def labels(self, *values: object) -> Child:
        key = tuple(str(value) for value in values)
        child = self._children.get(key)
        if child is None:
            labels = dict(zip(self._labels, key, strict=True))
            child = Child(self._metric, self._of.labels(*key), labels)
            self._children[key] = child
        return child

    def collect(self) -> Iterator[Metric]:
        yield from self._of.collect()

    def describe(self) -> Iterator[Metric]:
        yield from self._of.describe()

    def lines(self, *, openmetrics: bool) -> str:
        """What the client library's encoder writes of the family, to the byte."""
        encoder = generate_openmetrics if openmetrics else generate_latest
        head = encoder(Only(self._metric)).decode().removesuffix("# EOF\n")
        children = list(self._children.values())
        return head + "".join(child.lines(openmetrics=openmetrics) for child in children)


class Only(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def told(exemplar: Exemplar) -> str:
    """As OpenMetrics 1.0 writes it behind a sample. Our labels hold ids, which need no escapes
    but get them, since an id is what a caller chose."""
    labels = ",".join(
        f'{name}="{escaped(value)}"' for name, value in sorted(exemplar.labels.items())
    )
    when = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {{{labels}}} {number(exemplar.value)}{when}"


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
