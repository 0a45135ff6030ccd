"""What is known of each card. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from exporters.readings import CRITICAL_CELSIUS, WARNING_CELSIUS, GpuReading, Latest
from service.control.evidence import GpuEvidence
from service.control.hardware import Hardware
from service.control.intervals import POWER_CAP, THERMAL, GpuInterval, Interval

if TYPE_CHECKING:
    from service.control.gathering import Status

TEMPERATURE_SECONDS: Final = 600.0
# Xid codes after which a card is not to be relied on, in NVIDIA's words (Xid Errors, r570).
FATAL_XIDS: Final[Mapping[int, str]] = {
    48: "double bit ECC error",
    74: "NVLink error",
    79: "fallen off the bus",
    95: "uncontained ECC error",
    119: "GSP did not answer",
    120: "GSP error",
}


def gpus_of(
    latest: Latest | None,
    hardware: Hardware | None,
    models: Sequence[Status],
    intervals: Sequence[Interval],
) -> tuple[GpuEvidence, ...]:
    """In the order in which an engine counts them, those that it cannot see behind."""
    if latest is None or latest.gpus is None:
        return ()
    shown = hardware.gpus if hardware is not None else ()
    lost = [gpu for gpu in latest.gpus.gpus if not gpu.up]
    pids = {status.pid for status in models if status.pid is not None}
    return tuple(gpu_evidence(gpu, pids, intervals) for gpu in (*shown, *lost))


def gpu_evidence(
    gpu: GpuReading, pids: Collection[int], intervals: Sequence[Interval]
) -> GpuEvidence:
    measured = [(i.seconds, i.gpus[gpu.uuid]) for i in intervals if gpu.uuid in i.gpus]
    seconds = sum(s for s, _ in measured)
    memory, limits = gpu.memory, gpu.power_limits
    samples = [sample for _, sample in measured]
    return GpuEvidence(
        index=gpu.index,
        name=gpu.name or "GPU",
        uuid=gpu.uuid,
        up=gpu.up,
        faults=tuple(faults(gpu)),
        temperature=hot(measured) if gpu.up else None,
        warning=WARNING_CELSIUS,
        critical=CRITICAL_CELSIUS,
        slowdown=gpu.thresholds.get("slowdown"),
        throttled=longest(samples, THERMAL, seconds),
        power_capped=longest(samples, (POWER_CAP,), seconds),
        power=mean([power for sample in samples for power in sample.powers]),
        power_limit=limits.get("enforced"),
        power_default=limits.get("default"),
        power_least=limits.get("min"),
        fan=mean(gpu.fans),
        total=None if memory is None else memory.total,
        free=None if memory is None else memory.free,
        others=of_others(gpu, pids),
        pcie_width=gpu.pcie.width,
        pcie_width_max=gpu.pcie.width_max,
    )


def faults(gpu: GpuReading) -> list[str]:
    found = [
        f"Xid {code}, {FATAL_XIDS[code]}"
        for code, count in (gpu.xid_events or {}).items()
        if count and code in FATAL_XIDS
    ]
    if gpu.ecc_errors.get(("uncorrected", "volatile")):
        found.append("uncorrected ECC errors since the driver was loaded")
    if gpu.row_remap_failed:
        found.append("a row of its memory could not be remapped")
    return found


def hot(measured: Sequence[tuple[float, GpuInterval]]) -> float | None:
    """The 95th percentile of the last ten minutes."""
    samples: list[float] = []
    seconds = 0.0
    for length, interval in reversed(measured):
        samples += interval.temperatures
        seconds += length
        if seconds >= TEMPERATURE_SECONDS:
            break
    return sorted(samples)[int(0.95 * (len(samples) - 1))] if samples else None


def longest(samples: Sequence[GpuInterval], reasons: Sequence[str], seconds: float) -> float | None:
    """The share of time of the reason that held longest: several may hold at once."""
    totals = [
        sum(sample.throttled[reason] for sample in samples if reason in sample.throttled)
        for reason in reasons
        if any(reason in sample.throttled for sample in samples)
    ]
    return min(1.0, max(totals) / seconds) if totals and seconds else None


def of_others(gpu: GpuReading, pids: Collection[int]) -> int | None:
    """Bytes that no engine of ours has; None where the driver does not tell whose they are."""
    if gpu.memory is None or gpu.processes is None:
        return None
    if any(process.bytes is None for process in gpu.processes):
        return None
    return sum(p.bytes or 0 for p in gpu.processes if p.pid not in pids)


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
