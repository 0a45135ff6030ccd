from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from bench.exposition import Samples, mean, parse, quantile
from bench.summary import percentile, rate_together


def test_a_percentile_is_the_nearest_measured_value() -> None:
    values = [15.0, 20.0, 35.0, 40.0, 50.0]

    assert [percentile(values, q) for q in (0, 30, 40, 50, 95, 100)] == [15, 20, 20, 35, 50, 50]
    assert math.isnan(percentile([], 50))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_so_many_percent_do_not_exceed_a_percentile(values: list[float], q: int) -> None:
    found = percentile(values, q)

    assert found in values
    assert 100 * sum(value <= found for value in values) >= q * len(values)
    assert 100 * sum(value < found for value in values) < q * len(values)


@dataclass(frozen=True)
class Stream:
    frames: tuple[float, ...]
    completion_tokens: int


def test_the_rate_together_leaves_out_what_a_stream_does_alone() -> None:
    early = Stream((0.0, 1.0, 2.0, 3.0, 4.0), 5)
    late = Stream((2.0, 3.0, 4.0, 5.0), 4)

    assert rate_together([early, late]) == 2.0


def test_a_frame_counts_for_the_tokens_in_it() -> None:
    assert rate_together([Stream((0.0, 1.0, 2.0), 9)]) == 3.0


def test_streams_that_never_decode_at_once_have_no_rate() -> None:
    assert rate_together([Stream((0.0, 1.0), 2), Stream((1.0, 2.0), 2)]) is None
    assert rate_together([Stream((), 0), Stream((1.0, 2.0), 2)]) is None


def samples(registry: CollectorRegistry) -> Samples:
    return parse(generate_latest(registry).decode())


def test_a_stretch_of_time_is_the_difference_of_two_scrapes() -> None:
    registry = CollectorRegistry()
    lag = Histogram("lag_seconds", "-", ["model"], registry=registry, buckets=(0.01, 0.02, 0.04))
    lag.labels("a").observe(0.039)
    before = samples(registry)
    for _ in range(9):
        lag.labels("a").observe(0.005)
    lag.labels("b").observe(0.015)
    after = samples(registry)

    assert math.isclose(mean(before, after, "lag_seconds"), (9 * 0.005 + 0.015) / 10)
    assert math.isclose(quantile(before, after, "lag_seconds", 0.9), 0.01)
    assert math.isclose(quantile(before, after, "lag_seconds", 0.95), 0.015)
    assert quantile(after, after, "lag_seconds", 0.99) != quantile(
        before, after, "lag_seconds", 0.99
    )


def test_what_was_not_observed_is_no_number() -> None:
    registry = CollectorRegistry()
    Histogram("lag_seconds", "-", registry=registry)
    now = samples(registry)

    assert math.isnan(mean(now, now, "lag_seconds"))
    assert math.isnan(quantile(now, now, "lag_seconds", 0.99))
    assert math.isnan(mean(now, now, "absent_seconds"))


def test_beyond_the_last_bound_a_quantile_is_that_bound() -> None:
    registry = CollectorRegistry()
    lag = Histogram("lag_seconds", "-", registry=registry, buckets=(0.01, 0.02))
    before = samples(registry)
    lag.observe(5)

    assert quantile(before, samples(registry), "lag_seconds", 0.99) == 0.02
