"""A GGUF header, or those of all shards, as layers with their sizes.

Which layers keep cells, have a window or a state is decided by llama.cpp for each architecture;
the tables below are its decisions (src/models/*.cpp, llama_model::create_memory). What it does in
ways that are not modelled here is said in `unknown`.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Final

from service.catalog.card import ModelCard
from service.catalog.gguf import read_header
from service.catalog.gguf_header import GgufError, Header, Keeping, Omitted
from service.catalog.gguf_types import TENSOR_TYPES
from service.fleet.memory import Layer, ModelMemory, Widths

logger = logging.getLogger(__name__)

_BLOCKS: Final = {name: (block, size) for name, block, size in TENSOR_TYPES.values()}
_BLOCK: Final = re.compile(r"blk\.(\d+)\.")
_INPUT: Final = ("token_embd", "position_embd", "token_types", "per_layer_token_embd")

# Every so many layers one sees everything, the others a window; True: the first of them does.
_PATTERNS: Final = {
    "afmoe": (4, False),
    "cohere2": (4, False),
    "cohere2moe": (4, True),
    "exaone-moe": (4, False),
    "exaone4": (4, False),
    "gemma2": (2, False),
    "gemma3": (6, False),
    "gemma3n": (5, False),
    "gpt-oss": (2, False),
    "laguna": (4, True),
    "llama4": (4, False),
    "mellum": (4, False),
    "muse-glimmer": (4, False),
    "olmo2": (4, False),
    "plamo3": (8, False),
    "smallthinker": (4, True),
}
# The window where the file names none, or another.
_WINDOWS: Final = {"gemma2": 4096, "exaone-moe": 128}
_FIXED_WINDOWS: Final = {"llama4": 8192, "smallthinker": 4096}
_RECURRENT: Final = {"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"}
# Recurrent where a layer has no KV heads.
_HYBRID: Final = {
    "granitehybrid",
    "jamba",
    "kimi-linear",
    "lfm2",
    "lfm2moe",
    "nemotron_h",
    "nemotron_h_moe",
    "plamo2",
}
# Recurrent but for every fourth layer, unless the file says which.
_INTERVALS: Final = {"qwen3next", "qwen35", "qwen35moe"}
# They look at all of a text at once, and keep nothing.
_CACHELESS: Final = {
    "bert",
    "dream",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "llada",
    "llada-moe",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "rnd1",
    "wavtokenizer-dec",
}
_UNMODELLED: Final = {
    "bailingmoe3",
    "deepseek32",
    "deepseek4",
    "dflash",
    "dots3note",
    "eagle3",
    "gemma4-assistant",
    "glm-dsa",
    "glm5-next",
    "hy_v4",
    "kimi-k3",
    "minimax-01",
    "minimax-m3",
    "nanbeige",
    "qwen4exp",
}


class Unmeasurable(Exception):
    """The header lacks what no figure can be given without; the message says what."""


def memory_of(card: ModelCard) -> ModelMemory | None:
    """None where its header cannot be read, or says too little to tell. Blocks."""
    try:
        return read_memory(card.weights)
    except (GgufError, Unmeasurable, OSError) as error:
        logger.debug("what %s would take is not known: %s", card.name, error)
        return None


def read_memory(paths: Sequence[str | Path]) -> ModelMemory:
    """Of a file, or of all shards, the first one first. Raises Unmeasurable, GgufError, OSError."""
    return model_memory([read_header(path, Keeping(tensors=True)) for path in paths])


def model_memory(headers: Sequence[Header]) -> ModelMemory:
    """Headers have to be read with their tensors. Raises Unmeasurable."""
    facts = _Facts(headers[0])
    per_layer: defaultdict[int, list[int]] = defaultdict(list)
    inputs = outputs = 0
    names = set()
    for name, size in _sizes(headers):
        names.add(name)
        if block := _BLOCK.match(name):
            per_layer[int(block[1])].append(size)
        elif name.startswith(_INPUT):
            inputs += size
        else:
            outputs += size
    count = facts.need("block_count")
    window, windowed = _window(facts, count)
    layers = [
        _layer(facts, index, per_layer[index], windowed=window > 0 and windowed[index])
        for index in range(count)
    ]
    caches = any(layer.key or layer.state for layer in layers)
    return ModelMemory(
        architecture=facts.architecture,
        n_ctx_train=facts.need("context_length"),
        n_vocab=_vocabulary(headers),
        width=facts.need("embedding_length"),
        layers=tuple(layers),
        input_weights=inputs,
        output_weights=outputs,
        tied=caches and "output.weight" not in names,
        window=window,
        widths=_widths(facts, layers),
        head_lengths=_head_lengths(facts, windowed=False),
        unknown=_unknown(facts),
    )


class _Facts:
    def __init__(self, header: Header) -> None:
        self.header = header
        self.architecture = header.architecture or ""

    def number(self, key: str, default: int = 0) -> int:
        """Of an array the largest."""
        value = self.header.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, list):
            return max(
                (int(element) for element in value if not isinstance(element, str)), default=0
            )
        return int(value) if isinstance(value, int) else default

    def need(self, key: str) -> int:
        if not (number := self.number(key)):
            raise Unmeasurable(f"the file does not say {self.architecture}.{key}")
        return number

    def at(self, key: str, layer: int) -> int | None:
        """Of one layer, where the file has an array; None where it says nothing."""
        value = self.header.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, list):
            element = value[layer] if layer < len(value) else 0
            return 0 if isinstance(element, str) else int(element)
        return int(value) if isinstance(value, int) else None


def _sizes(headers: Iterable[Header]) -> Iterable[tuple[str, int]]:
    for header in headers:
        for tensor in header.tensors:
            block, size = _BLOCKS[tensor.type]
            yield tensor.name, prod(tensor.shape) // block * size


def _vocabulary(headers: Sequence[Header]) -> int:
    """The rows of the output matrix, or of the embedding where they share one."""
    rows = {t.name: t.shape[1] for h in headers for t in h.tensors if len(t.shape) == 2}
    return rows.get("output.weight") or rows.get("token_embd.weight", 0)


def _layer(facts: _Facts, index: int, sizes: list[int], *, windowed: bool) -> Layer:
    weights, largest = sum(sizes), max(sizes, default=0)
    recurrent, attends = _kinds(facts, index)
    key = value = 0
    if attends:
        heads = facts.at("attention.head_count_kv", index)
        heads = facts.at("attention.head_count", index) if heads is None else heads
        key, value = _head_lengths(facts, windowed=windowed)
        # Latent attention (MLA) keeps one vector for key and value.
        value = 0 if _latent(facts) else value * (heads or 0)
        key *= heads or 0
    state = _state(facts) if recurrent else 0
    return Layer(weights, largest, key, value, windowed and attends, state)


def _kinds(facts: _Facts, index: int) -> tuple[bool, bool]:
    """(has a state, keeps cells)."""
    name = facts.architecture
    trunk = facts.need("block_count") - facts.number("nextn_predict_layers")
    if name in _CACHELESS or (trunk and index >= trunk):
        return False, False
    if name in _RECURRENT:
        return True, False
    if name == "falcon-h1":
        return True, True
    if name in _INTERVALS:
        recurrent = facts.at("attention.recurrent_layers", index)
        if recurrent is None:
            recurrent = (index + 1) % facts.number("full_attention_interval", 4)
        return bool(recurrent), not recurrent
    heads = facts.at("attention.head_count_kv", index)
    if name.startswith("nemotron_h"):
        only = not facts.at("feed_forward_length", index)
        return only and heads == 0, only and heads != 0
    if name in _HYBRID:
        return heads == 0, heads != 0
    shared = facts.number("attention.shared_kv_layers")
    if name == "gemma3n":
        return False, index < 20
    if name == "gemma4":
        return False, index < trunk - shared
    return False, True


def _head_lengths(facts: _Facts, *, windowed: bool) -> tuple[int, int]:
    heads = facts.at("attention.head_count", 0) or 0
    default = facts.need("embedding_length") // heads if heads else 0
    key = facts.number("attention.key_length", default)
    value = facts.number("attention.value_length", default)
    if windowed:
        key = facts.number("attention.key_length_swa", key)
        value = facts.number("attention.value_length_swa", value)
    return key, value


def _latent(facts: _Facts) -> bool:
    return bool(facts.number("attention.key_length_mla"))


def _window(facts: _Facts, count: int) -> tuple[int, Sequence[bool]]:
    """(tokens, which layers have it); llama.cpp ignores the window of all other architectures."""
    name = facts.architecture
    window = facts.number("attention.sliding_window", _WINDOWS.get(name, 0))
    said = facts.header.metadata.get(f"{name}.attention.sliding_window_pattern")
    if name == "phi3" or not window and name != "llama4":
        return 0, ()
    window = _FIXED_WINDOWS.get(name, window)
    if name in ("lfm2", "lfm2moe"):
        return window, [True] * count
    if name == "exaone4" and count != 64:
        return 0, ()
    if isinstance(said, list):
        return window, [index < len(said) and bool(said[index]) for index in range(count)]
    if name not in _PATTERNS:
        return 0, ()
    every, first = _PATTERNS[name]
    every = said if isinstance(said, int) else every
    dense = 0 if first else every - 1
    return window, [every == 0 or index % every != dense for index in range(count)]


def _state(facts: _Facts) -> int:
    """Bytes for each sequence in a layer (llama_hparams::n_embd_r and n_embd_s), as f32."""
    width = facts.need("embedding_length")
    kernel, inner = facts.number("ssm.conv_kernel"), facts.number("ssm.inner_size")
    size, groups = facts.number("ssm.state_size"), facts.number("ssm.group_count")
    if head := facts.number("wkv.head_size"):
        elements = width * (facts.number("token_shift_count", 2) + head)
    elif kept := facts.number("shortconv.l_cache"):
        elements = width * (kept - 1) + size * inner
    elif head := facts.number("kda.head_dim"):
        heads = facts.number("attention.head_count")
        elements = 3 * (kernel - 1 if kernel else 3) * heads * head + head * head * heads
    else:
        elements = max(kernel - 1, 0) * (inner + 2 * groups * size) + size * inner
    return elements * 4


def _widths(facts: _Facts, layers: Sequence[Layer]) -> Widths:
    width = facts.need("embedding_length")
    inner = facts.number("feed_forward_length")
    used = facts.number("expert_used_count")
    expert = used * (facts.number("expert_feed_forward_length") or inner)
    # Gate, up and their product, beside the stream and what is made of it.
    streams = 5 if facts.architecture.startswith("gemma") else 4
    dense = 3 * (0 if used and not _has_dense(facts) else inner) + streams * width
    # The answers of all experts, and those again with their weights.
    experts = max(3 * expert + 4 * width, 2 * used * width + expert + 3 * width) if used else 0
    attention = heads = 0
    if any(layer.key for layer in layers):
        heads = facts.number("attention.head_count")
        key, value = _head_lengths(facts, windowed=False)
        kept = max(layer.key + layer.value for layer in layers)
        if _latent(facts):
            attention = heads * (key + 2 * value) + width
        else:
            attention = 3 * heads * key + 2 * width + kept
    recurrent = 0
    if any(layer.state for layer in layers):
        recurrent = 6 * max(facts.number("ssm.inner_size"), width) + width
    return Widths(max(dense, experts), attention, recurrent, heads)


def _has_dense(facts: _Facts) -> bool:
    return facts.number("leading_dense_block_count") > 0


def _unknown(facts: _Facts) -> tuple[str, ...]:
    name = facts.architecture
    found = []
    if name in _UNMODELLED:
        found.append(f"what llama.cpp keeps for {name} beside keys and values is not known here")
    value = facts.header.metadata.get(f"{name}.attention.head_count_kv")
    if isinstance(value, Omitted):
        found.append("the file's list of KV heads is too long to be read")
    if "wkv.head_size" in "".join(facts.header.metadata):
        found.append("the compute buffer of RWKV is that of another recurrent model, not measured")
    return tuple(found)
