"""The collectors of one process, together: what there is to start, to stop and to scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from exporters.collector import SampledCollector
from exporters.disk import DiskCollector
from exporters.gpu import GpuCollector
from exporters.host import HostCollector
from exporters.readings import GpusReading, HostReading, StoreReading
from exporters.sampler import INTERVAL_SECONDS

NAMES: Final = ("gpu", "host", "disk")


class Monitors:
    """Implements `readings.Latest`. `without` names collectors to leave out: gpu, host, disk. `stores`: directories of models."""

    def __init__(
        self,
        own: Callable[[int], bool],
        stores: Sequence[Path] = (),
        expected_gpus: int | None = None,
        pcie_throughput: bool = False,
        interval: float = INTERVAL_SECONDS,
        without: Sequence[str] = (),
    ) -> None:
        self.gpu = GpuCollector(own, expected_gpus, pcie_throughput, interval)
        self.host = HostCollector(interval=interval)
        every: dict[str, SampledCollector[Any]] = {"gpu": self.gpu, "host": self.host}
        self.disk = DiskCollector(stores) if stores else None
        if self.disk is not None:
            every["disk"] = self.disk
        self.collectors: Mapping[str, SampledCollector[Any]] = {
            name: collector for name, collector in every.items() if name not in without
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        for collector in self.collectors.values():
            collector.sampler.start()
        try:
            yield
        finally:
            for collector in self.collectors.values():
                collector.sampler.stop()

    @property
    def gpus(self) -> GpusReading | None:
        return self.gpu.sampler.fresh

    @property
    def gpu_failure(self) -> str | None:
        return self.gpu.sampler.failure if "gpu" in self.collectors else "GPUs are not read"

    @property
    def expected_gpus(self) -> int | None:
        return self.gpu.expected if "gpu" in self.collectors else None

    @property
    def stores(self) -> tuple[StoreReading, ...]:
        """The file systems of models; empty where nobody has looked."""
        return (self.disk.sampler.fresh or ()) if self.disk is not None else ()

    @property
    def machine(self) -> HostReading | None:
        return self.host.sampler.fresh


def is_engine(pid: int) -> bool:
    """Whether a process is an engine of the service, for an exporter beside it."""
    try:
        return "service.engine" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
