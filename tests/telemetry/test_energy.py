from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporters.readings import GpuReading, GpusReading, ProcessMemory
from service.telemetry.energy import EnergyLedger, shares

ENGINES = {1: "a", 2: "b"}


def gpu(joules: float | None, *pids: int, uuid: str = "x", source: str = "nvml") -> GpuReading:
    return GpuReading(
        index=0,
        uuid=uuid,
        energy={} if joules is None else {source: joules},
        processes=tuple(ProcessMemory(pid, 1) for pid in pids),
    )


def after(*scrapes: tuple[list[GpuReading], dict[str, float]]) -> dict[str, float]:
    ledger = EnergyLedger()
    for gpus, computed in scrapes:
        ledger.add(GpusReading(tuple(gpus)), ENGINES, computed)
    return ledger.joules


def test_a_model_that_was_alone_has_all_of_it_from_the_first_scrape_on() -> None:
    found = after(([gpu(100, 1)], {"a": 5}), ([gpu(160, 1)], {"a": 6}), ([gpu(200, 1)], {"a": 7}))

    assert found == {"a": 100}


def test_models_share_a_gpu_by_the_time_that_they_computed() -> None:
    found = after(([gpu(0, 1, 2)], {}), ([gpu(100, 1, 2, 99)], {"a": 3, "b": 1}))

    assert found == {"a": 75, "b": 25}


def test_what_is_used_while_none_computes_is_nobodys() -> None:
    found = after(([gpu(0, 1)], {"a": 3}), ([gpu(100, 1)], {"a": 3}), ([gpu(110, 1)], {"a": 4}))

    assert found == {"a": 10}


def test_a_model_on_several_gpus_has_its_part_of_each() -> None:
    found = after(
        ([gpu(0, 1), gpu(0, 1, 2, uuid="y")], {}),
        ([gpu(10, 1), gpu(100, 1, 2, uuid="y")], {"a": 1, "b": 1}),
    )

    assert found == {"a": 60, "b": 50}


def test_scrapes_that_come_faster_than_readings_lose_nothing() -> None:
    found = after(
        ([gpu(0, 1, 2)], {}),
        ([gpu(0, 1, 2)], {"a": 1}),
        ([gpu(0, 1, 2)], {"a": 1, "b": 1}),
        ([gpu(80, 1, 2)], {"a": 1, "b": 3}),
    )

    assert found == {"a": 20, "b": 60}


def test_nothing_is_known_without_energy_or_without_processes() -> None:
    assert after(([gpu(None, 1)], {}), ([gpu(None, 1)], {"a": 1})) == {}
    assert after(([gpu(0)], {}), ([gpu(50)], {"a": 1})) == {}
    ledger = EnergyLedger()
    ledger.add(None, ENGINES, {"a": 1})
    assert ledger.joules == {}


def test_a_count_that_began_anew_takes_nothing_back() -> None:
    found = after(([gpu(500, 1)], {}), ([gpu(3, 1)], {"a": 1}), ([gpu(8, 1)], {"a": 2}))

    assert found == {"a": 5}


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e6), max_size=4))
def test_shares_are_a_whole_or_nothing(spent: dict[str, float]) -> None:
    found = shares("abcd", spent)

    assert all(0 <= share <= 1 for share in found.values())
    assert abs(sum(found.values()) - bool(sum(spent.values()))) < 1e-9
