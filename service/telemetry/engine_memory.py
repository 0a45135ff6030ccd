"""Which engines have memory on which GPUs, and how much. Pure.

The driver tells it by process ids. Where it names no engine at all, its ids are not ours, as in a
container that has ids of its own: then it is what llama.cpp says that it took on its nth device,
which lacks what CUDA keeps for itself, some hundred MiB on each card.

That the nth device is the nth card shown is not known while a card is lost, since others may have
moved up; nor of cards that are divided, where each instance is a device. Then nothing is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from exporters.readings import GpuReading, GpusReading
from service.telemetry.snapshot import Status, buffers

CUDA: Final = re.compile(r"CUDA(\d+)")

# Of each GPU, by its UUID: the models whose engines are on it, with their bytes; None: not known.
OnGpus = Mapping[str, Mapping[str, int | None]]


def engine_memory(
    reading: GpusReading | None, shown: Sequence[GpuReading], models: Sequence[Status]
) -> OnGpus:
    """`shown`: the cards that engines see, in the order in which they count them."""
    if reading is None:
        return {}
    by_driver, own = by_process(reading, models), by_buffers(reading, shown, models)
    if not any(by_driver.values()):
        return own
    return {
        uuid: {
            model: own.get(uuid, {}).get(model) if size is None else size
            for model, size in found.items()
        }
        for uuid, found in by_driver.items()
    }


def by_process(reading: GpusReading, models: Sequence[Status]) -> OnGpus:
    engines = {status.pid: status.card.name for status in models if status.pid is not None}
    return {
        gpu.uuid: {
            engines[process.pid]: process.bytes
            for process in gpu.processes or ()
            if process.pid in engines
        }
        for gpu in reading.gpus
    }


def by_buffers(
    reading: GpusReading, shown: Sequence[GpuReading], models: Sequence[Status]
) -> OnGpus:
    if any(not gpu.up or gpu.mig_mode for gpu in reading.gpus):
        return {}
    found: dict[str, dict[str, int]] = {}
    for status, buffer in buffers(models):
        device = CUDA.fullmatch(buffer.device)
        if device is not None and (place := int(device[1])) < len(shown):
            taken = found.setdefault(shown[place].uuid, {})
            taken[status.card.name] = taken.get(status.card.name, 0) + buffer.bytes
    return found


def by_device(reading: GpusReading | None, found: OnGpus) -> dict[tuple[str, str], int]:
    """The same by model and GPU, as its series are named."""
    return {
        (model, f"gpu{gpu.index}"): size
        for gpu in (reading.gpus if reading is not None else ())
        for model, size in found.get(gpu.uuid, {}).items()
        if size is not None
    }
