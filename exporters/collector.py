"""What collectors have in common: their own health is samples, and one that fails breaks no scrape."""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from exporters.sampler import Sampler

logger = logging.getLogger(__name__)

T = TypeVar("T")
Samples = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class Family(Generic[T]):
    """One family of a collector: its name, help and labels, and where its samples come from."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[T], Samples]

    def of(self, readings: Iterable[tuple[tuple[str, ...], T]], shared: tuple[str, ...]) -> Metric:
        """`shared` are labels that each reading comes with the values of. A name that ends in
        _total is a counter's."""
        make = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        family = make(self.name, self.help, labels=(*shared, *self.labels))
        for values, reading in readings:
            for labels, value in self.samples(reading):
                family.add_metric((*values, *labels), value)
        return family


def one(read: Callable[[T], float | None]) -> Callable[[T], Samples]:
    """One sample without labels, where there is a value."""

    def samples(reading: T) -> Samples:
        value = read(reading)
        return [] if value is None else [((), value)]

    return samples


def each(read: Callable[[T], Mapping[str, float]]) -> Callable[[T], Samples]:
    """A sample for each key, which is the label."""
    return lambda reading: [((key,), value) for key, value in read(reading).items()]


def pairs(read: Callable[[T], Mapping[tuple[str, str], float]]) -> Callable[[T], Samples]:
    return lambda reading: list(read(reading).items())


class SampledCollector(Collector, Generic[T]):
    """Shows what its sampler read last."""

    def __init__(self, sampler: Sampler[T]) -> None:
        self.sampler = sampler

    @abstractmethod
    def families(self, value: T | None) -> Iterator[Metric]:
        """None: there is no fresh value."""

    def collect(self) -> Iterator[Metric]:
        self.sampler.first()
        # Not even the name of what is absent.
        yield from (f for f in self.families(self.sampler.fresh) if f.samples)


class Guards(Collector):
    """All collectors of a process. What a failing one had yielded before is shown."""

    def __init__(self, collectors: Mapping[str, Collector]) -> None:
        self.collectors = collectors

    def collect(self) -> Iterator[Metric]:
        success = GaugeMetricFamily(
            "llm_exporter_collector_success",
            "1 where the collector could be read for this scrape.",
            labels=("collector",),
        )
        duration = GaugeMetricFamily(
            "llm_exporter_collector_duration_seconds",
            "Time that the collector's last reading took.",
            labels=("collector",),
        )
        age = GaugeMetricFamily(
            "llm_exporter_snapshot_age_seconds",
            "Time since a collector that reads in the background could last do so.",
            labels=("collector",),
        )
        for name, collector in self.collectors.items():
            began = time.perf_counter()
            read, families = True, list[Metric]()
            try:
                # All before any of it is shown, or the reader's time would count as well.
                families.extend(collector.collect())
            except Exception:
                logger.exception("The metrics collector %s failed", name)
                read = False
            seconds: float | None = time.perf_counter() - began
            yield from families
            if isinstance(collector, SampledCollector):
                sampler = collector.sampler
                if sampler.absent and read:
                    continue
                read = read and sampler.failure is None
                seconds = sampler.last.seconds if sampler.last is not None else None
                if sampler.age is not None:
                    age.add_metric((name,), sampler.age)
            success.add_metric((name,), read)
            if seconds is not None:
                duration.add_metric((name,), seconds)
        yield success
        yield duration
        yield age
