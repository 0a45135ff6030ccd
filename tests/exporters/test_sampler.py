from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from exporters.collector import Guards, SampledCollector
from exporters.sampler import NothingToRead, Sampler
from tests.dialects.serving import wait_until


class Thing:
    """Counts how often it was read; fails, or hangs until it is let go."""

    def __init__(self) -> None:
        self.count = 0
        self.error: Exception | None = None
        self.go = threading.Event()
        self.go.set()

    def read(self) -> int:
        assert self.go.wait(30)
        if self.error is not None:
            raise self.error
        self.count += 1
        return self.count


@pytest.fixture
def thing() -> Thing:
    return Thing()


@pytest.fixture
def sampler(thing: Thing) -> Iterator[Sampler[int]]:
    sampler = Sampler("thing", thing.read, interval=0.01, stale_after=0.7)
    sampler.start()
    yield sampler
    thing.go.set()
    sampler.stop()


def test_the_newest_value_is_there_without_waiting(sampler: Sampler[int]) -> None:
    wait_until(lambda: (sampler.fresh or 0) >= 3)

    assert sampler.failure is None
    assert sampler.last is not None
    assert sampler.last.seconds >= 0


def test_what_hangs_has_no_value_once_the_last_one_is_old(
    thing: Thing, sampler: Sampler[int]
) -> None:
    wait_until(lambda: sampler.fresh)
    thing.go.clear()

    wait_until(lambda: sampler.fresh is None)
    assert sampler.failure is not None
    assert sampler.failure.startswith("no answer for")
    assert sampler.age is not None
    assert sampler.age > 0.7

    thing.go.set()
    wait_until(lambda: sampler.fresh)


def test_a_reading_that_failed_leaves_no_value_of_the_one_before(
    thing: Thing, sampler: Sampler[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporters.sampler")
    wait_until(lambda: sampler.fresh)
    thing.error = RuntimeError("no driver")
    wait_until(lambda: sampler.fresh is None)
    before = sampler.last

    # However often it is tried, it is said once.
    time.sleep(0.05)
    assert sampler.failure == "no driver"
    assert sampler.last is before
    assert [r.levelname for r in caplog.records] == ["WARNING"]

    thing.error = None
    wait_until(lambda: sampler.fresh)
    wait_until(lambda: len(caplog.records) == 2)
    assert "again" in caplog.text


def test_stopping_does_not_wait_for_what_hangs(thing: Thing) -> None:
    thing.go.clear()
    sampler = Sampler("thing", thing.read)
    sampler.start()
    sampler.stop()

    assert sampler.failure == "nothing was read yet"
    thing.go.set()


def test_it_is_closed_by_the_thread_that_reads(thing: Thing) -> None:
    closed: list[str] = []
    sampler = Sampler("thing", thing.read, lambda: closed.append(threading.current_thread().name))
    sampler.start()
    sampler.stop()

    assert closed == ["sample-thing"]


class Numbers(SampledCollector[int]):
    def families(self, value: int | None) -> Iterator[Metric]:
        always = GaugeMetricFamily("llm_always", "Said whatever happens.")
        always.add_metric((), 1)
        yield always
        read = GaugeMetricFamily("llm_read", "Read.")
        if value is not None:
            read.add_metric((), value)
        yield read


class Broken(Collector):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("llm_before", "Before.", 7)
        raise RuntimeError("no luck")


def scrape(collectors: dict[str, Collector]) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Guards(collectors))
    lines = generate_latest(registry).decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#")
    }


def test_health_is_samples(sampler: Sampler[int]) -> None:
    found = scrape({"numbers": Numbers(sampler)})

    assert found["llm_read"] >= 1
    assert found['llm_exporter_collector_success{collector="numbers"}'] == 1
    assert found['llm_exporter_collector_duration_seconds{collector="numbers"}'] >= 0
    assert found['llm_exporter_snapshot_age_seconds{collector="numbers"}'] >= 0


def test_what_is_stale_is_absent_and_its_age_is_told(thing: Thing, sampler: Sampler[int]) -> None:
    wait_until(lambda: sampler.fresh)
    thing.go.clear()
    wait_until(lambda: sampler.fresh is None)

    found = scrape({"numbers": Numbers(sampler)})
    assert "llm_read" not in found
    assert found["llm_always"] == 1
    assert found['llm_exporter_collector_success{collector="numbers"}'] == 0
    assert found['llm_exporter_snapshot_age_seconds{collector="numbers"}'] > 0.7


def test_what_the_machine_does_not_have_is_no_failure(thing: Thing, sampler: Sampler[int]) -> None:
    thing.error = NothingToRead("no such thing here")
    wait_until(lambda: sampler.absent)

    found = scrape({"numbers": Numbers(sampler)})
    assert found == {"llm_always": 1}


def test_a_collector_that_breaks_takes_no_other_with_it(sampler: Sampler[int]) -> None:
    found = scrape({"broken": Broken(), "numbers": Numbers(sampler)})

    assert found['llm_exporter_collector_success{collector="broken"}'] == 0
    assert found['llm_exporter_collector_success{collector="numbers"}'] == 1
    assert found["llm_before"] == 7


class TwoFamilies(Collector):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("llm_first", "x", 1)
        yield GaugeMetricFamily("llm_second", "x", 2)


class HalfOfThem(Collector):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("llm_first", "x", 1)
        raise OSError("gone")


def test_the_time_of_a_collector_is_not_that_of_who_reads_it() -> None:
    reading = Guards({"two": TwoFamilies()}).collect()
    first = next(reading)
    time.sleep(0.2)
    families = {family.name: family for family in (first, *reading)}

    (duration,) = families["llm_exporter_collector_duration_seconds"].samples
    assert duration.value < 0.2
    assert {"llm_first", "llm_second"} <= families.keys()


def test_what_a_collector_told_before_it_failed_is_shown() -> None:
    families = {family.name: family for family in Guards({"half": HalfOfThem()}).collect()}

    assert "llm_first" in families
    (success,) = families["llm_exporter_collector_success"].samples
    assert success.value == 0
