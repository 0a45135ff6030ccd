from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.sampling import Stage, seed_of, stages
from service.generation import SamplingParams


def names(sampling: SamplingParams) -> list[str]:
    return [stage.name for stage in stages(sampling, n_ctx=4096, seed=1)]


def test_defaults_sample_from_the_whole_distribution() -> None:
    assert names(SamplingParams()) == ["temp", "dist"]


def test_temperature_zero_is_greedy_and_cuts_nothing() -> None:
    assert names(SamplingParams(temperature=0, top_k=40, top_p=0.9)) == ["greedy"]


def test_a_temperature_that_would_overflow_is_greedy() -> None:
    assert names(SamplingParams(temperature=1e-30)) == ["greedy"]
    assert names(SamplingParams(temperature=1e-30, mirostat=2)) == ["greedy"]


def test_no_window_is_larger_than_the_context() -> None:
    huge = SamplingParams(
        repeat_penalty=1.1, repeat_last_n=2**31 - 1, dry_multiplier=1, dry_penalty_last_n=2**31 - 1
    )
    penalties, dry, *_ = stages(huge, n_ctx=4096, seed=1)

    assert penalties.arguments[0] == 4096
    assert dry.arguments[3] == 4096


def test_all_samplers_stand_in_llama_cpps_order() -> None:
    everything = SamplingParams(
        logit_bias={1: 2.0},
        repeat_penalty=1.1,
        frequency_penalty=0.5,
        dry_multiplier=0.8,
        top_n_sigma=1.0,
        top_k=40,
        typical_p=0.9,
        top_p=0.9,
        min_p=0.1,
        xtc_probability=0.5,
        dynatemp_range=0.5,
    )
    order = "logit_bias penalties penalties dry top_n_sigma top_k typical top_p min_p xtc temp_ext"

    assert names(everything) == [*order.split(), "dist"]


def test_openais_penalties_see_the_answer_only_and_all_of_it() -> None:
    chain = stages(SamplingParams(presence_penalty=1.0, repeat_penalty=1.2), 4096, 1)

    assert chain[:2] == [
        Stage("penalties", (64, 1.2, 0.0, 0.0), 64),
        Stage("penalties", (4096, 1.0, 0.0, 1.0)),
    ]


@pytest.mark.parametrize(("version", "name"), [(1, "mirostat"), (2, "mirostat_v2")])
def test_mirostat_replaces_the_cuts(version: int, name: str) -> None:
    assert names(SamplingParams(mirostat=version, top_k=40)) == ["temp", name]  # type: ignore[arg-type]


@given(st.integers(0, 2**64))
def test_a_seed_is_reduced_to_what_llama_cpp_takes(seed: int) -> None:
    assert seed_of(SamplingParams(seed=seed)) == seed % 2**32


def test_no_seed_and_a_negative_one_are_random() -> None:
    for seed in (None, -1):
        assert len({seed_of(SamplingParams(seed=seed)) for _ in range(8)}) > 1
