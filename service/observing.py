"""All that counts what the service does and reads what the machine says, put together."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from exporters.collector import Guards
from exporters.monitors import NAMES, Monitors
from exporters.readings import GpuReading
from service.catalog.configured import places_of
from service.control.hardware import engine_gpus
from service.control.samples import Sampled, Samples
from service.control.workload import Tallied, Workload
from service.dialects import routing
from service.settings import Settings
from service.stats import Observer
from service.telemetry.batched import Batched
from service.telemetry.exposition import Exposition, add_build_info, own_collectors
from service.telemetry.mirror import StateCollector
from service.telemetry.recorder import Recorder
from service.telemetry.tracing import Traced, tracing
from service.telemetry.worker_threads import WorkerThreads

if TYPE_CHECKING:
    from service.telemetry.spans import Spans


@dataclass(frozen=True)
class Observing:
    """`observer` is what engines and requests are told to; it tells all the others.

    `recorder` has what is counted, `registry` whatever is read at a scrape.
    """

    registry: CollectorRegistry
    recorder: Recorder
    mirror: StateCollector
    monitors: Monitors
    workers: WorkerThreads
    spans: Spans | None
    workload: Workload
    samples: Samples
    sampled: Sampled
    observer: Observer

    @property
    def exposition(self) -> Exposition:
        return Exposition(self.recorder.families.all, self.registry)

    def engine_gpus(self) -> tuple[GpuReading, ...] | None:
        """Those that engines are shown, in their order; None before the first reading."""
        reading, visible = self.monitors.gpus, os.environ.get("CUDA_VISIBLE_DEVICES")
        return None if reading is None else engine_gpus(reading, visible)


def observing(settings: Settings, version: str) -> Observing:
    """Raises SettingsError where traces are asked for and cannot be had."""
    registry = CollectorRegistry()
    recorder = Recorder(CollectorRegistry(), [d.name for d in routing.DIALECTS], time.time)
    mirror = StateCollector()
    monitors = Monitors(
        mirror.is_engine,
        [root.path for root in places_of(settings)],
        settings.expected_gpus,
        without=() if settings.exporters else NAMES,
    )
    exposed = monitors.collectors if settings.expose_exporters else {}
    registry.register(Guards({**own_collectors(mirror), **exposed}))
    workers = WorkerThreads()
    registry.register(workers)
    add_build_info(registry, version)
    spans = tracing(os.environ, version, recorder.families.trace_spans_dropped.inc)
    workload, samples = Workload(time.monotonic), Samples()
    counted = Tallied(recorder if spans is None else Traced(recorder, spans), workload)
    sampled = Sampled(counted, samples)
    return Observing(
        registry,
        recorder,
        mirror,
        monitors,
        workers,
        spans,
        workload,
        samples,
        sampled,
        Batched(sampled),
    )
