"""The registry's collectors, and /metrics rendered from them."""

from __future__ import annotations

import gzip
import logging
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, cast

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.telemetry.mirror import StateCollector

logger = logging.getLogger(__name__)


class Guards(Collector):
    """Collectors that may fail: a failure is a sample, and never breaks the scrape of the rest."""

    def __init__(self, collectors: Mapping[str, Collector]) -> None:
        self.collectors = collectors

    def collect(self) -> Iterator[Metric]:
        success = GaugeMetricFamily(
            "llm_exporter_collector_success",
            "1 where the collector could be read for this scrape.",
            labels=("collector",),
        )
        for name, collector in self.collectors.items():
            try:
                families = list(collector.collect())
            except Exception:
                logger.exception("The metrics collector %s failed", name)
                success.add_metric((name,), 0)
            else:
                success.add_metric((name,), 1)
                yield from families
        yield success


def add_collectors(registry: CollectorRegistry, state: StateCollector, version: str) -> None:
    # Each of these registers itself somewhere when it is made: not where they would be unguarded.
    elsewhere = CollectorRegistry()
    registry.register(
        Guards(
            {
                "state": state,
                "process": ProcessCollector(registry=elsewhere),
                "gc": GCCollector(registry=elsewhere),
                "platform": PlatformCollector(registry=elsewhere),
            }
        )
    )
    build = Info("llm_build", "What this service was built from.", registry=registry)
    build.info({"version": version, "python": platform.python_version()})


class Source(Protocol):
    def collect(self) -> Iterable[Metric]: ...


def render(source: Source, accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
    """The body and its headers. Takes milliseconds for each thousand series: not on the loop."""
    encoder, content_type = choose_encoder(accept)
    # It only collects, whatever its type says.
    body = encoder(cast(CollectorRegistry, source))
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if "gzip" in accept_encoding:
        # Level 1 does most of it: names and labels repeat.
        body = gzip.compress(body, 1)
        headers["Content-Encoding"] = "gzip"
    return body, headers
