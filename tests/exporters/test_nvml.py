"""The real nvidia-ml-py over a library without GPUs."""

from __future__ import annotations

import ctypes

import pynvml  # type: ignore[import-untyped]
import pytest

from exporters.nvml import Nvml, NvmlUnavailable
from exporters.readings import GpuReading, Memory, ProcessMemory
from tests.fakenvml.driver import Driver


def uuid(card: int) -> str:
    return f"GPU-5eed0000-0000-4000-8000-{card:012d}"


def by_uuid(nvml: Nvml) -> dict[str, GpuReading]:
    return {gpu.uuid: gpu for gpu in nvml.read().gpus}


def test_four_tesla_m10_are_read_in_base_units(driver: Driver) -> None:
    driver.say(card1__temperature=72, card1__power_mw=38000)

    reading = Nvml().read()

    assert (reading.driver, reading.cuda) == ("535.154.05", "12.2")
    assert [gpu.index for gpu in reading.gpus] == [0, 1, 2, 3]
    gpu = reading.gpus[1]
    assert (gpu.name, gpu.uuid, gpu.up) == ("Tesla M10", uuid(1), True)
    assert (gpu.bus_id, gpu.compute_capability) == ("00000000:07:00.0", "5.0")
    assert (gpu.temperature, gpu.power) == (72, 38.0)
    assert gpu.utilization == {"gpu": 0.4, "memory": 0.1, "encoder": 0, "decoder": 0}
    assert gpu.memory == Memory(8589934592, 2390753280, 6199181312, 0)
    assert gpu.clocks["memory"] == 2.6e9
    assert gpu.power_limits == dict.fromkeys(("enforced", "default", "min", "max"), 53.0)


def test_what_a_tesla_m10_refuses_is_absent_and_no_error(driver: Driver) -> None:
    nvml = Nvml()
    gpu = nvml.read().gpus[0]

    assert (gpu.energy, gpu.fans, gpu.memory_temperature) == ({}, (), None)
    assert (gpu.ecc_errors, gpu.remapped_rows, gpu.retired_pages) == ({}, {}, {})
    assert (gpu.mig_mode, gpu.throttle_seconds) == (None, {})
    assert gpu.thresholds == {"shutdown": 95, "slowdown": 90}
    assert nvml.errors == {}


def test_an_h200_tells_more(driver: Driver) -> None:
    driver.say(order="0", card0="h200", driver="590.48.01", cuda=13010)

    reading = Nvml().read()

    (gpu,) = reading.gpus
    assert (reading.driver, reading.cuda) == ("590.48.01", "13.1")
    assert gpu.energy == {"nvml": 123456.789}
    assert gpu.memory_temperature == 44
    assert gpu.memory is not None
    assert gpu.memory.reserved == 643825664
    assert gpu.ecc_errors["corrected", "aggregate"] == 3
    assert gpu.remapped_rows == {"corrected": 0, "uncorrected": 0}
    assert (gpu.row_remap_pending, gpu.mig_mode) == (False, False)
    assert gpu.throttle_seconds == {"sw_power_cap": 5.0, "sync_boost": 0.0}
    assert gpu.thresholds["mem_max"] == 95
    assert gpu.memory_bus_bits == 6144


def test_each_card_of_a_mixed_machine_answers_for_itself(driver: Driver) -> None:
    driver.say(card2="h200")

    names = [(gpu.name, bool(gpu.energy)) for gpu in Nvml().read().gpus]

    assert names == [("Tesla M10", False)] * 2 + [("NVIDIA H200", True), ("Tesla M10", False)]


def test_a_driver_without_the_newer_functions_is_asked_by_the_older(old_driver: Driver) -> None:
    assert not hasattr(ctypes.CDLL(str(old_driver.library)), "nvmlDeviceGetMemoryInfo_v2")
    old_driver.say(every__memory_reserved=1000, every__throttle=0x40, every__fan_percent=30)
    old_driver.say(card0__processes="4242:1048576")

    nvml = Nvml()
    gpu = nvml.read().gpus[0]

    assert gpu.temperature == 45
    # Its used memory has what is reserved in it.
    assert gpu.memory == Memory(8589934592, 2390754280, 6199180312, None)
    assert gpu.throttle["hw_thermal"] is True
    assert gpu.throttle["hw_slowdown"] is False
    assert gpu.fans == (0.3,)
    assert gpu.processes == (ProcessMemory(4242, 1048576),)
    assert nvml.errors == {}


@pytest.mark.parametrize("code", [2, 3, 4, 13, 21, 25])
def test_a_refused_question_takes_its_own_answer_away_and_no_other(
    driver: Driver, code: int
) -> None:
    driver["card1.nvmlDeviceGetPowerUsage"] = -code

    nvml = Nvml()
    gpus = nvml.read().gpus

    assert [gpu.power for gpu in gpus] == [30, None, 30, 30]
    assert gpus[1].temperature == 45
    assert all(gpu.up for gpu in gpus)
    # That a card or a driver does not have it is no error.
    assert bool(nvml.errors) == (code not in (3, 13, 25))


def test_a_refusal_is_counted_by_function_and_code(driver: Driver) -> None:
    driver["card1.nvmlDeviceGetPowerUsage"] = -4
    nvml = Nvml()
    nvml.read()
    nvml.read()

    assert nvml.errors == {("nvmlDeviceGetPowerUsage", "NoPermission"): 2}


@pytest.mark.parametrize("key", ["lost", "nvmlDeviceGetUtilizationRates"])
def test_a_lost_card_is_down_and_the_others_are_as_they_were(driver: Driver, key: str) -> None:
    nvml = Nvml()
    before = by_uuid(nvml)
    driver[f"card1.{key}"] = 1 if key == "lost" else -999
    after = by_uuid(nvml)

    assert [gpu.up for gpu in after.values()] == [True, False, True, True]
    gone = after[uuid(1)]
    assert (gone.index, gone.name, gone.temperature) == (1, "Tesla M10", None)
    assert all(after[uuid(n)] == before[uuid(n)] for n in (0, 2, 3))

    driver.clear()
    assert by_uuid(nvml) == before


def test_cards_keep_their_identity_when_the_driver_counts_anew(driver: Driver) -> None:
    nvml = Nvml()
    driver.say(card0__temperature=50, card2__temperature=52, card3__temperature=53)
    nvml.read()
    driver.say(order="0 2 3")
    after = by_uuid(nvml)

    found = {gpu.uuid: (gpu.index, gpu.up, gpu.temperature) for gpu in after.values()}
    assert found == {
        uuid(0): (0, True, 50),
        uuid(1): (1, False, None),
        uuid(2): (2, True, 52),
        uuid(3): (3, True, 53),
    }


def test_no_card_is_missed_when_indexes_shift_while_they_are_counted(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml = Nvml()
    nvml.read()
    name_of = pynvml.nvmlDeviceGetUUID

    def shift(handle: object) -> object:
        """Card 0 falls off the bus when the second one has been counted."""
        name = name_of(handle)
        if name == uuid(1):
            driver["order"] = "1 2 3"
        return name

    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", shift)
    up = {gpu.uuid: gpu.up for gpu in nvml.read().gpus}

    assert up == {uuid(0): False, uuid(1): True, uuid(2): True, uuid(3): True}


@pytest.mark.parametrize("code", [9, 12, 18])
def test_without_a_driver_there_is_one_error_until_it_comes(driver: Driver, code: int) -> None:
    driver["nvmlInit_v2"] = -code
    nvml = Nvml()

    for _ in range(2):
        with pytest.raises(NvmlUnavailable) as caught:
            nvml.read()
        assert caught.value.installed == (code != 12)

    driver.clear()
    assert len(nvml.read().gpus) == 4


def test_a_driver_that_is_unloaded_meanwhile_is_found_again(driver: Driver) -> None:
    nvml = Nvml()
    nvml.read()
    driver["nvmlDeviceGetCount_v2"] = -1
    with pytest.raises(NvmlUnavailable):
        nvml.read()
    driver.clear()

    assert len(nvml.read().gpus) == 4


def test_where_there_is_no_library_that_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", missing)

    with pytest.raises(NvmlUnavailable) as caught:
        Nvml().read()
    assert not caught.value.installed


def test_xid_events_are_counted_by_the_card_they_came_from(driver: Driver) -> None:
    nvml = Nvml()
    assert nvml.read().gpus[0].xid_events == {}
    driver.say(xid="0:79 2:13 0:79 2:31")
    counts = [gpu.xid_events for gpu in nvml.read().gpus]
    assert counts == [{79: 2}, {}, {13: 1, 31: 1}, {}]

    # The card that fell off the bus keeps its count.
    driver.say(xid="0:79 2:13 0:79 2:31 3:48", card0__lost=1)
    again = nvml.read().gpus
    assert [gpu.xid_events for gpu in again] == [{79: 2}, {}, {13: 1, 31: 1}, {48: 1}]
    assert not again[0].up


def test_an_xid_is_recent_for_an_hour_from_when_it_was_reported_last(driver: Driver) -> None:
    now = 0.0
    nvml = Nvml(clock=lambda: now)
    nvml.read()
    recent = []
    for now in (0.0, 1800.0, 3599.0, 3600.0, 5400.0):
        driver["xid"] = "0:79 2:48" if now < 1800 else "0:79 2:48 0:79"
        recent.append([gpu.recent_xids for gpu in nvml.read().gpus])

    assert recent == [
        [(79,), (), (48,), ()],
        [(79,), (), (48,), ()],
        [(79,), (), (48,), ()],
        [(79,), (), (), ()],
        [(), (), (), ()],
    ]
    assert nvml.read().gpus[0].xid_events == {79: 2}


def test_a_card_that_has_no_xid_events_has_no_count_of_them(driver: Driver) -> None:
    driver.say(every__event_types=1)

    assert Nvml().read().gpus[0].xid_events is None


def test_processes_are_told_with_their_memory_where_the_driver_knows_it(driver: Driver) -> None:
    driver.say(card0__processes="4242:1048576 77:-1")

    gpus = Nvml().read().gpus

    assert gpus[0].processes == (ProcessMemory(4242, 1048576), ProcessMemory(77, None))
    assert gpus[1].processes == ()


def test_pcie_throughput_is_measured_only_where_it_was_asked_for(driver: Driver) -> None:
    driver["nvmlDeviceGetPcieThroughput"] = -4
    quiet = Nvml()
    quiet.read()
    assert quiet.errors == {}

    driver.clear()
    measured = Nvml(pcie_throughput=True).read().gpus[0].pcie_bytes_per_second
    assert measured == {"sent": 1200 * 1024, "received": 3400 * 1024}


def test_every_function_may_fail_on_one_card_in_any_way(driver: Driver) -> None:
    """Whatever the code, the reading is made and the other cards are in it."""
    asked = [
        "nvmlDeviceGetName", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetTemperatureThreshold", "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetClockInfo", "nvmlDeviceGetRetiredPages", "nvmlDeviceGetMigMode",
        "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetViolationStatus", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID",
        "nvmlDeviceRegisterEvents", "nvmlDeviceGetSupportedEventTypes",
    ]  # fmt: skip
    for function in asked:
        for code in (2, 3, 4, 6, 10, 13, 15, 16, 20, 21, 25, 999):
            driver.clear()
            driver[f"card1.{function}"] = -code
            found = by_uuid(Nvml())
            assert {uuid(0), uuid(2), uuid(3)} <= found.keys(), (function, code)
            assert found[uuid(3)].temperature == 45
