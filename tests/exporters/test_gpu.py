"""What a scrape has of GPUs, and what it has not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families as plain

from exporters.collector import Guards
from exporters.gpu import GpuCollector
from exporters.integrals import LONGEST_GAP_SECONDS, Integrals
from exporters.readings import GpuReading, GpusReading
from tests.dialects.serving import wait_until
from tests.exporters.test_nvml import uuid
from tests.fakenvml.driver import Driver

# A reading is stale after five of these, which a busy machine must not take for one.
INTERVAL = 0.3

Samples = dict[tuple[str, ...], float]
Start = Callable[..., GpuCollector]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[GpuCollector] = []

    def start(
        own: frozenset[int] = frozenset(), expected: int | None = None, interval: float = INTERVAL
    ) -> GpuCollector:
        collector = GpuCollector(own.__contains__, expected, interval=interval)
        running.append(collector)
        collector.sampler.start()
        return collector

    yield start
    for collector in running:
        collector.sampler.stop()


def text_of(collector: GpuCollector) -> str:
    registry = CollectorRegistry()
    registry.register(Guards({"gpu": collector}))
    return generate_latest(registry).decode()


def samples(collector: GpuCollector, name: str, *keys: str) -> Samples:
    return {
        tuple(sample.labels[key] for key in keys): sample.value
        for family in plain(text_of(collector))
        for sample in family.samples
        if sample.name == name
    }


def success(collector: GpuCollector) -> float | None:
    return samples(collector, "llm_exporter_collector_success", "collector").get(("gpu",))


def test_a_lost_gpu_is_down_by_its_uuid_while_scrapes_go_on(driver: Driver, start: Start) -> None:
    collector = start()
    everything = {(uuid(n),): 1.0 for n in range(4)}
    wait_until(lambda: samples(collector, "llm_gpu_up", "uuid") == everything)

    driver["card1.lost"] = 1
    lost = everything | {(uuid(1),): 0.0}
    wait_until(lambda: samples(collector, "llm_gpu_up", "uuid") == lost)
    assert (uuid(1),) not in samples(collector, "llm_gpu_temperature_celsius", "uuid")
    assert len(samples(collector, "llm_gpu_temperature_celsius", "uuid")) == 3
    assert samples(collector, "llm_gpu_expected") == {(): 4}
    assert success(collector) == 1

    driver.clear()
    wait_until(lambda: samples(collector, "llm_gpu_up", "uuid") == everything)


def test_no_series_changes_its_labels_when_indexes_shift(driver: Driver, start: Start) -> None:
    driver.say(card2__temperature=52, card3__temperature=53)
    collector = start()
    name = "llm_gpu_temperature_celsius"
    wait_until(lambda: len(samples(collector, name, "gpu", "uuid")) == 4)

    driver["order"] = "0 2 3"
    rest = {("0", uuid(0)): 45.0, ("2", uuid(2)): 52.0, ("3", uuid(3)): 53.0}
    wait_until(lambda: samples(collector, name, "gpu", "uuid") == rest)
    assert samples(collector, "llm_gpu_up", "gpu")["1",] == 0


def test_a_driver_that_hangs_holds_up_no_scrape(driver: Driver, start: Start) -> None:
    """The scrape runs on a thread that is waited for: a hang would fail this, and not stop it."""
    collector = start()
    wait_until(lambda: samples(collector, "llm_gpu_up", "uuid"))
    driver["hang.nvmlDeviceGetPowerUsage"] = 1
    wait_until(lambda: collector.sampler.fresh is None)

    texts: list[str] = []
    scraping = threading.Thread(target=lambda: texts.append(text_of(collector)), daemon=True)
    scraping.start()
    scraping.join(5)
    assert texts
    assert "llm_gpu_up" not in texts[0]
    assert success(collector) == 0
    assert samples(collector, "llm_exporter_snapshot_age_seconds")[()] > 5 * INTERVAL
    assert samples(collector, "llm_gpu_expected") == {(): 4}

    del driver["hang.nvmlDeviceGetPowerUsage"]
    wait_until(lambda: success(collector) == 1)
    assert len(samples(collector, "llm_gpu_up", "uuid")) == 4


def test_a_driver_that_hangs_from_the_start_holds_up_no_scrape_either(
    driver: Driver, start: Start
) -> None:
    driver["hang.nvmlInit_v2"] = 1
    collector = start()

    texts: list[str] = []
    scraping = threading.Thread(target=lambda: texts.append(text_of(collector)), daemon=True)
    scraping.start()
    scraping.join(5)
    assert 'llm_exporter_collector_success{collector="gpu"} 0' in texts[0]


def test_what_a_card_does_not_support_has_no_series(driver: Driver, start: Start) -> None:
    driver.say(every__nvmlDeviceGetTemperatureV=-3, every__nvmlDeviceGetTemperature=-3)
    text = text_of(start())

    assert "llm_gpu_up{" in text
    for name in ("temperature_celsius", "fan_speed", "ecc_errors", "remapped", "memory_temperature",
                 "mig_mode", "retired", "pcie_throughput"):  # fmt: skip
        assert f"llm_gpu_{name}" not in text
    # Our own thresholds neither, where there is nothing to hold against them.
    assert 'threshold="warning"' not in text
    assert 'threshold="slowdown"' in text


@pytest.mark.parametrize("code", [9, 18])
def test_a_library_without_its_driver_is_a_failure(driver: Driver, start: Start, code: int) -> None:
    driver["nvmlInit_v2"] = -code
    collector = start()
    assert success(collector) == 0

    driver.clear()
    wait_until(lambda: success(collector) == 1)


def test_a_machine_without_the_library_has_nothing_to_say(driver: Driver, start: Start) -> None:
    driver["nvmlInit_v2"] = -12

    collector = start()
    assert success(collector) is None
    assert "llm_gpu" not in text_of(collector)


def test_it_has_where_gpus_are_expected(driver: Driver, start: Start) -> None:
    driver["nvmlInit_v2"] = -12

    collector = start(expected=2)
    assert success(collector) == 0
    assert samples(collector, "llm_gpu_expected") == {(): 2}


def test_a_library_that_goes_away_is_missed(driver: Driver, start: Start) -> None:
    collector = start()
    wait_until(lambda: success(collector) == 1)
    driver.say(nvmlDeviceGetCount_v2=-1, nvmlInit_v2=-12)

    wait_until(lambda: success(collector) == 0)
    assert samples(collector, "llm_gpu_expected") == {(): 4}


def test_xid_errors_are_at_zero_before_they_are_counted(driver: Driver, start: Start) -> None:
    collector = start()
    name = "llm_gpu_xid_errors_total"
    before = samples(collector, name, "gpu", "xid")
    assert set(before.values()) == {0}
    assert {("0", "79"), ("3", "other")} <= before.keys()

    driver["xid"] = "0:79 2:999"
    wait_until(lambda: samples(collector, name, "gpu", "xid")["0", "79"] == 1)
    after = samples(collector, name, "gpu", "xid")
    assert after["2", "other"] == 1
    assert after.keys() == before.keys()


def test_memory_of_engines_is_told_apart_from_that_of_others(driver: Driver, start: Start) -> None:
    driver.say(card0__processes="4242:1000 77:10 78:5", card1__processes="77:-1 4242:1")
    collector = start(own=frozenset({4242}))

    found = samples(collector, "llm_gpu_process_memory_bytes", "gpu", "owner")
    assert (found["0", "self"], found["0", "other"]) == (1000, 15)
    assert (found["2", "self"], found["2", "other"]) == (0, 0)
    # Where the driver keeps one process's memory to itself, there is no sum.
    assert ("1", "other") not in found


def test_failed_calls_are_counted(driver: Driver, start: Start) -> None:
    driver["card0.nvmlDeviceGetPowerUsage"] = -4
    collector = start()
    name = "llm_exporter_nvml_errors_total"

    wait_until(
        lambda: (
            samples(collector, name, "function", "code")["nvmlDeviceGetPowerUsage", "NoPermission"]
            >= 2
        )
    )


# ---- totals of what older cards tell at a moment


def gpus(*gpus: GpuReading) -> GpusReading:
    return GpusReading(gpus)


PLAIN = GpuReading(index=0, uuid="a", power=50.0, throttle={"hw_thermal": True, "display": False})


def test_energy_is_power_times_time_where_the_card_does_not_count_it() -> None:
    integrals = Integrals()
    energies = [
        integrals.complete(gpus(PLAIN), now).gpus[0].energy["integrated"]
        for now in (100, 102, 104, 105)
    ]

    assert energies == [0, 100, 200, 250]


def test_throttled_seconds_are_those_at_whose_end_it_was_throttled() -> None:
    integrals = Integrals()
    integrals.complete(gpus(PLAIN), 0)
    after = integrals.complete(gpus(PLAIN), 2).gpus[0]

    assert after.throttle_seconds == {"hw_thermal": 2, "display": 0}


def test_what_the_card_counts_is_taken_as_it_is() -> None:
    counting = GpuReading(
        index=0, uuid="a", power=50.0, energy={"nvml": 7.0},
        throttle={"sw_power_cap": True}, throttle_seconds={"sw_power_cap": 9.0},
    )  # fmt: skip
    integrals = Integrals()
    integrals.complete(gpus(counting), 0)
    after = integrals.complete(gpus(counting), 2).gpus[0]

    assert after.energy == {"nvml": 7.0}
    assert after.throttle_seconds == {"sw_power_cap": 9.0}

    # Its count and ours would not be the same counter.
    silent = integrals.complete(gpus(PLAIN), 4).gpus[0]
    assert silent.energy == {}


def test_nothing_is_added_for_a_time_that_nobody_saw() -> None:
    integrals = Integrals()
    integrals.complete(gpus(PLAIN), 0)
    after = integrals.complete(gpus(PLAIN), LONGEST_GAP_SECONDS + 1).gpus[0]

    assert after.energy == {"integrated": 0}


def test_a_gpu_that_comes_back_counts_on() -> None:
    integrals = Integrals()
    lost = GpuReading(index=0, uuid="a", up=False)
    for now, gpu in enumerate((PLAIN, PLAIN, lost)):
        integrals.complete(gpus(gpu), now)

    assert integrals.complete(gpus(lost), 3).gpus[0].energy == {}
    assert integrals.complete(gpus(PLAIN), 4).gpus[0].energy == {"integrated": 100}


def test_a_scrape_asks_the_driver_for_nothing(driver: Driver, start: Start) -> None:
    driver.say(order=" ".join(map(str, range(16))))
    collector = start(interval=60.0)
    wait_until(lambda: collector.sampler.fresh)
    driver["nvmlDeviceGetCount_v2"] = -999

    assert len(samples(collector, "llm_gpu_up", "uuid")) == 16
    assert success(collector) == 1
