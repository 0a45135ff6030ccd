"""What requests want of the way their model is loaded, and what it is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.engine.wire import EngineParams
from service.fleet.wishes import covered, granted, worth_reloading
from service.generation import LoadWishes
from tests.dialects.fakes import FACTS

LOADED = replace(FACTS, n_ctx_seq=4096, n_ctx_train=32768, n_layer=32, gpu_layers=10)
ON_GPU = replace(LOADED, gpu_offload=True)


@pytest.mark.parametrize("wanted", [None, 1, 4096])
def test_a_context_that_is_long_enough_stays(wanted: int | None) -> None:
    assert worth_reloading(LoadWishes(n_ctx=wanted), LOADED, turn_over=True) is None


@pytest.mark.parametrize(
    ("wanted", "gets"), [(4097, 8192), (8192, 8192), (8193, 12288), (10**6, 32768)]
)
def test_a_longer_one_grows_in_steps_up_to_what_the_model_was_trained_for(
    wanted: int, gets: int
) -> None:
    better = worth_reloading(LoadWishes(n_ctx=wanted), LOADED, turn_over=False)
    assert better == LoadWishes(n_ctx=gets)


def test_nothing_is_longer_than_what_the_model_was_trained_for() -> None:
    whole = replace(LOADED, n_ctx_seq=32768)
    assert worth_reloading(LoadWishes(n_ctx=10**6), whole, turn_over=True) is None


def test_layers_are_moved_once_in_a_turn_where_there_are_gpus() -> None:
    wishes = LoadWishes(gpu_layers=20)
    assert worth_reloading(wishes, ON_GPU, turn_over=True) == wishes
    assert worth_reloading(wishes, ON_GPU, turn_over=False) is None
    assert worth_reloading(wishes, LOADED, turn_over=True) is None
    assert worth_reloading(LoadWishes(gpu_layers=10), ON_GPU, turn_over=True) is None


def test_more_layers_than_there_are_means_all_of_them() -> None:
    everything = replace(ON_GPU, gpu_layers=33)
    assert worth_reloading(LoadWishes(gpu_layers=999), everything, turn_over=True) is None
    assert worth_reloading(LoadWishes(gpu_layers=999), ON_GPU, turn_over=True) == LoadWishes(
        gpu_layers=33
    )


def test_the_rest_counts_only_when_it_is_loaded_anyway() -> None:
    rest = LoadWishes(threads=3, n_batch=64, use_mmap=False)
    assert worth_reloading(rest, LOADED, turn_over=True) is None
    assert worth_reloading(replace(rest, n_ctx=8192), LOADED, turn_over=True) == replace(
        rest, n_ctx=8192
    )


def test_granted_wishes_replace_what_the_settings_say() -> None:
    params = EngineParams("m.gguf", n_ctx=1000, n_seq=4, threads=2)
    assert granted(params, LoadWishes()) == params
    assert granted(params, LoadWishes(n_ctx=8192, threads=7)) == replace(
        params, n_ctx=32768, threads=7
    )
    assert granted(replace(params, n_ctx=100_000), LoadWishes(n_ctx=8192)).n_ctx == 100_000


def test_what_could_not_be_granted_covers_what_asks_for_as_much() -> None:
    refused = LoadWishes(n_ctx=8192)
    assert covered(LoadWishes(n_ctx=8192), refused)
    assert covered(LoadWishes(n_ctx=16384), refused)
    assert not covered(LoadWishes(n_ctx=4096), refused)
    assert not covered(LoadWishes(gpu_layers=3), refused)
    assert covered(LoadWishes(gpu_layers=3), LoadWishes(gpu_layers=3))


@given(st.lists(st.integers(1, 200_000), max_size=200))
def test_however_the_wishes_grow_the_model_is_loaded_a_few_times_only(wanted: list[int]) -> None:
    facts, loads = LOADED, 0
    for n_ctx in wanted:
        if better := worth_reloading(LoadWishes(n_ctx=n_ctx), facts, turn_over=True):
            assert better.n_ctx is not None
            assert better.n_ctx > facts.n_ctx_seq
            facts, loads = replace(facts, n_ctx_seq=better.n_ctx), loads + 1
    assert loads <= 7
