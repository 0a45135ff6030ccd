"""How much memory a model takes, held against llama.cpp's own layout of the same files."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from service.catalog.demo import PATH as DEMO
from service.catalog.gguf import read_header
from service.catalog.gguf_header import Keeping
from service.fleet.calibration import Calibration
from service.fleet.memory import (
    ContextShape,
    ModelMemory,
    cache_bytes,
    layer_compute,
    output_compute,
)
from service.fleet.model_layers import Unmeasurable, memory_of, read_memory
from service.fleet.sums import needs
from tests.catalog import gguf_files
from tests.fleet.fakes import card
from tests.fleet.llama_buffers import MIB, simulate
from tests.fleet.model_headers import SHAPES, write

KIB = 1 << 10
# llama.cpp's log has two digits behind the point.
ROUNDING = 0.02 * MIB


def shapes(name: str) -> list[ContextShape]:
    """Several contexts, one slot and many, both layouts, with and without flash attention."""
    types = ("f16", "f16"), ("q8_0", "q8_0")
    found = []
    for n_ctx, (slots, unified), (k, v), flash in product(
        (4096, 32768), ((1, True), (8, True), (4, False)), types, (True, False)
    ):
        if name == "DeepSeek-V3" and not flash and v != "f16":
            continue
        found.append(
            ContextShape(
                n_ctx,
                slots,
                unified,
                n_outputs=slots + 32,
                type_k=k,
                type_v=v if flash else "f16",
                flash_attention=flash,
            )
        )
    return found


def total(model: ModelMemory, shape: ContextShape) -> int:
    return sum(cache_bytes(model, layer, shape) for layer in model.layers)


def compute(model: ModelMemory, shape: ContextShape) -> int:
    return max(layer_compute(model, shape), output_compute(model, shape))


@pytest.mark.parametrize("name", SHAPES)
def test_cells_are_exact_and_the_compute_buffer_near(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", SHAPES[name])
    model = read_memory([path])
    wanted = shapes(name)

    for shape, real in zip(wanted, simulate(path, wanted), strict=True):
        assert total(model, shape) == pytest.approx(real["cache"], abs=2 * ROUNDING), shape
        # Without flash attention, experts and latent attention overlap less than is assumed.
        slack = 0.1 if shape.flash_attention else 0.14
        assert compute(model, shape) == pytest.approx(real["compute"], rel=slack), shape


def test_layers_with_a_window_can_keep_cells_for_the_window_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", SHAPES["gemma-3-27b"])
    model = read_memory([path])
    wanted = [
        ContextShape(n_ctx, slots, unified, n_outputs=slots + 32, swa_full=False)
        for n_ctx, (slots, unified) in product(
            (1024, 32768, 131072), ((1, True), (4, True), (4, False))
        )
    ]

    for shape, real in zip(wanted, simulate(path, wanted), strict=True):
        assert total(model, shape) == pytest.approx(real["cache"], abs=2 * ROUNDING), shape
        assert compute(model, shape) == pytest.approx(real["compute"], rel=0.1), shape


# Worked out by hand, from the published shapes.
BY_HAND = {
    # 32 layers x (8 KV heads x 128 keys + as many values) x 2 bytes
    "7B": 128 * KIB,
    "70B": 80 * 2 * 8 * 128 * 2,
    "405B": 126 * 2 * 8 * 128 * 2,
    # 48 layers, 4 KV heads of 128
    "Qwen3-30B-A3B": 96 * KIB,
    # 61 layers of 512 latent elements and 64 of position, key and value in one
    "DeepSeek-V3": 61 * 576 * 2,
    # 4 of 32 layers attend
    "Jamba-v0.1": 4 * 2 * 8 * 128 * 2,
    "mamba-2.8b": 0,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_token_takes_what_the_shape_says(name: str, tmp_path: Path) -> None:
    model = read_memory([write(tmp_path / "model.gguf", SHAPES[name])])
    short, long = ContextShape(4096), ContextShape(8192)

    assert (total(model, long) - total(model, short)) / 4096 == BY_HAND[name]


def test_a_states_size_has_nothing_to_do_with_the_context(tmp_path: Path) -> None:
    model = read_memory([write(tmp_path / "model.gguf", SHAPES["mamba-2.8b"])])
    # 64 layers x 5120 channels x (3 of the convolution + 16 of state) x 4 bytes
    state = 64 * 5120 * (3 + 16) * 4

    assert total(model, ContextShape(4096)) == total(model, ContextShape(1 << 20)) == state
    assert total(model, ContextShape(4096, 8)) == 8 * state


def test_the_host_keeps_states_to_go_on_from(tmp_path: Path) -> None:
    model = read_memory([write(tmp_path / "model.gguf", SHAPES["mamba-2.8b"])])
    shape = ContextShape(4096, 8)
    _, host = needs(model, shape, ())
    gpus, rest = needs(model, shape, (len(model.layers) + 1,))

    assert host.cache == total(model, shape) + 2 * total(model, shape)
    assert (gpus[0].cache, rest.cache) == (total(model, shape), 2 * total(model, shape))
    _, nothing = needs(model, dataclasses.replace(shape, prefix_cache=False), ())
    assert nothing.cache == total(model, shape)


@pytest.mark.parametrize("name", SHAPES)
def test_weights_are_all_of_the_files_tensors(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", SHAPES[name])
    model = read_memory([path])

    assert len(model.layers) == SHAPES[name].layers
    assert all(layer.weights > 0 for layer in model.layers)
    # The file pads each tensor to 32 bytes.
    padding = 32 * read_header(path).tensor_count
    assert model.weights == pytest.approx(read_header(path).tensor_bytes, abs=padding)


def test_shards_are_added_up(tmp_path: Path) -> None:
    whole = read_memory([DEMO])
    second = gguf_files.write(
        tmp_path / "b.gguf", tensors={"blk.1.ffn_up.weight": ((64, 64), gguf_files.F32)}
    )
    assert read_memory([DEMO, second]).layers[1].weights == whole.layers[1].weights + 64 * 64 * 4


def test_an_encoder_keeps_nothing(tmp_path: Path) -> None:
    metadata = {
        "general.architecture": "bert",
        "bert.context_length": 512,
        "bert.block_count": 2,
        "bert.embedding_length": 64,
        "bert.feed_forward_length": 256,
        "bert.attention.head_count": 4,
    }
    model = read_memory([gguf_files.write(tmp_path / "a.gguf", metadata=metadata)])

    assert total(model, ContextShape(512, 4)) == 0


def test_what_is_not_modelled_is_said(tmp_path: Path) -> None:
    metadata = {
        "general.architecture": "deepseek4",
        "deepseek4.context_length": 512,
        "deepseek4.block_count": 2,
        "deepseek4.embedding_length": 64,
        "deepseek4.attention.head_count": 4,
    }
    model = read_memory([gguf_files.write(tmp_path / "a.gguf", metadata=metadata)])

    assert any("deepseek4" in reason for reason in model.unknown)
    assert read_memory([DEMO]).unknown == ()


@pytest.mark.parametrize("missing", ["context_length", "block_count", "embedding_length"])
def test_without_the_shape_there_is_no_figure(missing: str, tmp_path: Path) -> None:
    metadata = {k: v for k, v in gguf_files.METADATA.items() if k != f"llama.{missing}"}
    path = gguf_files.write(tmp_path / "a.gguf", metadata=metadata)

    with pytest.raises(Unmeasurable, match=missing):
        read_memory([path])


@given(
    st.integers(256, 1 << 20),
    st.integers(1, 64),
    st.booleans(),
    st.sampled_from(["f16", "q8_0", "q4_0"]),
)
def test_more_context_never_takes_less(n_ctx: int, slots: int, unified: bool, kind: str) -> None:
    model = read_memory([DEMO])
    some = ContextShape(n_ctx, slots, unified, type_k=kind, type_v=kind)
    more = ContextShape(n_ctx + 256, slots, unified, type_k=kind, type_v=kind)

    assert total(model, some) <= total(model, more)
    assert compute(model, some) <= compute(model, more)
    assert some.cells * some.streams >= min(n_ctx, some.cells * some.streams)


def test_the_demo_model_is_read_with_its_tensors() -> None:
    header = read_header(DEMO, Keeping(tensors=True))

    assert read_memory([DEMO]).weights == header.tensor_bytes


# -- what loads took corrects what is predicted


def test_the_next_prediction_knows_what_the_last_load_took() -> None:
    seen = Calibration().observe("a", 1000, 1200)

    assert (seen.ratio("a"), seen.ratio("b")) == (1.2, 1.0)


@given(st.floats(0.5, 2.0), st.lists(st.floats(0.9, 1.1), min_size=8, max_size=8))
def test_the_ratio_goes_where_the_loads_are(start: float, loads: list[float]) -> None:
    seen = Calibration({"a": start})
    for taken in loads:
        seen = seen.observe("a", 1_000_000, round(taken * 1_000_000))

    assert 0.89 <= seen.ratio("a") <= 1.11


@pytest.mark.parametrize(("predicted", "taken"), [(0, 100), (100, 0), (100, 1000), (100, -5)])
def test_a_disturbed_load_teaches_nothing(predicted: int, taken: int) -> None:
    assert Calibration().observe("a", predicted, taken) == Calibration()


def test_of_a_file_that_says_too_little_nothing_is_known(tmp_path: Path) -> None:
    known = card(DEMO)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")

    assert memory_of(known) == read_memory([DEMO])
    assert memory_of(card(broken)) is None
    assert memory_of(replace(known, path=str(tmp_path / "gone.gguf"))) is None
