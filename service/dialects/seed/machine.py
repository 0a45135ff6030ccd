"""What the machine, its GPUs and the models are, as JSON. Ratings are words for what was read, and have
no part in the score."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from exporters.readings import GpuReading, GpusReading, HostReading, Latest
from service.control.hardware import engine_gpus
from service.dialects.seed.gpu import UNKNOWN, mean, percent, thermal_status
from service.telemetry.snapshot import size_class

if TYPE_CHECKING:
    from service.serving.runtime import ModelStatus

GIB: Final = 1024**3
SIZES: Final = ("small", "medium", "large", "xlarge", "unknown")
# Of memory in use, from the service that these routes come from.
PRESSURES: Final = (("high", 0.85), ("medium", 0.70), ("low", 0.0))
# Physical cores, and GiB of memory.
CORES: Final = (("excellent", 16), ("good", 8), ("adequate", 4), ("poor", 0))
MEMORIES: Final = (("excellent", 64), ("good", 32), ("adequate", 16), ("insufficient", 0))
POTENTIALS: Final = (("low", 85.0), ("medium", 60.0), ("high", 0.0))
EXAMPLES: Final = 3


def encode_cpu(host: HostReading) -> dict[str, Any]:
    logical, physical = host.cpus.get("logical"), host.cpus.get("physical")
    threads = logical > physical if logical is not None and physical is not None else None
    idle = [host.cpu_usage[mode] for mode in ("idle", "iowait") if mode in host.cpu_usage]
    return {
        "logical_cores": logical,
        "physical_cores": physical,
        "current_frequency_mhz": scaled(host.cpu_hertz.get("current"), 1e6),
        "max_frequency_mhz": scaled(host.cpu_hertz.get("max"), 1e6),
        "current_usage_percent": percent(1 - sum(idle)) if idle else None,
        "brand": host.cpu_model,
        "architecture": platform.machine() or None,
        "hyperthreading_available": threads,
        "performance_rating": rating(CORES, physical),
    }


def encode_memory(host: HostReading) -> dict[str, Any]:
    total, available = host.memory_total, host.memory_available
    used = None if total is None or available is None else total - available
    usage = used / total if used is not None and total else None
    return {
        "total_gb": scaled(total, GIB),
        "available_gb": scaled(available, GIB),
        "used_gb": scaled(used, GIB),
        "usage_percent": percent(usage),
        "swap_total_gb": scaled(host.swap_total, GIB),
        "swap_used_gb": scaled(host.swap_used, GIB),
        "memory_pressure": None
        if usage is None
        else next(name for name, least in PRESSURES if usage >= least),
        "adequacy_for_llm": rating(MEMORIES, scaled(total, GIB)),
    }


def encode_gpus(
    latest: Latest, split: Sequence[float] | None, quality: Mapping[str, float | None]
) -> dict[str, Any]:
    """`split`: in the order in which an engine counts the cards. `quality`: health of components of
    the score, of 100."""
    reading = latest.gpus
    if reading is None or not reading.gpus:
        return {"error": latest.gpu_failure or "No GPU was found"}
    memories = [gpu.memory for gpu in reading.gpus if gpu.memory is not None]
    loads = [gpu.utilization["gpu"] for gpu in reading.gpus if "gpu" in gpu.utilization]
    hottest = max((g.temperature for g in reading.gpus if g.temperature is not None), default=None)
    total = sum(m.total for m in memories) if memories else None
    used = sum(m.used for m in memories) if memories else None
    return {
        "gpu_count": len(reading.gpus),
        "total_vram_gb": scaled(total, GIB),
        "total_used_vram_gb": scaled(used, GIB),
        "vram_utilization_percent": percent(used / total) if used is not None and total else None,
        "average_gpu_utilization": percent(mean(loads)),
        "max_temperature": hottest,
        "thermal_status": thermal_status(hottest),
        "current_tensor_split": split,
        "gpu_details": details(reading, split or ()),
        "configuration_quality": {
            "balance_score": quality.get("gpu.balance"),
            "utilization_score": quality.get("gpu.offload"),
            "thermal_score": quality.get("gpu.thermal"),
        },
        "driver_version": reading.driver or UNKNOWN,
        "cuda_version": reading.cuda or UNKNOWN,
    }


def details(reading: GpusReading, split: Sequence[float]) -> list[dict[str, Any]]:
    parts = allocated(reading, split, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return [encode_detail(gpu, parts.get(gpu.index)) for gpu in reading.gpus]


def allocated(
    reading: GpusReading, split: Sequence[float], said: str | None
) -> Mapping[int, float]:
    """By the driver's numbers. `said`: CUDA_VISIBLE_DEVICES. With more shares than cards are up, the
    model was loaded before one of them was lost, and that one was counted."""
    up = engine_gpus(reading, said)
    once = engine_gpus(
        replace(reading, gpus=tuple(replace(g, up=True) for g in reading.gpus)), said
    )
    shown = next((gpus for gpus in (up, once) if len(split) <= len(gpus)), ())
    return {gpu.index: share for gpu, share in zip(shown, split, strict=False)}


def encode_detail(gpu: GpuReading, share: float | None) -> dict[str, Any]:
    memory, limit = gpu.memory, gpu.power_limits.get("enforced")
    return {
        "id": gpu.index,
        "name": gpu.name,
        "memory_total_gb": scaled(memory.total, GIB) if memory else None,
        "memory_used_gb": scaled(memory.used, GIB) if memory else None,
        "memory_utilization_percent": percent(memory.used / memory.total)
        if memory and memory.total
        else None,
        "gpu_utilization_percent": percent(gpu.utilization.get("gpu")),
        "temperature_c": gpu.temperature,
        "tensor_allocation_percent": percent(share),
        "power_draw_watts": gpu.power,
        "power_limit_watts": limit,
        # What is left of the limit would say nothing of efficiency.
        "power_efficiency": None,
        "thermal_status": thermal_status(gpu.temperature),
    }


def encode_models(models: Sequence[ModelStatus], score: float | None) -> dict[str, Any]:
    """Diversity: 1 where there are as many of each size class, 0 where all are of one. What there is
    still to win goes by the score."""
    by_size: Mapping[str, list[str]] = {size: [] for size in SIZES}
    for model in models:
        by_size[size_class(model.card.parameter_count)].append(model.card.name)
    lengths = [m.card.context_length for m in models if m.card.context_length is not None]
    return {
        "total_models": len(models),
        "model_categories": {size: len(names) for size, names in by_size.items()},
        "model_examples": {size: names[:EXAMPLES] for size, names in by_size.items()},
        "average_context_size": mean(lengths),
        "max_context_size": max(lengths, default=None),
        "diversity_score": diversity([len(names) for names in by_size.values()]),
        "optimization_potential": rating(POTENTIALS, score),
    }


def scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def rating(words: Sequence[tuple[str, float]], value: float | None) -> str | None:
    """The first whose least it reaches."""
    return None if value is None else next((word for word, least in words if value >= least), None)


def diversity(counts: Sequence[int]) -> float | None:
    """Shannon's entropy of the classes, of the most that it could be."""
    total = sum(counts)
    if not total:
        return None
    parts = [count / total for count in counts if count]
    return abs(-sum(part * math.log(part) for part in parts) / math.log(len(counts)))
