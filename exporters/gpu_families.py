"""The metric families of GPUs, as data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client.core import InfoMetricFamily
from prometheus_client.metrics_core import Metric

from exporters.collector import Family, Samples, each, one, pairs
from exporters.readings import CRITICAL_CELSIUS, WARNING_CELSIUS, GpuReading, GpusReading

LABELS: Final = ("gpu", "uuid")
# Those that NVIDIA's catalogue of Xid errors says to act upon; others are counted as `other`.
XIDS: Final = (8, 13, 31, 32, 38, 43, 45, 48, 61, 62, 63, 64, 68, 69, 74, 79, 92, 94, 95, 119, 120)

Gpu = Family[GpuReading]


def xids(gpu: GpuReading) -> Samples:
    """All from the beginning, at zero: `increase()` does not see a series that is born at one."""
    if gpu.xid_events is None:
        return
    for xid in XIDS:
        yield (str(xid),), gpu.xid_events.get(xid, 0)
    yield ("other",), sum(n for xid, n in gpu.xid_events.items() if xid not in XIDS)


def thresholds(gpu: GpuReading) -> dict[str, float]:
    if gpu.temperature is None:
        return dict(gpu.thresholds)
    return {**gpu.thresholds, "warning": WARNING_CELSIUS, "critical": CRITICAL_CELSIUS}


def memory(part: str) -> Callable[[GpuReading], Samples]:
    return one(lambda gpu: None if gpu.memory is None else getattr(gpu.memory, part))


FAMILIES: Final = (
    Gpu(
        "llm_gpu_up",
        "1 while the GPU answers, 0 from when it is lost.",
        (),
        one(lambda gpu: gpu.up),
    ),
    Gpu(
        "llm_gpu_temperature_celsius",
        "Temperature of the GPU.",
        (),
        one(lambda gpu: gpu.temperature),
    ),
    Gpu(
        "llm_gpu_temperature_threshold_celsius",
        "Where the GPU slows down, shuts down, and its maxima; warning and critical are ours.",
        ("threshold",),
        each(thresholds),
    ),
    Gpu(
        "llm_gpu_memory_temperature_celsius",
        "Temperature of stacked memory.",
        (),
        one(lambda gpu: gpu.memory_temperature),
    ),
    Gpu(
        "llm_gpu_power_watts",
        "Power drawn by the card and its memory.",
        (),
        one(lambda gpu: gpu.power),
    ),
    Gpu(
        "llm_gpu_power_limit_watts",
        "Power limit in force, by default, and the least and most that can be set.",
        ("kind",),
        each(lambda gpu: gpu.power_limits),
    ),
    Gpu(
        "llm_gpu_energy_joules_total",
        "Energy: counted by the card (nvml), or power times the time between readings (integrated).",
        ("source",),
        each(lambda gpu: gpu.energy),
    ),
    Gpu(
        "llm_gpu_fan_speed_ratio",
        "Intended speed of a fan, of its maximum.",
        ("fan",),
        lambda gpu: [((str(fan),), speed) for fan, speed in enumerate(gpu.fans)],
    ),
    Gpu(
        "llm_gpu_utilization_ratio",
        "Part of the last sample period in which some kernel ran, memory was read or written, or "
        "video was coded.",
        ("engine",),
        each(lambda gpu: gpu.utilization),
    ),
    Gpu("llm_gpu_memory_total_bytes", "Memory of the GPU.", (), memory("total")),
    Gpu("llm_gpu_memory_used_bytes", "Memory in use.", (), memory("used")),
    Gpu("llm_gpu_memory_free_bytes", "Memory that is free.", (), memory("free")),
    Gpu(
        "llm_gpu_memory_reserved_bytes",
        "Memory that the driver keeps for itself, where it tells that apart from what is used.",
        (),
        memory("reserved"),
    ),
    Gpu(
        "llm_gpu_clock_hertz",
        "Clock frequency.",
        ("clock",),
        each(lambda gpu: gpu.clocks),
    ),
    Gpu(
        "llm_gpu_clock_max_hertz",
        "Highest clock frequency.",
        ("clock",),
        each(lambda gpu: gpu.clocks_max),
    ),
    Gpu(
        "llm_gpu_pstate",
        "Performance state: 0 is the fastest, 15 the slowest.",
        (),
        one(lambda gpu: gpu.pstate),
    ),
    Gpu(
        "llm_gpu_throttle_active",
        "1 while clocks are held down for this reason.",
        ("reason",),
        each(lambda gpu: gpu.throttle),
    ),
    Gpu(
        "llm_gpu_throttle_seconds_total",
        "Time that clocks were held down: counted by the driver, or added up from readings.",
        ("reason",),
        each(lambda gpu: gpu.throttle_seconds),
    ),
    Gpu(
        "llm_gpu_pcie_link_generation",
        "PCIe generation at this moment; it falls when the GPU is idle.",
        (),
        one(lambda gpu: gpu.pcie.generation),
    ),
    Gpu(
        "llm_gpu_pcie_link_generation_max",
        "Highest PCIe generation of card and slot together.",
        (),
        one(lambda gpu: gpu.pcie.generation_max),
    ),
    Gpu(
        "llm_gpu_pcie_link_width",
        "PCIe lanes in use.",
        (),
        one(lambda gpu: gpu.pcie.width),
    ),
    Gpu(
        "llm_gpu_pcie_link_width_max",
        "Most PCIe lanes of card and slot together.",
        (),
        one(lambda gpu: gpu.pcie.width_max),
    ),
    Gpu(
        "llm_gpu_pcie_throughput_bytes",
        "Bytes a second over PCIe, measured for 20 ms.",
        ("direction",),
        each(lambda gpu: gpu.pcie_bytes_per_second),
    ),
    Gpu(
        "llm_gpu_pcie_replays_total",
        "PCIe packets that were sent again.",
        (),
        one(lambda gpu: gpu.pcie_replays),
    ),
    Gpu(
        "llm_gpu_ecc_errors_total",
        "Memory errors: since the driver was loaded (volatile), and in the card's life (aggregate).",
        ("type", "scope"),
        pairs(lambda gpu: gpu.ecc_errors),
    ),
    Gpu(
        "llm_gpu_retired_pages_total",
        "Pages of memory that are not used any more, by cause.",
        ("cause",),
        each(lambda gpu: gpu.retired_pages),
    ),
    Gpu(
        "llm_gpu_page_retirement_pending",
        "1 while pages wait for a restart to be retired.",
        (),
        one(lambda gpu: gpu.retirement_pending),
    ),
    Gpu(
        "llm_gpu_remapped_rows_total",
        "Rows of memory replaced by spare ones, by cause.",
        ("cause",),
        each(lambda gpu: gpu.remapped_rows),
    ),
    Gpu(
        "llm_gpu_row_remap_pending",
        "1 while rows wait for a reset to be replaced.",
        (),
        one(lambda gpu: gpu.row_remap_pending),
    ),
    Gpu(
        "llm_gpu_row_remap_failed",
        "1 where a row could not be replaced.",
        (),
        one(lambda gpu: gpu.row_remap_failed),
    ),
    Gpu(
        "llm_gpu_xid_errors_total",
        "Xid errors that the driver reported since this process began.",
        ("xid",),
        xids,
    ),
    Gpu(
        "llm_gpu_mig_mode",
        "1 where the GPU is divided into instances.",
        (),
        one(lambda gpu: gpu.mig_mode),
    ),
)


def process_memory(own: Callable[[int], bool]) -> Gpu:
    return Gpu(
        "llm_gpu_process_memory_bytes",
        "Memory of the processes that the driver tells of: this service's engines (self), others.",
        ("owner",),
        lambda gpu: owners(gpu, own),
    )


def owners(gpu: GpuReading, own: Callable[[int], bool]) -> Samples:
    if gpu.processes is None:
        return
    # A sum of which a part is not known is not known.
    if any(process.bytes is None for process in gpu.processes):
        return
    totals = {"self": 0, "other": 0}
    for process in gpu.processes:
        totals["self" if own(process.pid) else "other"] += process.bytes or 0
    for owner, total in totals.items():
        yield (owner,), total


def info(reading: GpusReading) -> Metric:
    family = InfoMetricFamily("llm_gpu", "What a GPU and its driver are.", labels=LABELS)
    for gpu in reading.gpus:
        known = {
            "name": gpu.name,
            "pci_bus": gpu.bus_id,
            "compute_capability": gpu.compute_capability,
            "driver": reading.driver,
            "cuda": reading.cuda,
        }
        family.add_metric((str(gpu.index), gpu.uuid), {k: v or "" for k, v in known.items()})
    return family
