"""The registry's collectors, and /metrics rendered from them."""

from __future__ import annotations

import gzip
import platform
from collections.abc import Iterable
from typing import Protocol, cast

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

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
