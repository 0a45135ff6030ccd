"""Counters and histograms that keep their lines of /metrics until something is counted again.

A server of many models has twenty thousand series, of which a few hundred have changed since the
last scrape. The client library makes each of them anew, which takes ten microseconds a series.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Final

from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.telemetry.encoding import heading, heads, line


class Child:
    """One set of label values. Counted on the event loop, read on the thread of a scrape."""

    def __init__(self, child: Any, labels: dict[str, str]) -> None:
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
        if exemplar is None:
            self.observe_each((amount,))
            return
        self._child.observe(amount, exemplar)
        self._changes += 1

    def observe_each(self, amounts: Sequence[float]) -> None:
        """As the client library's `observe` of one after the other. It looks for each one's bucket
        from the first on, and adds to it and to the sum by themselves; what comes together is
        alike, so most of it goes into one bucket at once."""
        child = self._child
        bounds, ordered = child._upper_bounds, sorted(amounts)
        begin = 0
        while begin < len(ordered):
            # The last bound is infinite.
            bucket = bisect_left(bounds, ordered[begin])
            end = bisect_right(ordered, bounds[bucket], begin)
            child._buckets[bucket].inc(end - begin)
            begin = end
        child._sum.inc(sum(ordered))
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
            self._heads = heads((s.name, {**self._labels, **s.labels}) for s in samples)
        return "".join(
            line(head, sample, exemplars=exemplars)
            for head, sample in zip(self._heads, samples, strict=True)
        )


class Kept(Collector):
    """A family of the client library, and its lines. Without labels it is its own only child."""

    def __init__(self, family: Counter | Histogram, *labels: str) -> None:
        # A `_created` series beside each child would double the counters.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._family = family
        self._labels: Final = labels
        self._children: dict[tuple[str, ...], Child] = {}
        if not labels:
            child = self._children[()] = Child(family, {})
            self.inc, self.observe = child.inc, child.observe

    def labels(self, *values: object) -> Child:
        key = tuple(str(value) for value in values)
        child = self._children.get(key)
        if child is None:
            labels = dict(zip(self._labels, key, strict=True))
            child = self._children[key] = Child(self._family.labels(*key), labels)
        return child

    def collect(self) -> Iterator[Metric]:
        yield from self._family.collect()

    def describe(self) -> Iterator[Metric]:
        yield from self._family.describe()

    def lines(self, *, openmetrics: bool) -> str:
        """What the client library's encoder writes of the family, to the byte."""
        (metric,) = self._family.describe()
        children = list(self._children.values())
        return heading(metric.name, metric.documentation, metric.type, openmetrics) + "".join(
            [child.lines(openmetrics=openmetrics) for child in children]
        )
