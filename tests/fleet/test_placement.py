"""What goes where: by hand for known machines, and by properties for all the others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.fleet.constraints import Constraints, PlacementError
from service.fleet.memory import ContextShape, Layer, ModelMemory, Widths
from service.fleet.placed import Gpu, Placement
from service.fleet.placement import LEAST_CONTEXT, place
from service.fleet.sums import counts_of, needs

MIB = 1 << 20
GIB = 1 << 30


def gpus(*gibibytes: float, reserve: int = 0) -> tuple[Gpu, ...]:
    sizes = [int(size * GIB) for size in gibibytes]
    return tuple(Gpu(i, f"GPU-{i}", "card", s, s, reserve) for i, s in enumerate(sizes))


@cache
def model(layers: int = 32, weights: int = 128 * MIB, n_ctx_train: int = 32768) -> ModelMemory:
    """The shape of a 7B model: 4 GiB of layers, 128 KiB for a token."""
    return ModelMemory(
        architecture="llama",
        n_ctx_train=n_ctx_train,
        n_vocab=32768,
        width=4096,
        layers=tuple(Layer(weights, weights // 3, 1024, 1024) for _ in range(layers)),
        input_weights=72 * MIB,
        output_weights=105 * MIB,
        tied=False,
        window=0,
        widths=Widths(59392, 22528, 0, 32),
        head_lengths=(128, 128),
    )


def placed(
    *cards: float, of: ModelMemory | None = None, host: int | None = None, **constraints: Any
) -> Placement:
    return place(of or model(), gpus(*cards), host, Constraints(**constraints))


def gpu_layers_of(placement: Placement) -> list[int]:
    return [layer for share in placement.shares for layer in share.layers]


# -- the three ways


def test_a_model_that_fits_on_one_gpu_is_on_one() -> None:
    placement = placed(8, 8, 8, 8)

    assert (placement.gpu_layers, placement.split_mode, placement.main_gpu) == (33, "none", 0)
    assert placement.tensor_split == ()
    assert [len(share.layers) for share in placement.shares] == [32, 0, 0, 0]


def test_the_gpu_that_it_fills_best_is_taken() -> None:
    assert placed(24, 8, 12, context=8192).main_gpu == 1


def test_a_second_model_goes_where_the_first_is_not() -> None:
    first = placed(8, 8)
    rest = tuple(
        Gpu(gpu.index, gpu.uuid, gpu.name, gpu.total, free)
        for gpu, free in zip(first.gpus, first.free_after, strict=True)
    )

    assert (first.main_gpu, place(model(), rest, None, Constraints()).main_gpu) == (0, 1)


def test_a_model_too_large_for_any_is_split_and_the_output_is_on_the_last() -> None:
    placement = placed(3, 3)

    assert (placement.gpu_layers, placement.split_mode) == (33, "layer")
    assert sum(placement.tensor_split) == 33
    assert [share.output for share in placement.shares] == [False, True]


def test_unlike_gpus_are_filled_to_the_same_height() -> None:
    placement = placed(4, 2, context=4096)

    left = placement.free_after
    assert placement.gpu_layers == 33
    assert abs(left[0] - left[1]) <= 160 * MIB


def test_layers_that_do_not_fit_stay_on_the_host_the_first_ones() -> None:
    placement = placed(2)

    assert 0 < placement.gpu_layers < 33
    assert placement.limited_by == "gpu_memory"
    assert placement.host.layers == tuple(range(33 - placement.gpu_layers))
    assert not placement.host.output


def test_the_host_takes_everything_where_there_is_no_gpu() -> None:
    placement = placed(host=64 * GIB)

    assert (placement.gpu_layers, placement.shares, placement.host.output) == (0, (), True)
    assert placement.host.layers == tuple(range(32))


# -- context


def test_a_context_nobody_asked_for_shrinks_so_that_the_model_fits() -> None:
    wide, narrow = placed(24), placed(6)

    assert wide.context == 32768
    assert LEAST_CONTEXT <= narrow.context < 32768
    assert narrow.gpu_layers == 33


def test_a_context_that_was_asked_for_is_given() -> None:
    placement = placed(6, context=32768)

    assert placement.context == 32768
    assert placement.gpu_layers < 33


def test_a_context_that_cannot_be_is_refused_with_the_numbers() -> None:
    with pytest.raises(PlacementError, match=r"context_size: 32768 tokens .* 2\.00 GiB"):
        placed(context=32768, host=2 * GIB)


def test_smaller_cells_mean_more_context() -> None:
    assert placed(6, type_k="q8_0", type_v="q8_0").context > placed(6).context


# -- constraints


@pytest.mark.parametrize(
    ("constraints", "field"),
    [
        ({"tensor_split": (0.0, 0.0)}, "tensor_split"),
        ({"tensor_split": (-1.0, 2.0)}, "tensor_split"),
        ({"tensor_split": (1.0, 1.0, 1.0)}, "tensor_split"),
        ({"tensor_split": (1.0,), "split_mode": "none"}, "tensor_split"),
        ({"main_gpu": 2}, "main_gpu"),
        ({"main_gpu": -1}, "main_gpu"),
        ({"gpu_layers": -1}, "gpu_layers"),
        ({"context": 0}, "context_size"),
        ({"type_v": "q8_0", "flash_attention": False}, "cache_type_v"),
    ],
)
def test_a_constraint_that_nothing_can_meet_is_refused_by_name(
    constraints: dict[str, Any], field: str
) -> None:
    with pytest.raises(PlacementError) as caught:
        placed(24, 24, **constraints)

    assert caught.value.field == field


def test_cells_in_blocks_have_to_divide_a_head() -> None:
    odd = ModelMemory("llama", 4096, 9, 96, (Layer(9, 9, 48, 48),), 9, 9, False, 0,
                      Widths(9, 9, 0, 2), (48, 48))  # fmt: skip
    with pytest.raises(PlacementError, match="cache_type_k: q8_0 has blocks of 32"):
        placed(24, of=odd, type_k="q8_0")


def test_the_users_split_is_obeyed() -> None:
    placement = placed(24, 24, 24, tensor_split=(1.0, 0.0, 2.0))

    assert [len(share.layers) for share in placement.shares] == [11, 0, 21]
    assert placement.tensor_split == (1.0, 0.0, 2.0)


def test_the_users_layers_are_obeyed() -> None:
    assert placed(24, gpu_layers=10).gpu_layers == 10
    assert placed(24, gpu_layers=0).gpu_layers == 0
    assert placed(24, gpu_layers=33).gpu_layers == 33


@pytest.mark.parametrize("layers", [33, 30, 999])
def test_layers_that_fit_on_one_gpu_are_on_one_also_where_they_were_asked_for(layers: int) -> None:
    placement = placed(8, 8, 8, gpu_layers=layers, context=8192)

    assert (placement.gpu_layers, placement.split_mode) == (min(layers, 33), "none")
    assert [bool(share.layers) for share in placement.shares] == [True, False, False]


def test_as_many_layers_as_were_asked_for_are_placed_or_none() -> None:
    both = placed(3, 3, gpu_layers=33)
    assert (both.gpu_layers, both.split_mode) == (33, "layer")

    with pytest.raises(PlacementError, match=r"gpu_layers: .* GPU 0 would need [\d.]+ GiB"):
        placed(2, gpu_layers=33)
    with pytest.raises(PlacementError, match="GPU 1 would need"):
        placed(0, 0.1, gpu_layers=5)
    with pytest.raises(PlacementError, match="gpu_layers"):
        placed(0, 0, gpu_layers=5)


def test_more_layers_than_there_are_mean_as_many_as_fit() -> None:
    placement = placed(2, gpu_layers=999)

    assert placement.gpu_layers == placed(2).gpu_layers < 33
    assert placement.limited_by == "gpu_memory"
    assert any("layers fit on GPUs, the rest on the host" in text for text in placement.reasons)


def test_a_split_of_more_layers_than_there_are_is_one_of_all() -> None:
    assert placed(8, 8, gpu_layers=999, tensor_split=(1.0, 1.0)).gpu_layers == 33
    with pytest.raises(PlacementError, match="tensor_split"):
        placed(1, 1, gpu_layers=999, tensor_split=(1.0, 1.0))


def test_a_single_gpu_that_is_asked_for_is_the_one_that_has_room() -> None:
    placement = placed(2, 24, gpu_layers=33, split_mode="none")

    assert (placement.main_gpu, placement.split_mode) == (1, "none")


def test_a_split_that_cannot_be_is_refused_with_the_numbers() -> None:
    with pytest.raises(PlacementError, match=r"tensor_split: .* GPU 1 would need [\d.]+ GiB"):
        placed(24, 2, tensor_split=(0.1, 0.9))


def test_the_users_gpu_is_taken() -> None:
    assert placed(8, 24, 8, main_gpu=2).main_gpu == 2


def test_rows_are_shared_out_as_the_split_says() -> None:
    shares = placed(24, 24, split_mode="row", tensor_split=(3.0, 1.0)).shares

    assert shares[0].weights == pytest.approx(3 * shares[1].weights, rel=0.01)


def test_what_loads_took_makes_the_next_one_careful() -> None:
    careful = place(model(), gpus(5.2), None, Constraints(context=4096), ratio=1.3)

    assert placed(5.2, context=4096).gpu_layers == 33
    assert careful.gpu_layers < 33


# -- llama.cpp's arithmetic


@pytest.mark.parametrize(
    ("split", "layers", "counts"),
    [
        ((1.0, 1.0), 33, (17, 16)),
        ((3.0, 1.0), 81, (61, 20)),
        ((0.0, 1.0), 5, (0, 5)),
        ((0.5, 0.3, 0.2), 10, (5, 3, 2)),
        ((1.0,), 7, (7,)),
    ],
)
def test_shares_become_layers(split: Sequence[float], layers: int, counts: tuple[int, ...]) -> None:
    assert counts_of(split, layers) == counts


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8).filter(any))
def test_a_split_in_layers_comes_out_as_those_layers(counts: list[int]) -> None:
    assert counts_of([float(count) for count in counts], sum(counts)) == tuple(counts)


# -- for all machines

MODELS = st.sampled_from([(8, 64), (32, 128), (80, 500), (126, 1900)]).map(
    lambda shape: model(shape[0], shape[1] * MIB, 131072)
)
CARDS = st.lists(st.floats(0, 96), max_size=8)
CONSTRAINTS = st.fixed_dictionaries(
    {},
    optional={
        "context": st.integers(256, 65536),
        "slots": st.integers(1, 16),
        "split_mode": st.sampled_from(["none", "layer"]),
        "type_k": st.sampled_from(["f16", "q8_0"]),
        "flash_attention": st.booleans(),
    },
)


@settings(max_examples=150)
@given(MODELS, CARDS, CONSTRAINTS, st.integers(0, GIB))
def test_no_gpu_is_ever_given_more_than_it_has(
    of: ModelMemory, cards: list[float], constraints: dict[str, Any], reserve: int
) -> None:
    placement = place(of, gpus(*cards, reserve=reserve), None, Constraints(**constraints))

    for gpu, share in zip(placement.gpus, placement.shares, strict=True):
        assert share.total <= gpu.usable


@settings(max_examples=150)
@given(MODELS, CARDS, CONSTRAINTS)
def test_every_layer_is_in_one_place(
    of: ModelMemory, cards: list[float], constraints: dict[str, Any]
) -> None:
    placement = placed(*cards, of=of, **constraints)

    everywhere = [*placement.host.layers, *gpu_layers_of(placement)]
    assert everywhere == list(range(len(of.layers)))
    assert sum([placement.host.output, *(share.output for share in placement.shares)]) == 1
    if placement.tensor_split:
        dealt = counts_of(placement.tensor_split, placement.gpu_layers)
        got = [len(share.layers) + share.output for share in placement.shares]
        assert list(dealt) == got


@settings(max_examples=150)
@given(MODELS, CARDS, CONSTRAINTS, st.integers(0, 7), st.floats(0, 48))
def test_more_memory_never_places_fewer_layers(
    of: ModelMemory, cards: list[float], constraints: dict[str, Any], which: int, more: float
) -> None:
    if not cards:
        return
    larger = list(cards)
    larger[which % len(cards)] += more

    before, after = placed(*cards, of=of, **constraints), placed(*larger, of=of, **constraints)
    assert before.gpu_layers <= after.gpu_layers


@given(MODELS, st.integers(0, 127))
def test_the_parts_add_up_to_the_whole(of: ModelMemory, layers: int) -> None:
    count = min(layers, len(of.layers) + 1)
    shares, host = needs(of, ContextShape(4096), (count,))

    copied = of.input_weights if of.tied and shares[0].output else 0
    assert sum(share.weights for share in shares) + host.weights == of.weights + copied
