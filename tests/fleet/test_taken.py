"""What the demo model really takes, in a real engine, and what it says of how it was loaded."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from service.engine.wire import EngineParams, LoadFailed, Step
from service.events import Finished
from service.facts import BufferKind, ModelFacts
from service.fleet.memory import (
    ContextShape,
    cache_bytes,
    layer_compute,
    logits_bytes,
    output_compute,
)
from service.fleet.model_layers import read_memory
from service.fleet.placer import constraints_of
from tests.engine.child import DEMO, GREEDY, child

MODEL = read_memory([DEMO])
# llama.cpp's log has two digits behind the point of a MiB.
ROUNDING = 0.01 * 1024 * 1024


def taken(facts: ModelFacts, *kinds: BufferKind) -> int:
    return sum(buffer.bytes for buffer in facts.buffers if buffer.kind in kinds)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_ctx": 4096},
        {"n_ctx": 4096, "n_seq": 8, "kv_layout": "unified"},
        {"n_ctx": 8192, "n_seq": 8, "kv_layout": "split"},
        {"n_ctx": 4096, "cache_type_k": "q8_0", "cache_type_v": "q8_0", "flash_attention": "on"},
        {"n_ctx": 4096, "cache_type_k": "q4_0", "n_seq": 8, "kv_layout": "unified"},
        {"n_ctx": 4096, "flash_attention": "off"},
        {"n_ctx": 4096, "n_seq": 8, "kv_layout": "split", "flash_attention": "off"},
        {"n_ctx": 4096, "n_batch": 1024, "n_ubatch": 1024},
        {"n_ctx": 4096, "n_batch": 64, "n_ubatch": 64},
    ],
    ids=str,
)
def test_a_load_takes_what_was_predicted(settings: dict[str, Any]) -> None:
    params = EngineParams(str(DEMO), **({"n_seq": 1} | settings))
    with child(params) as engine:
        facts = engine.facts

    constraints = constraints_of(params)
    shape = ContextShape(
        facts.n_ctx,
        params.n_seq,
        facts.kv_layout == "unified" or params.n_seq == 1,
        constraints.n_ubatch,
        constraints.n_outputs,
        params.cache_type_k,
        params.cache_type_v,
        constraints.flash_attention,
    )
    cache = sum(cache_bytes(MODEL, layer, shape) for layer in MODEL.layers)
    compute = max(layer_compute(MODEL, shape), output_compute(MODEL, shape))
    assert taken(facts, "weights") == pytest.approx(MODEL.weights, rel=0.01)
    assert taken(facts, "cells", "states") == pytest.approx(cache, abs=ROUNDING)
    assert taken(facts, "compute") == pytest.approx(compute, rel=0.1)
    assert taken(facts, "output") == pytest.approx(logits_bytes(MODEL, shape), abs=ROUNDING)


def test_an_engine_says_how_it_was_loaded() -> None:
    params = EngineParams(
        str(DEMO),
        n_ctx=2048,
        n_batch=128,
        n_ubatch=128,
        threads=1,
        cache_type_k="q8_0",
        cache_type_v="q4_0",
        use_mmap=False,
    )
    with child(params) as engine:
        facts = engine.facts

    assert (facts.n_batch, facts.n_ubatch, facts.threads) == (128, 128, 1)
    assert (facts.cache_type_k, facts.cache_type_v) == ("q8_0", "q4_0")
    # Asked for by nobody, and needed by the values' type.
    assert facts.flash_attention is True
    assert facts.mmap is False
    assert {buffer.device for buffer in facts.buffers if buffer.kind == "weights"} == {"CPU"}
    assert facts.gpu_offload or (facts.gpu_layers, facts.tensor_split) == (0, ())


def test_a_cache_that_llama_cpp_cannot_keep_is_no_lack_of_memory() -> None:
    with child() as engine:
        report = engine.load(
            EngineParams(str(DEMO), n_ctx=512, cache_type_v="q8_0", flash_attention="off")
        )

    assert isinstance(report, LoadFailed)
    assert report.kind == "unsupported"
    assert "flash_attn" in report.message


@pytest.mark.parametrize("size", [64, 512, 1024])
def test_a_step_takes_as_much_of_a_prompt_as_a_batch_holds(size: int) -> None:
    largest, ended = 0, False
    with child(EngineParams(str(DEMO), n_ctx=4096, n_batch=size, n_ubatch=size)) as engine:
        engine.submit("What is 12 + 34? " * 150, replace(GREEDY, max_tokens=1))
        while not ended:
            for report in engine.receive():
                if isinstance(report, Step):
                    largest = max(largest, report.stats.prefill_tokens)
                    ended |= any(isinstance(event, Finished) for _, event in report.outputs)

    assert largest == size


def test_as_many_slots_as_there_can_be_fit_a_small_context() -> None:
    with child(EngineParams(str(DEMO), n_ctx=32, n_seq=64, kv_layout="unified")) as engine:
        assert engine.facts.n_batch >= 64
