"""Whole model files of any size without their weights: a true header, and a hole for the rest.

The shapes are the published ones; the types are mixed as `llama-quantize` mixes them for Q4_K_M.
llama.cpp opens such a file like any other, as long as it need not read a weight.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from service.catalog.gguf_types import TENSOR_TYPES
from tests.catalog import gguf_files

ALIGNMENT = 32
SIZES = {name: (number, block, size) for number, (name, block, size) in TENSOR_TYPES.items()}

Tensors = Iterator[tuple[str, tuple[int, ...], str]]


@dataclass(frozen=True)
class Shape:
    """Of a transformer as most of them are; what is special comes in `extra` metadata."""

    architecture: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int
    context: int
    head: int = 0
    tied: bool = False
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def head_length(self) -> int:
        return self.head or self.width // self.heads


SHAPES = {
    "7B": Shape("llama", 4096, 32, 32, 8, 14336, 32768, 32768),
    "70B": Shape("llama", 8192, 80, 64, 8, 28672, 128256, 131072),
    "405B": Shape("llama", 16384, 126, 128, 8, 53248, 128256, 131072),
    "Mixtral-8x7B": Shape("llama", 4096, 32, 32, 8, 14336, 32000, 32768, experts=8, experts_used=2),
    "Qwen3-30B-A3B": Shape(
        "qwen3moe",
        2048,
        48,
        32,
        4,
        6144,
        151936,
        40960,
        head=128,
        experts=128,
        experts_used=8,
        expert_feed_forward=768,
    ),
    "gemma-3-27b": Shape(
        "gemma3",
        5376,
        62,
        32,
        16,
        21504,
        262208,
        131072,
        head=128,
        tied=True,
        extra={"attention.sliding_window": 1024},
    ),
    "DeepSeek-V3": Shape(
        "deepseek2",
        7168,
        61,
        128,
        1,
        18432,
        129280,
        163840,
        head=576,
        experts=256,
        experts_used=8,
        expert_feed_forward=2048,
        extra={
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
            "attention.kv_lora_rank": 512,
            "attention.q_lora_rank": 1536,
            "rope.dimension_count": 64,
            "leading_dense_block_count": 3,
            "expert_shared_count": 1,
        },
    ),
    "mamba-2.8b": Shape(
        "mamba",
        2560,
        64,
        0,
        0,
        0,
        50280,
        1048576,
        tied=True,
        extra={
            "ssm.conv_kernel": 4,
            "ssm.inner_size": 5120,
            "ssm.state_size": 16,
            "ssm.time_step_rank": 160,
        },
    ),
    "Jamba-v0.1": Shape(
        "jamba",
        4096,
        32,
        32,
        8,
        14336,
        65536,
        262144,
        experts=16,
        experts_used=2,
        extra={
            "ssm.conv_kernel": 4,
            "ssm.inner_size": 8192,
            "ssm.state_size": 16,
            "ssm.time_step_rank": 256,
            "attention.head_count_kv": [8 if layer % 8 == 4 else 0 for layer in range(32)],
        },
    ),
}


def write(path: Path, shape: Shape) -> Path:
    """Takes no more of the disk than the header, where the file system knows holes."""
    described = list(tensors(shape))
    metadata = describe(shape)
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(described), len(metadata))]
    parts += [gguf_files.text(key) + gguf_files.value(thing) for key, thing in metadata.items()]
    offset = 0
    for name, size, kind in described:
        number, block, block_bytes = SIZES[kind]
        numbers = struct.pack(f"<I{len(size)}QIQ", len(size), *size, number, offset)
        parts.append(gguf_files.text(name) + numbers)
        offset += _aligned(prod(size) // block * block_bytes)
    header = b"".join(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(_aligned(len(header)) + offset)
    return path


def describe(shape: Shape) -> dict[str, Any]:
    values: dict[str, Any] = {
        "context_length": shape.context,
        "embedding_length": shape.width,
        "block_count": shape.layers,
        "feed_forward_length": shape.feed_forward,
        "vocab_size": shape.vocabulary,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
    }
    if shape.head:
        values |= {"attention.key_length": shape.head, "attention.value_length": shape.head}
    if shape.experts:
        values |= {"expert_count": shape.experts, "expert_used_count": shape.experts_used}
    if shape.expert_feed_forward:
        values["expert_feed_forward_length"] = shape.expert_feed_forward
    values |= shape.extra
    return {
        "general.architecture": shape.architecture,
        "general.file_type": 15,
        "tokenizer.ggml.model": "no_vocab",
        **{f"{shape.architecture}.{key}": value for key, value in values.items()},
    }


def tensors(shape: Shape) -> Tensors:
    """(name, shape as GGUF has it: the contiguous dimension first, type)."""
    width = shape.width
    yield "token_embd.weight", (width, shape.vocabulary), "Q6_K" if shape.tied else "Q4_K"
    yield "output_norm.weight", (width,), "F32"
    if not shape.tied:
        yield "output.weight", (width, shape.vocabulary), "Q6_K"
    for layer in range(shape.layers):
        # The first eighth, the last, and every third between have these in more bits.
        eighth = shape.layers // 8
        more = layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2
        for name, size, kind in _LAYERS.get(shape.architecture, _transformer)(shape, layer):
            precise = more and ("attn_v." in name or "ffn_down" in name)
            yield f"blk.{layer}.{name}", size, "Q6_K" if kind == "Q4_K" and precise else kind


def _transformer(shape: Shape, layer: int) -> Tensors:
    width, head = shape.width, shape.head_length
    yield "attn_norm.weight", (width,), "F32"
    yield "attn_q.weight", (width, shape.heads * head), "Q4_K"
    yield "attn_k.weight", (width, shape.kv_heads * head), "Q4_K"
    yield "attn_v.weight", (width, shape.kv_heads * head), "Q4_K"
    yield "attn_output.weight", (shape.heads * head, width), "Q4_K"
    if shape.architecture in ("qwen3moe", "gemma3"):
        yield "attn_q_norm.weight", (head,), "F32"
        yield "attn_k_norm.weight", (head,), "F32"
    if shape.architecture == "gemma3":
        yield "post_attention_norm.weight", (width,), "F32"
        yield "post_ffw_norm.weight", (width,), "F32"
    yield from _feed_forward(shape, experts=bool(shape.experts))


def _feed_forward(shape: Shape, *, experts: bool) -> Tensors:
    width, many = shape.width, shape.experts
    yield "ffn_norm.weight", (width,), "F32"
    if experts:
        inner = shape.expert_feed_forward or shape.feed_forward
        yield "ffn_gate_inp.weight", (width, many), "F32"
        yield "ffn_gate_exps.weight", (width, inner, many), "Q4_K"
        yield "ffn_up_exps.weight", (width, inner, many), "Q4_K"
        yield "ffn_down_exps.weight", (inner, width, many), "Q4_K"
    else:
        yield "ffn_gate.weight", (width, shape.feed_forward), "Q4_K"
        yield "ffn_up.weight", (width, shape.feed_forward), "Q4_K"
        yield "ffn_down.weight", (shape.feed_forward, width), "Q4_K"


def _latent(shape: Shape, layer: int) -> Tensors:
    """DeepSeek's latent attention, with experts from the fourth layer on."""
    extra, width, heads = shape.extra, shape.width, shape.heads
    query, latent = extra["attention.q_lora_rank"], extra["attention.kv_lora_rank"]
    rope, key = extra["rope.dimension_count"], extra["attention.key_length_mla"]
    value = extra["attention.value_length_mla"]
    yield "attn_norm.weight", (width,), "F32"
    yield "attn_q_a_norm.weight", (query,), "F32"
    yield "attn_kv_a_norm.weight", (latent,), "F32"
    yield "attn_q_a.weight", (width, query), "Q4_K"
    yield "attn_q_b.weight", (query, heads * key), "Q4_K"
    yield "attn_kv_a_mqa.weight", (width, latent + rope), "Q4_K"
    # 128 to a row: no whole blocks of 256.
    yield "attn_k_b.weight", (key - rope, latent, heads), "Q8_0"
    yield "attn_v_b.weight", (latent, value, heads), "Q4_K"
    yield "attn_output.weight", (heads * value, width), "Q4_K"
    experts = layer >= extra["leading_dense_block_count"]
    yield from _feed_forward(shape, experts=experts)
    if experts:
        inner = shape.expert_feed_forward * extra["expert_shared_count"]
        yield "exp_probs_b.bias", (shape.experts,), "F32"
        yield "ffn_gate_shexp.weight", (width, inner), "Q4_K"
        yield "ffn_up_shexp.weight", (width, inner), "Q4_K"
        yield "ffn_down_shexp.weight", (inner, width), "Q4_K"


def _mamba(shape: Shape, layer: int) -> Tensors:
    extra, width = shape.extra, shape.width
    inner, state = extra["ssm.inner_size"], extra["ssm.state_size"]
    rank, kernel = extra["ssm.time_step_rank"], extra["ssm.conv_kernel"]
    yield "attn_norm.weight", (width,), "F32"
    yield "ssm_in.weight", (width, 2 * inner), "Q4_K"
    yield "ssm_conv1d.weight", (kernel, inner), "F32"
    yield "ssm_conv1d.bias", (inner,), "F32"
    yield "ssm_x.weight", (inner, rank + 2 * state), "Q4_K"
    yield "ssm_dt.weight", (rank, inner), "F32"
    yield "ssm_dt.bias", (inner,), "F32"
    yield "ssm_a", (state, inner), "F32"
    yield "ssm_d", (inner,), "F32"
    yield "ssm_out.weight", (inner, width), "Q4_K"


def _jamba(shape: Shape, layer: int) -> Tensors:
    experts = layer % 2 == 1
    if shape.extra["attention.head_count_kv"][layer]:
        for tensor in _transformer(shape, layer):
            if tensor[0].startswith("attn"):
                yield tensor
    else:
        yield from _mamba(shape, layer)
        yield "ssm_dt_norm.weight", (shape.extra["ssm.time_step_rank"],), "F32"
        yield "ssm_b_norm.weight", (shape.extra["ssm.state_size"],), "F32"
        yield "ssm_c_norm.weight", (shape.extra["ssm.state_size"],), "F32"
    yield from _feed_forward(shape, experts=experts)


_LAYERS = {"deepseek2": _latent, "mamba": _mamba, "jamba": _jamba}


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
