"""The registry's collectors, and /metrics rendered from them."""

from __future__ import annotations

import gzip
import platform
from collections.abc import Iterator, Sequence
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.telemetry.encoding import body, chosen, encode
from service.telemetry.kept import Kept
from service.telemetry.mirror import StateCollector


def own_collectors(state: StateCollector) -> dict[str, Collector]:
    # Each of these registers itself somewhere when it is made: not where they would be unguarded.
    elsewhere = CollectorRegistry()
    return {
        "state": state,
        "process": ProcessCollector(registry=elsewhere),
        "gc": GCCollector(registry=elsewhere),
        "platform": PlatformCollector(registry=elsewhere),
    }


def add_build_info(registry: CollectorRegistry, version: str) -> None:
    build = Info("llm_build", "What this service was built from.", registry=registry)
    build.info({"version": version, "python": platform.python_version()})


class Exposition(Collector):
    """All families: what counts events keeps its lines, the others are made for each scrape."""

    def __init__(self, counted: Sequence[Kept], others: CollectorRegistry) -> None:
        self._counted = counted
        self._others = others

    def collect(self) -> Iterator[Metric]:
        for family in self._counted:
            yield from family.collect()
        yield from self._others.collect()

    def encode(self, accept: str) -> tuple[bytes, str]:
        content_type, openmetrics = chosen(accept)
        counted = [family.lines(openmetrics=openmetrics) for family in self._counted]
        others = encode(self._others.collect(), openmetrics=openmetrics)
        return body([*counted, others], openmetrics=openmetrics), content_type


class Encoded(Protocol):
    def encode(self, accept: str) -> tuple[bytes, str]:
        """The body and its content type. Takes milliseconds: not on the loop."""


def render(source: Encoded, accept: str, accept_encoding: str) -> tuple[bytes, dict[str, str]]:
    """The body and its headers."""
    content, content_type = source.encode(accept)
    headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
    if "gzip" in accept_encoding:
        # Level 1 does most of it: names and labels repeat.
        content = gzip.compress(content, 1)
        headers["Content-Encoding"] = "gzip"
    return content, headers
