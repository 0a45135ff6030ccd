"""Shares of GPUs: by what the cards have, and always a whole."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.readings import GpuReading, Memory, ProcessMemory
from service.control import weights
from service.control.weights import Card, Strategy, bandwidth, distribute, in_parts, written
from service.errors import InvalidRequest

GIB = 1 << 30


def card(id: int, room: int, speed: float | None = None, celsius: float | None = 45.0) -> Card:
    return Card(id, f"GPU-{id}", "Tesla M10", 8 * GIB, room, room, celsius, 0.4, speed)


rooms = st.lists(st.integers(0, 200 * GIB), min_size=1, max_size=8)
machines = st.lists(
    st.tuples(st.integers(0, 200 * GIB), st.none() | st.floats(1e9, 1e13)), min_size=1, max_size=8
).map(lambda found: [card(i, room, speed) for i, (room, speed) in enumerate(found)])
strategies = st.sampled_from(get_args(Strategy))


@given(strategies, machines)
def test_shares_are_a_whole_to_the_last_digit(strategy: Strategy, cards: list[Card]) -> None:
    shares = distribute(strategy, cards).shares

    assert len(shares) == len(cards)
    assert all(share >= 0 for share in shares)
    assert sum(map(Decimal, written(shares).split(","))) == 1
    # What is written is what is meant.
    assert [float(word) for word in written(shares).split(",")] == list(shares)


@given(st.sampled_from(["memory_proportional", "primary_secondary"]), machines, st.data())
def test_a_gpu_with_more_room_gets_no_less(
    strategy: Strategy, cards: list[Card], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(cards) - 1))
    more = data.draw(st.integers(0, 100 * GIB))
    wider = list(cards)
    wider[place] = card(place, cards[place].room + more)
    if not any(c.room for c in cards):
        return

    assert distribute(strategy, wider).shares[place] >= distribute(strategy, cards).shares[place]


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=12).filter(lambda w: sum(w) > 1e-3))
def test_no_share_is_off_by_a_thousandth(found: list[float]) -> None:
    for share, weight in zip(in_parts(found), found, strict=True):
        assert abs(share - weight / sum(found)) <= 1.001e-3


def test_thirds_are_a_whole() -> None:
    assert written(in_parts([1, 1, 1])) == "0.334,0.333,0.333"


def test_each_strategy_has_its_measure() -> None:
    mixed = [card(0, 6 * GIB, 83e9), card(1, 2 * GIB, 249e9)]

    def shares(strategy: Strategy) -> str:
        return written(distribute(strategy, mixed).shares)

    assert shares("equal") == "0.500,0.500"
    assert shares("memory_proportional") == "0.750,0.250"
    assert shares("performance_weighted") == "0.250,0.750"
    assert shares("primary_secondary") == "0.600,0.400"
    assert distribute("performance_weighted", mixed).basis == "by memory bandwidth"


def test_where_a_cards_speed_is_not_known_memory_decides_and_that_is_said() -> None:
    found = distribute("performance_weighted", [card(0, 6 * GIB, 83e9), card(3, 2 * GIB)])

    assert written(found.shares) == "0.750,0.250"
    assert found.basis == "by free memory: how fast GPU 3 reads its memory is not known"


def test_where_all_memory_is_taken_the_shares_are_equal_and_that_is_said() -> None:
    found = distribute("memory_proportional", [card(0, 0), card(1, 0)])

    assert (written(found.shares), "no GPU has memory free" in found.basis) == ("0.500,0.500", True)


def test_a_cards_bandwidth_is_that_of_its_data_sheet() -> None:
    m10 = GpuReading(index=0, uuid="a", clocks_max={"memory": 2.6e9}, memory_bus_bits=128)
    h200 = GpuReading(index=0, uuid="b", clocks_max={"memory": 3.201e9}, memory_bus_bits=6144)

    assert bandwidth(m10) == pytest.approx(83e9, rel=0.01)
    assert bandwidth(h200) == pytest.approx(4.9e12, rel=0.01)
    assert bandwidth(GpuReading(index=0, uuid="c", clocks_max={"memory": 2.6e9})) is None


def test_what_our_own_engines_hold_is_room() -> None:
    gpu = GpuReading(
        index=2,
        uuid="GPU-c",
        memory=Memory(8 * GIB, 5 * GIB, 3 * GIB),
        processes=(ProcessMemory(7, 2 * GIB), ProcessMemory(8, GIB), ProcessMemory(9, None)),
    )
    found = weights.cards([gpu], {7, 9})

    assert found is not None
    assert (found[0].free, found[0].room) == (3 * GIB, 5 * GIB)
    assert weights.cards([gpu, msgspec.structs.replace(gpu, memory=None)]) is None


@pytest.mark.parametrize(
    ("word", "name"),
    [("equal", "equal"), ("balanced", "memory-based"), ("memory_proportional", "memory-based"),
     ("performance-based", "performance-based"), ("Primary-Secondary", "primary-secondary")],
)  # fmt: skip
def test_a_way_has_the_names_that_pages_know(word: str, name: str) -> None:
    assert weights.find(word).name == name


def test_a_way_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(InvalidRequest, match="Unknown preset: fast; there are equal, memory-based"):
        weights.find("fast")


CARDS = [card(0, 4 * GIB), card(1, 4 * GIB), card(3, 4 * GIB)]


@pytest.mark.parametrize(
    ("given_", "whole"),
    [
        ({}, [50, 25, 25]),
        ({0: 20}, [20, 40, 40]),
        ({3: 100}, [0, 0, 100]),
        ({0: 10, 1: 10, 3: 10}, [10, 10, 10]),
        ({0: 120}, [120, -10, -10]),
    ],
)
def test_cards_that_nobody_names_share_what_is_left(
    given_: dict[int, float], whole: list[float]
) -> None:
    assert weights.completed(given_, [0.5, 0.25, 0.25], CARDS) == pytest.approx(whole)


def test_cards_without_a_share_get_the_same_of_what_is_left() -> None:
    assert weights.completed({0: 40}, [1, 0, 0], CARDS) == pytest.approx([40, 30, 30])


def test_a_card_that_there_is_not_gets_nothing() -> None:
    with pytest.raises(InvalidRequest, match="no GPU 2 for models here; there are 0, 1, 3"):
        weights.completed({2: 10}, [1, 0, 0], CARDS)


def test_what_is_wrong_is_said_card_by_card() -> None:
    assert weights.wrong([33.3, 33.3, 33.3], CARDS) == []
    assert weights.wrong([50, 20, 20], CARDS) == ["Total weight must equal 100% (current: 90%)"]
    assert weights.wrong([120, -40, 20], CARDS) == [
        "GPU 0 weight cannot exceed 100%",
        "GPU 1 weight cannot be negative",
    ]


def test_a_card_with_too_little_room_is_named_with_the_numbers() -> None:
    lines = weights.cramped([GIB, 4 * GIB, 5 * GIB + 1], CARDS, reserve=GIB)

    assert lines == [
        "GPU 1 insufficient memory: need 4096MB, have 3072MB",
        "GPU 3 insufficient memory: need 5121MB, have 3072MB",
    ]


@pytest.mark.parametrize(
    ("celsius", "line"),
    [(None, None), (79.5, None), (80, "GPU 0 temperature is high: 80°C"),
     (84.5, "GPU 0 temperature is high: 84.5°C"), (85, "GPU 0 temperature is critical: 85°C")],
)  # fmt: skip
def test_a_hot_card_is_warned_of(celsius: float | None, line: str | None) -> None:
    lines = list(weights.hot([100], [card(0, GIB, celsius=celsius)]))

    assert lines == ([] if line is None else [line])
    assert list(weights.hot([0], [card(0, GIB, celsius=celsius)])) == []
