"""What the machine, its GPUs and the models are, in one answer.

    GET /api/metrics/optimization?tensor_split=0.5,0.5

Everything is read. Judgements (scores, ratings, recommendations) are null or empty, since nothing
in this service makes them; of the query, only tensor_split changes the answer, and what else is
asked for is named in X-Ignored-Params as everywhere.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporters.readings import GpuReading, GpusReading, HostReading, Latest
from service.dialects.framing import encode_json
from service.dialects.respond import State
from service.dialects.seed_gpu import UNKNOWN, mean, percent, thermal_status
from service.errors import InvalidRequest
from service.telemetry.http import exchange_of
from service.telemetry.snapshot import size_class

if TYPE_CHECKING:
    from service.runtime import ModelStatus

GIB: Final = 1024**3
NUMBERS: Final = ("gpu_layers", "threads", "batch_size", "context_size")
SIZES: Final = ("small", "medium", "large", "xlarge", "unknown")
# Of memory in use, from the service that these routes come from.
PRESSURES: Final = (("high", 0.85), ("medium", 0.70), ("low", 0.0))
EXAMPLES: Final = 3


async def optimization(request: Request[State]) -> Response:
    query = request.query_params
    split = shares(query.get("tensor_split"))
    given = [name for name in NUMBERS if name in query]
    for name in given:
        whole_number(name, query[name])
    exchange_of(request.scope).ignored += given
    monitors = request.state["monitors"]
    machine = monitors.machine or HostReading()
    models = [m for m in request.state["runtime"].models() if m.card.problem is None]
    body: dict[str, Any] = {
        "timestamp": datetime.fromtimestamp(time.time(), UTC).isoformat(),
        "cpu_analysis": encode_cpu(machine),
        "memory_analysis": encode_memory(machine),
        "gpu_analysis": encode_gpus(monitors, split),
        "model_analysis": encode_models(models),
        "recommendations": [],
        "overall_score": None,
    }
    return Response(encode_json(body), media_type="application/json")


def whole_number(name: str, text: str) -> None:
    if not text.strip().removeprefix("-").isdecimal():
        raise InvalidRequest(f"{name} must be a whole number", param=name)


def shares(text: str | None) -> list[float] | None:
    """Of each GPU, summing to 1; raises InvalidRequest."""
    if not text:
        return None
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 <= value < 1e9 for value in values) or not sum(values):
        raise InvalidRequest(
            "tensor_split must be shares such as 0.5,0.3,0.2", param="tensor_split"
        )
    return [value / sum(values) for value in values]


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
        "performance_rating": None,
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
        "adequacy_for_llm": None,
    }


def encode_gpus(latest: Latest, split: Sequence[float] | None) -> dict[str, Any]:
    reading = latest.gpus
    if reading is None or not reading.gpus:
        return {"error": latest.gpu_failure or "No GPU was found"}
    memories = [gpu.memory for gpu in reading.gpus if gpu.memory is not None]
    loads = [gpu.utilization["gpu"] for gpu in reading.gpus if "gpu" in gpu.utilization]
    hottest = max((g.temperature for g in reading.gpus if g.temperature is not None), default=None)
    total, used = sum(m.total for m in memories), sum(m.used for m in memories)
    return {
        "gpu_count": len(reading.gpus),
        "total_vram_gb": scaled(total, GIB),
        "total_used_vram_gb": scaled(used, GIB),
        "vram_utilization_percent": percent(used / total) if total else None,
        "average_gpu_utilization": percent(mean(loads)),
        "max_temperature": hottest,
        "thermal_status": thermal_status(hottest),
        "current_tensor_split": split,
        "gpu_details": details(reading, split or ()),
        "configuration_quality": {
            "balance_score": None,
            "utilization_score": None,
            "thermal_score": None,
        },
        "driver_version": reading.driver or UNKNOWN,
        "cuda_version": reading.cuda or UNKNOWN,
    }


def details(reading: GpusReading, split: Sequence[float]) -> list[dict[str, Any]]:
    return [
        encode_detail(gpu, split[place] if place < len(split) else None)
        for place, gpu in enumerate(reading.gpus)
    ]


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


def encode_models(models: Sequence[ModelStatus]) -> dict[str, Any]:
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
        "diversity_score": None,
        "optimization_potential": None,
    }


def scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


at_root: Final = [Route("/api/metrics/optimization", optimization)]
