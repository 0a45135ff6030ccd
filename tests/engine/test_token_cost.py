from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.token_cost import TokenCost

depths = st.floats(0, 100_000)
seconds = st.floats(1e-6, 1.0)


def learned(first: float, slope: float, *at: float) -> TokenCost:
    cost = TokenCost(at[0], first + slope * at[0])
    for depth in at[1:]:
        cost.observe(depth, first + slope * depth)
    return cost


def test_one_observation_says_nothing_of_other_depths() -> None:
    cost = TokenCost(64, 0.002)

    assert cost.at(0) == cost.at(64) == cost.at(10_000) == 0.002
    assert cost.between(100, 110) == pytest.approx(0.02)
    assert cost.within(0.02, 100) == pytest.approx(10)


def test_the_line_of_a_long_prompt_is_found() -> None:
    cost = learned(0.004, 0.000001, *range(64, 4000, 128))

    assert cost.at(3000) == pytest.approx(0.007, rel=0.05)
    assert cost.at(1000) == pytest.approx(0.005, rel=0.05)


def test_noise_among_prompts_equally_deep_is_no_slope() -> None:
    cost = TokenCost(60, 0.004)
    for number in range(100):
        cost.observe(50 + number % 20, 0.004 * (1.1 if number % 3 else 0.9))

    assert cost.at(2000) == pytest.approx(0.004, rel=0.35)


def test_what_it_cost_once_is_forgotten() -> None:
    cost = learned(0.004, 0.000001, *range(64, 2000, 128), *range(64, 2000, 128))
    for depth in (*range(64, 2000, 128), *range(64, 2000, 128)):
        cost.observe(depth, 0.001)

    assert cost.at(1500) == pytest.approx(0.001, rel=0.1)


@given(st.lists(st.tuples(depths, seconds), min_size=1, max_size=40), depths)
def test_no_token_is_free_and_none_is_cheaper_for_standing_deeper(
    observed: list[tuple[float, float]], depth: float
) -> None:
    cost = TokenCost(*observed[0])
    for observation in observed[1:]:
        cost.observe(*observation)

    assert cost.slope >= 0
    assert 0 < cost.at(0) <= cost.at(depth) <= cost.at(2 * depth)


@given(
    st.lists(st.tuples(depths, seconds), min_size=1, max_size=40),
    st.integers(0, 100_000),
    st.integers(1, 4096),
)
def test_the_tokens_that_fit_take_the_time_there_is(
    observed: list[tuple[float, float]], begin: int, tokens: int
) -> None:
    cost = TokenCost(*observed[0])
    for observation in observed[1:]:
        cost.observe(*observation)

    assert cost.within(cost.between(begin, begin + tokens), begin) == pytest.approx(
        tokens, rel=0.01
    )
