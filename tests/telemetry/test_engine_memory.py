from __future__ import annotations

from typing import Any

import msgspec
import pytest

from exporters.readings import GpuReading, GpusReading, ProcessMemory
from service.facts import Buffer
from service.serving.model_status import ModelStatus
from service.telemetry.engine_memory import OnGpus, by_device, engine_memory
from tests.dialects.fakes import CARD, FACTS

# As the driver has them in a container: the machine's ids, of which none is an engine's here.
OF_THE_MACHINE = (ProcessMemory(91234, 900),)


def gpu(index: int, *processes: ProcessMemory, **given: Any) -> GpuReading:
    return GpuReading(index=index, uuid=f"u{index}", processes=processes, **given)


def model(name: str, pid: int, *taken: Buffer) -> ModelStatus:
    card = msgspec.structs.replace(CARD, name=name)
    facts = msgspec.structs.replace(FACTS, buffers=taken)
    return ModelStatus(card, "ready", None, facts, None, 0, 0, 8, pid=pid)


SPLIT = model(
    "split", 7, Buffer("CUDA0", "weights", 70), Buffer("CUDA0", "cells", 5),
    Buffer("CUDA1", "weights", 60), Buffer("CPU", "weights", 9), Buffer("CUDA_Host", "compute", 3),
)  # fmt: skip
SMALL = model("small", 8, Buffer("CUDA1", "weights", 4))


def found(*gpus: GpuReading, shown: tuple[int, ...] | None = None) -> OnGpus:
    order = range(len(gpus)) if shown is None else shown
    return engine_memory(GpusReading(gpus), [gpus[place] for place in order], [SPLIT, SMALL])


def test_what_the_driver_says_of_an_engines_process_counts() -> None:
    reading = gpu(0, ProcessMemory(7, 500), ProcessMemory(99, 1)), gpu(1, ProcessMemory(8, 30))

    assert found(*reading) == {"u0": {"split": 500}, "u1": {"small": 30}}


@pytest.mark.parametrize("processes", [OF_THE_MACHINE, ()], ids=["others", "none"])
def test_where_it_names_no_engine_what_llama_cpp_took_counts(
    processes: tuple[ProcessMemory, ...],
) -> None:
    reading = gpu(0, *processes), gpu(1, *processes)

    assert found(*reading) == {"u0": {"split": 75}, "u1": {"split": 60, "small": 4}}


def test_devices_are_counted_in_the_order_in_which_cards_are_shown() -> None:
    reading = [gpu(index, *OF_THE_MACHINE) for index in range(4)]

    memory = found(*reading, shown=(3, 2))

    assert memory == {"u3": {"split": 75}, "u2": {"split": 60, "small": 4}}
    assert by_device(GpusReading(tuple(reading)), memory) == {
        ("split", "gpu3"): 75,
        ("split", "gpu2"): 60,
        ("small", "gpu2"): 4,
    }


def test_a_device_that_is_not_among_the_cards_shown_is_nobodys() -> None:
    assert found(gpu(0), gpu(1), shown=(1,)) == {"u1": {"split": 75}}


@pytest.mark.parametrize("state", [{"up": False}, {"mig_mode": True}], ids=["lost", "divided"])
def test_nothing_is_told_where_the_order_of_cards_is_not_known(state: dict[str, Any]) -> None:
    assert found(gpu(0), gpu(1), gpu(2, **state)) == {}


def test_an_engine_without_a_size_has_that_of_its_buffers_where_they_are_known() -> None:
    reading = gpu(0, ProcessMemory(7, None)), gpu(1, ProcessMemory(8, None), up=False)

    assert found(*reading) == {"u0": {"split": None}, "u1": {"small": None}}
    assert by_device(GpusReading(reading), found(*reading)) == {}
    assert found(gpu(0, ProcessMemory(7, None)), gpu(1)) == {"u0": {"split": 75}, "u1": {}}


def test_without_a_reading_nothing_is_known() -> None:
    assert engine_memory(None, (), [SPLIT]) == {}
    assert by_device(None, {}) == {}
