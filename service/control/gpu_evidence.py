"""What is known of each card. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from exporters.readings import CRITICAL_CELSIUS, WARNING_CELSIUS, GpuReading, Latest
from service.control.evidence import GpuEvidence
from service.control.hardware import Hardware
from service.control.intervals import POWER_CAP, THERMAL, GpuInterval, Interval
from service.facts import ModelFacts

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
    before: Sequence[GpuEvidence] = (),
) -> tuple[GpuEvidence, ...]:
    """In the order in which an engine counts them, lost ones behind. Those keep what was known of
    them `before`: a card is no better for having nothing to say any more."""
    read = latest.gpus.gpus if latest is not None and latest.gpus is not None else ()
    shown = hardware.gpus if hardware is not None and read else ()
    pids = {status.pid for status in models if status.pid is not None}
    known = {gpu.uuid: gpu for gpu in before}
    here = {gpu.uuid for gpu in read}
    lost = [
        replace(
            known.get(gpu.uuid) or gpu_evidence(gpu, pids, intervals),
            up=False,
            faults=tuple(faults(gpu)),
        )
        for gpu in read
        if not gpu.up
    ]
    gone = [replace(gpu, up=False) for uuid, gpu in known.items() if uuid not in here]
    return (*(gpu_evidence(gpu, pids, intervals) for gpu in shown), *lost, *gone)


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
        temperature=hot(measured),
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


def cards_of(
    pid: int | None, facts: ModelFacts, shown: Sequence[GpuReading]
) -> tuple[int, ...] | None:
    """The indices of the cards that an engine has memory of: by the driver, else by its own word;
    None where neither tells. `shown`: in the order in which it counts them."""
    by_driver = [gpu.index for gpu in shown if any(p.pid == pid for p in gpu.processes or ())]
    if by_driver and pid is not None:
        return tuple(by_driver)
    if not facts.gpu_layers:
        return ()
    devices = {buffer.device for buffer in facts.buffers if buffer.bytes}
    by_engine = [gpu.index for place, gpu in enumerate(shown) if f"CUDA{place}" in devices]
    return tuple(by_engine) or None


def faults(gpu: GpuReading) -> list[str]:
    """Xids of late only: a card that has been reset since is as good as before."""
    found = [f"Xid {code}, {FATAL_XIDS[code]}" for code in gpu.recent_xids if code in FATAL_XIDS]
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
