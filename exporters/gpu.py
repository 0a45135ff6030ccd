"""GPUs, as NVML tells of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from exporters.collector import SampledCollector
from exporters.gpu_families import FAMILIES, LABELS, info, process_memory
from exporters.integrals import Integrals
from exporters.nvml import Nvml, NvmlUnavailable
from exporters.readings import GpusReading
from exporters.sampler import INTERVAL_SECONDS, NothingToRead, Sampler


class GpuCollector(SampledCollector[GpusReading]):
    """`expected`: the GPUs that there should be; None: as many as were ever seen. `own`: whether a
    process, by its id, counts as ours; any thread may call it."""

    def __init__(
        self,
        own: Callable[[int], bool],
        expected: int | None = None,
        pcie_throughput: bool = False,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._nvml = Nvml(pcie_throughput)
        super().__init__(Sampler("gpu", self._read, self._nvml.close, interval, 5 * interval))
        self._own = own
        self._configured = expected
        self._integrals = Integrals()

    @property
    def expected(self) -> int | None:
        if self._configured is not None:
            return self._configured
        last = self.sampler.last
        return len(last.value.gpus) if last is not None else None

    def _read(self) -> GpusReading:
        try:
            reading = self._nvml.read()
        except NvmlUnavailable as error:
            if not error.installed and not self.expected:
                raise NothingToRead("no NVIDIA driver is installed") from None
            raise
        return self._integrals.complete(reading, time.monotonic())

    def families(self, value: GpusReading | None) -> Iterator[Metric]:
        expected = GaugeMetricFamily(
            "llm_gpu_expected", "GPUs that there should be: as configured, or as many as were seen."
        )
        if self.expected is not None:
            expected.add_metric((), self.expected)
        yield expected
        errors = CounterMetricFamily(
            "llm_exporter_nvml_errors_total",
            "Calls of NVML that failed, other than for what a card or a driver does not have.",
            labels=("function", "code"),
        )
        for labels, count in dict(self._nvml.errors).items():
            errors.add_metric(labels, count)
        yield errors
        if value is None:
            return
        readings = [((str(gpu.index), gpu.uuid), gpu) for gpu in value.gpus]
        for family in FAMILIES:
            yield family.of(readings, LABELS)
        yield info(value)
        yield process_memory(self._own).of(readings, LABELS)
