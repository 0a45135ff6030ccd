"""The hardware that engines may use: not what the machine has, but what it lends this service.

Cores are those of the processors that this process may run on (affinity), and no more than the
control groups pay for. GPUs are those that an engine is shown, in the order in which it counts
them, which is the one that `tensor_split` and `main_gpu` mean.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from exporters.readings import GpuReading, GpusReading, HostReading, Latest
from service.host_memory import host_memory
from service.visible_gpus import visible

TOPOLOGY: Final = Path("/sys/devices/system/cpu")


class Hardware(Struct, frozen=True):
    """Memory in bytes, the host's: what there is, and what can be had of it, both within the limit
    of the control group. gpus: those that are up."""

    physical_cores: int
    logical_cores: int
    memory_total: int
    memory_available: int
    gpus: tuple[GpuReading, ...] = ()


def hardware(latest: Latest, environment: Mapping[str, str] = os.environ) -> Hardware:
    host = latest.machine or HostReading()
    logical = os.sched_getaffinity(0)
    quota = host.cpus.get("quota")
    memory = host_memory()
    return Hardware(
        physical_cores=paid(cores(logical), quota),
        logical_cores=paid(len(logical), quota),
        memory_total=memory.total,
        memory_available=memory.available,
        gpus=engine_gpus(latest.gpus, environment.get("CUDA_VISIBLE_DEVICES")),
    )


def paid(count: int, quota: float | None) -> int:
    """A quota of half a processor still runs one thread."""
    return count if quota is None else max(1, min(count, int(quota)))


def cores(processors: Collection[int], topology: Path = TOPOLOGY) -> int:
    """The physical cores of these logical processors; each its own where the kernel does not tell."""
    siblings = set()
    for processor in processors:
        try:
            text = (topology / f"cpu{processor}/topology/thread_siblings_list").read_text().strip()
        except OSError:
            text = str(processor)
        siblings.add(text)
    return max(1, len(siblings))


def engine_gpus(reading: GpusReading | None, said: str | None) -> tuple[GpuReading, ...]:
    """`said`: CUDA_VISIBLE_DEVICES. A lost card has no place among those that CUDA counts."""
    up = [gpu for gpu in (reading.gpus if reading else ()) if gpu.up]
    if all(gpu.bus_id for gpu in up):
        up.sort(key=lambda gpu: gpu.bus_id or "")
    return visible(up, said)
