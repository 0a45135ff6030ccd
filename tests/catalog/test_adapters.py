"""Which files llama.cpp can apply to a model, seen in their headers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from service.catalog.adapters import misfit
from tests.catalog.gguf_files import F16, F32, METADATA, Q4_0, write
from tests.engine.adapters import ADAPTER

Tensors = Mapping[str, tuple[tuple[int, ...], int]]

MODEL: Tensors = {
    "token_embd.weight": ((64, 4), F32),
    "output.weight": ((64, 4), F32),
    "blk.0.attn_q.weight": ((64, 32), F32),
    "blk.0.ffn_up_exps.weight": ((64, 96, 3), F32),
}
FITTING: Tensors = {
    "blk.0.attn_q.weight.lora_a": ((64, 8), F32),
    "blk.0.attn_q.weight.lora_b": ((8, 32), F16),
}


def why(folder: Path, tensors: Tensors, model: Tensors = MODEL, **metadata: Any) -> str | None:
    whole = write(folder / "model.gguf", metadata=METADATA, tensors=model)
    keys = {key.replace("__", "."): value for key, value in metadata.items()}
    lora = write(folder / "lora.gguf", metadata={**ADAPTER, **keys}, tensors=tensors)
    return misfit(lora, [str(whole)])


@pytest.mark.parametrize(
    "tensors",
    [
        FITTING,
        {**FITTING, "blk.0.attn_norm.weight": ((64,), F32)},
        {
            "blk.0.ffn_up_exps.weight.lora_a": ((64, 8, 3), F32),
            "blk.0.ffn_up_exps.weight.lora_b": ((8, 96, 3), F32),
        },
        {
            "token_embd.weight.lora_a": ((8, 4), F32),
            "token_embd.weight.lora_b": ((8, 64), F32),
        },
    ],
)
def test_adapters_as_converters_write_them_fit(tmp_path: Path, tensors: Tensors) -> None:
    assert why(tmp_path, tensors) is None


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({}, "it has no tensors"),
        ({"blk.0.attn_norm.weight": ((64,), F32)}, "it has no tensors"),
        ({**FITTING, "blk.0.attn_q.bias": ((64,), F32)}, "it has a tensor blk.0.attn_q.bias"),
        ({"blk.0.attn_q.weight.lora_a": ((64, 8), F32)}, "its blk.0.attn_q.weight has one half"),
        (
            {"blk.9.x.lora_a": ((64, 8), F32), "blk.9.x.lora_b": ((8, 32), F32)},
            "the model has no blk.9.x",
        ),
        ({**FITTING, "blk.0.attn_q.weight.lora_a": ((32, 8), F32)}, "for another shape"),
        ({**FITTING, "blk.0.attn_q.weight.lora_b": ((4, 32), F32)}, "for another shape"),
        ({**FITTING, "blk.0.attn_q.weight.lora_b": ((8, 32, 2), F32)}, "for another shape"),
        (
            {
                "blk.0.ffn_up_exps.weight.lora_a": ((64, 8, 2), F32),
                "blk.0.ffn_up_exps.weight.lora_b": ((8, 96, 2), F32),
            },
            "for another shape",
        ),
        ({**FITTING, "blk.0.attn_q.weight.lora_a": ((64, 8), Q4_0)}, "tensors of type Q4_0"),
    ],
)
def test_tensors_that_are_not_the_models_do_not_fit(
    tmp_path: Path, tensors: Tensors, reason: str
) -> None:
    assert reason in str(why(tmp_path, tensors))


def test_an_output_that_is_the_embedding_cannot_be_adapted(tmp_path: Path) -> None:
    tensors: Tensors = {
        "token_embd.weight.lora_a": ((8, 4), F32),
        "token_embd.weight.lora_b": ((8, 64), F32),
    }
    shared = {name: shape for name, shape in MODEL.items() if name != "output.weight"}

    assert "which the model's output shares" in str(why(tmp_path, tensors, shared))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"general__type": "model"}, "it is no adapter"),
        ({"general__type": 5}, "it is no adapter"),
        ({"adapter__type": "ia3"}, "it is not a LoRA"),
        ({"general__architecture": "qwen2"}, "it is for qwen2, and the model is llama"),
        ({"adapter__lora__alpha": float("inf")}, "its alpha is not a number"),
        ({"adapter__lora__alpha": float("nan")}, "its alpha is not a number"),
        ({"adapter__lora__alpha": "16"}, "its alpha is not a number"),
        ({"adapter__lora__alpha": 16}, "its alpha is not a number"),
        ({"adapter__alora__invocation_tokens": [1, 2]}, "from certain words on"),
    ],
)
def test_a_header_that_llama_cpp_would_not_take_is_refused(
    tmp_path: Path, metadata: dict[str, Any], reason: str
) -> None:
    assert reason in str(why(tmp_path, FITTING, **metadata))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no such thing" * 10])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)

    assert misfit(tmp_path / "x", [str(write(tmp_path / "model.gguf"))]) is not None
    assert "cannot be read" in str(misfit(tmp_path / "y", []))


def test_of_a_cut_file_it_says_how_much_is_missing(tmp_path: Path) -> None:
    lora = write(tmp_path / "lora.gguf", metadata=ADAPTER, tensors=FITTING, cut=40)

    assert misfit(lora, [str(write(tmp_path / "m.gguf", tensors=MODEL))]) == (
        "it ends 40 bytes before its last tensor does"
    )
