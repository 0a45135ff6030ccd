from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.engine.token_cost import TokenCost, growth_of
from tests.engine.fake_model import FakeModel

depths = st.floats(0, 100_000)
seconds = st.floats(1e-6, 1.0)


def learned(first: float, slope: float, *at: float) -> TokenCost:
    cost = TokenCost(128, at[0], first + slope * at[0])
    for depth in at[1:]:
        cost.observe(128, depth, first + slope * depth)
    return cost


def test_one_observation_says_nothing_of_other_depths() -> None:
    cost = TokenCost(128, 64, 0.002)

    assert cost.at(0) == cost.at(64) == cost.at(10_000) == 0.002
    assert cost.between(100, 110) == pytest.approx(0.02)
    assert cost.within(0.02, 100) == pytest.approx(10)


def test_before_anything_is_seen_of_it_a_deeper_token_costs_what_is_expected() -> None:
    cost = TokenCost(128, 100, 0.0022, growth=0.001)

    assert cost.at(0) == pytest.approx(0.002)
    assert cost.at(1000) == pytest.approx(0.004)


def test_a_step_of_few_tokens_says_little_beside_one_of_many() -> None:
    cost = TokenCost(32, 16, 0.008)
    cost.observe(512, 68, 0.004)

    assert cost.at(68) == pytest.approx(0.004, rel=0.06)


def test_what_is_seen_outweighs_what_was_expected() -> None:
    cost = TokenCost(128, 64, 0.004, growth=0.01)
    for depth in range(192, 2000, 128):
        cost.observe(128, depth, 0.004)

    assert cost.at(2000) == pytest.approx(0.004, rel=0.1)


def test_attention_is_expected_to_grow_with_layers_and_width_against_weights() -> None:
    shape = {"n_layer": 24, "n_embd": 896, "n_vocab": 151_936, "n_params": 494_000_000}
    facts = replace(FakeModel().facts, **shape)

    assert growth_of(facts) == pytest.approx(2.4e-4, rel=0.01)
    assert growth_of(replace(facts, window=512)) == 0
    assert growth_of(replace(facts, can_rollback=False)) == 0


def test_the_line_of_a_long_prompt_is_found() -> None:
    cost = learned(0.004, 0.000001, *range(64, 4000, 128))

    assert cost.at(3000) == pytest.approx(0.007, rel=0.05)
    assert cost.at(1000) == pytest.approx(0.005, rel=0.05)


def test_noise_among_prompts_equally_deep_is_no_slope() -> None:
    cost = TokenCost(128, 60, 0.004)
    for number in range(100):
        cost.observe(128, 50 + number % 20, 0.004 * (1.1 if number % 3 else 0.9))

    assert cost.at(2000) == pytest.approx(0.004, rel=0.35)


def test_what_it_cost_once_is_forgotten() -> None:
    cost = learned(0.004, 0.000001, *range(64, 2000, 128), *range(64, 2000, 128))
    for depth in (*range(64, 2000, 128), *range(64, 2000, 128)):
        cost.observe(128, depth, 0.001)

    assert cost.at(1500) == pytest.approx(0.001, rel=0.1)


@given(st.lists(st.tuples(depths, seconds), min_size=1, max_size=40), depths, st.floats(0, 1))
def test_no_token_is_free_and_none_is_cheaper_for_standing_deeper(
    observed: list[tuple[float, float]], depth: float, growth: float
) -> None:
    cost = TokenCost(128, *observed[0], growth)
    for observation in observed[1:]:
        cost.observe(128, *observation)

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
    cost = TokenCost(128, *observed[0])
    for observation in observed[1:]:
        cost.observe(128, *observation)

    assert cost.within(cost.between(begin, begin + tokens), begin) == pytest.approx(
        tokens, rel=0.01
    )
