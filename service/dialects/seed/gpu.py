"""GPUs as JSON, for pages and scripts that read no Prometheus.

    GET /api/metrics/gpu    each GPU, and all together

Megabytes are of 1024 x 1024 bytes, as nvidia-smi prints them. null: not known, or refused by the
card. A machine without GPUs is answered with 200 and none of them; a lost GPU with `up` false.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporters.readings import CRITICAL_CELSIUS, WARNING_CELSIUS, GpuReading, Latest
from service.dialects.framing import iso, json_response
from service.dialects.state import State

UNKNOWN: Final = "unknown"
MIB: Final = 1024 * 1024


async def gpu(request: Request[State]) -> Response:
    body = encode_gpus(request.state["monitors"], time.time())
    return json_response(body)


def encode_gpus(latest: Latest, now: float) -> dict[str, Any]:
    """The totals are of the GPUs that are up."""
    reading = latest.gpus
    gpus = reading.gpus if reading is not None else ()
    up = [gpu for gpu in gpus if gpu.up]
    temperatures = [gpu.temperature for gpu in up if gpu.temperature is not None]
    loads = [gpu.utilization["gpu"] for gpu in up if "gpu" in gpu.utilization]
    memories = [gpu.memory for gpu in up if gpu.memory is not None]
    body: dict[str, Any] = {
        "timestamp": iso(now),
        "gpus": [encode_gpu(gpu) for gpu in gpus],
        "gpu_count": len(gpus),
        "total_memory_used": mebibytes([memory.used for memory in memories]),
        "total_memory_available": mebibytes([memory.total for memory in memories]),
        "average_temperature": mean(temperatures),
        "average_utilization": percent(mean(loads)),
        "thermal_status": thermal_status(max(temperatures, default=None)),
        "driver_version": (reading and reading.driver) or UNKNOWN,
        "cuda_version": (reading and reading.cuda) or UNKNOWN,
    }
    if not gpus:
        body["error"] = latest.gpu_failure or "No GPU was found"
    return body


def encode_gpu(gpu: GpuReading) -> dict[str, Any]:
    memory, load = gpu.memory, percent(gpu.utilization.get("gpu"))
    used, total = (None, None) if memory is None else (memory.used, memory.total)
    return {
        "gpu_id": gpu.index,
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "up": gpu.up,
        "utilization_gpu": load,
        "utilization_percent": load,
        "utilization_memory": percent(gpu.utilization.get("memory")),
        "memory_used": None if used is None else used / MIB,
        "memory_total": None if total is None else total / MIB,
        "memory_percent": 100 * used / total if used is not None and total else None,
        "temperature": gpu.temperature,
        "thermal_status": thermal_status(gpu.temperature),
        "power_draw": gpu.power,
        "power_limit": gpu.power_limits.get("enforced"),
        "fan_speed": percent(mean(gpu.fans)),
        "clock_graphics": megahertz(gpu.clocks.get("graphics")),
        "clock_memory": megahertz(gpu.clocks.get("memory")),
        "pcie_generation": gpu.pcie.generation,
        "pcie_width": gpu.pcie.width,
        "throttle_reasons": [reason for reason, active in gpu.throttle.items() if active],
    }


def thermal_status(celsius: float | None) -> str:
    if celsius is None:
        return UNKNOWN
    if celsius >= CRITICAL_CELSIUS:
        return "critical"
    return "warning" if celsius >= WARNING_CELSIUS else "good"


def mebibytes(sizes: Sequence[int]) -> float | None:
    """All together; None where no card tells its memory."""
    return sum(sizes) / MIB if sizes else None


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def percent(ratio: float | None) -> float | None:
    """Card and driver tell whole ones."""
    return None if ratio is None else round(100 * ratio, 2)


def megahertz(hertz: float | None) -> float | None:
    return None if hertz is None else hertz / 1e6


at_root: Final = [Route("/api/metrics/gpu", gpu)]
