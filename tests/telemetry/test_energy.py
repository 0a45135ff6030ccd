from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.readings import GpuReading, GpusReading
from service.telemetry.energy import EnergyLedger, shares

PRICE = Decimal("0.36")


def gpu(joules: float | None, uuid: str = "x") -> GpuReading:
    return GpuReading(index=0, uuid=uuid, energy={} if joules is None else {"nvml": joules})


# Joules of each GPU, the models on it, and the seconds that each model had computed.
Scrape = tuple[dict[str, float | None], dict[str, str], dict[str, float]]


def scraped(ledger: EnergyLedger, scrape: Scrape, price: Decimal | None = None) -> None:
    joules, models, computed = scrape
    reading = GpusReading(tuple(gpu(each, uuid) for uuid, each in joules.items()))
    ledger.add(reading, models, computed, price)


def after(*scrapes: Scrape) -> dict[str, float]:
    ledger = EnergyLedger()
    for scrape in scrapes:
        scraped(ledger, scrape)
    return ledger.joules


def test_a_model_that_was_alone_has_all_of_it_from_the_first_scrape_on() -> None:
    found = after(
        ({"x": 100}, {"x": "a"}, {"a": 5}),
        ({"x": 160}, {"x": "a"}, {"a": 6}),
        ({"x": 200}, {"x": "a"}, {"a": 7}),
    )

    assert found == {"a": 100}


def test_models_share_a_gpu_by_the_time_that_they_computed() -> None:
    found = after(({"x": 0}, {"x": "ab"}, {}), ({"x": 100}, {"x": "ab"}, {"a": 3, "b": 1}))

    assert found == {"a": 75, "b": 25}


def test_what_is_used_while_none_computes_is_nobodys() -> None:
    found = after(
        ({"x": 0}, {"x": "a"}, {"a": 3}),
        ({"x": 100}, {"x": "a"}, {"a": 3}),
        ({"x": 110}, {"x": "a"}, {"a": 4}),
    )

    assert found == {"a": 10}


def test_a_model_on_several_gpus_has_its_part_of_each() -> None:
    found = after(
        ({"x": 0, "y": 0}, {"x": "a", "y": "ab"}, {}),
        ({"x": 10, "y": 100}, {"x": "a", "y": "ab"}, {"a": 1, "b": 1}),
    )

    assert found == {"a": 60, "b": 50}


def test_scrapes_that_come_faster_than_readings_lose_nothing() -> None:
    found = after(
        ({"x": 0}, {"x": "ab"}, {}),
        ({"x": 0}, {"x": "ab"}, {"a": 1}),
        ({"x": 0}, {"x": "ab"}, {"a": 1, "b": 1}),
        ({"x": 80}, {"x": "ab"}, {"a": 1, "b": 3}),
    )

    assert found == {"a": 20, "b": 60}


def test_nothing_is_known_without_energy_or_without_who_is_there() -> None:
    assert after(({"x": None}, {"x": "a"}, {}), ({"x": None}, {"x": "a"}, {"a": 1})) == {}
    assert after(({"x": 0}, {}, {}), ({"x": 50}, {}, {"a": 1})) == {}
    ledger = EnergyLedger()
    ledger.add(None, {"x": "a"}, {"a": 1}, PRICE)
    assert (ledger.joules, ledger.cost) == ({}, {})


def test_what_was_used_keeps_the_price_of_its_time() -> None:
    ledger, kwh = EnergyLedger(), 3.6e6
    prices = (None, None, PRICE, PRICE, 10 * PRICE, None)
    costs = []
    for number, price in enumerate(prices):
        scraped(ledger, ({"x": number * kwh}, {"x": "a"}, {"a": number}), price)
        costs.append(ledger.cost.get("a"))

    assert ledger.joules == {"a": 5 * kwh}
    assert costs == [None, None, *map(pytest.approx, (0.36, 0.72, 4.32, 4.32))]


def test_a_price_begins_at_nothing() -> None:
    ledger = EnergyLedger()
    scraped(ledger, ({"x": 5}, {"x": "a"}, {"a": 1}), PRICE)

    assert ledger.cost == {"a": 0}


def test_a_count_that_began_anew_takes_nothing_back() -> None:
    found = after(
        ({"x": 500}, {"x": "a"}, {}),
        ({"x": 3}, {"x": "a"}, {"a": 1}),
        ({"x": 8}, {"x": "a"}, {"a": 2}),
    )

    assert found == {"a": 5}


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e6), max_size=4))
def test_shares_are_a_whole_or_nothing(spent: dict[str, float]) -> None:
    found = shares("abcd", spent)

    assert all(0 <= share <= 1 for share in found.values())
    assert abs(sum(found.values()) - bool(sum(spent.values()))) < 1e-9
