"""What this service may use of the machine that it is on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from exporters.readings import GpuReading, GpusReading, HostReading
from service.control.hardware import cores, engine_gpus, hardware, paid
from service.host_memory import HostMemory

GIB = 1 << 30


@dataclass
class Read:
    gpus: GpusReading | None = None
    gpu_failure: str | None = None
    machine: HostReading | None = None


def gpu(number: int, bus: int, up: bool = True) -> GpuReading:
    return GpuReading(
        index=number, uuid=f"GPU-{number}", up=up, bus_id=f"00000000:{bus:02X}:00.0" if up else None
    )


def test_two_threads_of_a_core_are_one_core(tmp_path: Path) -> None:
    for processor, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{processor}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")

    assert cores({0, 1, 2, 3}, tmp_path) == 2
    assert cores({0, 2}, tmp_path) == 1
    assert cores({0, 1}, tmp_path) == 2


def test_where_the_kernel_does_not_tell_each_processor_is_a_core(tmp_path: Path) -> None:
    assert cores({3, 5, 7}, tmp_path) == 3


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (12.0, 8), (2.5, 2), (0.5, 1)])
def test_no_more_cores_than_are_paid_for(quota: float | None, expected: int) -> None:
    assert paid(8, quota) == expected


def test_a_control_groups_limits_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = HostMemory(total=GIB // 8, available=GIB // 16)
    monkeypatch.setattr("service.control.hardware.host_memory", lambda: allowed)
    host = HostReading(cpus={"quota": 1.0}, memory_limit=GIB // 8, memory_limit_used=GIB // 8)
    found = hardware(Read(machine=host))

    assert (found.physical_cores, found.logical_cores) == (1, 1)
    assert (found.memory_total, found.memory_available) == (GIB // 8, GIB // 16)


def test_a_machine_that_nobody_reads_is_asked_itself() -> None:
    found = hardware(Read())

    assert 1 <= found.physical_cores <= found.logical_cores
    assert 0 < found.memory_available <= found.memory_total
    assert found.gpus == ()


def test_gpus_are_counted_as_an_engine_counts_them() -> None:
    reading = GpusReading((gpu(0, bus=7), gpu(1, bus=3), gpu(2, bus=5)))

    def order(said: str | None) -> list[int]:
        return [gpu.index for gpu in engine_gpus(reading, said)]

    assert order(None) == [1, 2, 0]
    assert order("2,0") == [0, 1]
    assert order("GPU-2") == [2]
    assert order("-1") == []


def test_a_lost_gpu_has_no_place_and_those_behind_it_move_up() -> None:
    reading = GpusReading((gpu(0, 1), gpu(1, 2, up=False), gpu(2, 3)))

    assert [gpu.index for gpu in engine_gpus(reading, None)] == [0, 2]
    assert [gpu.index for gpu in engine_gpus(reading, "1")] == [2]
