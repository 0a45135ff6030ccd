"""GGUF files that Ollama's own llama.cpp loads and llama.cpp does not.

Ollama converted some models by itself: with the vision tensors inside, with keys that have other
names or are missing. Its fork mends them while loading (`llama/compat` in its source, where each
architecture's marks are told); llama.cpp refuses them, or takes them and answers nonsense.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from service.catalog.gguf_header import Header, Omitted
from service.catalog.gguf_types import STRING

# Names of its own for what llama.cpp knows by another.
RENAMED: Final = {
    "deepseekocr": "deepseek2-ocr",
    "glm4moelite": "deepseek2",
    "glmocr": "glm4",
    "gptoss": "gpt-oss",
    "mllama": None,
    "nemotron_h_omni": "nemotron_h_moe",
    "olmo3": "olmo2",
    "qwen25vl": "qwen2vl",
}
# Tensors of other parts in the file of the text model, which its loader counts as too many.
FOREIGN: Final = {
    "gemma3": ("v.", "mm.", "dense."),
    "gemma3n": ("v.", "mm.", "a."),
    "gemma4": ("v.", "mm.", "a.", "model.vision_tower."),
    "llama4": ("v.", "mm."),
    "mistral3": ("v.", "mm."),
    "nemotron_h_moe": ("mtp.",),
    "qwen35": ("v.", "mm.", "mtp."),
    "qwen35moe": ("v.", "mm.", "mtp."),
    "qwen3vl": ("v.", "mm."),
    "qwen3vlmoe": ("v.", "mm."),
}
# Keys, without the architecture's prefix, that only its converter writes; and that it leaves out.
WRITTEN: Final = {
    "laguna": ("rope.swa.dimension_count", "rope.swa.freq_base"),
    "mistral3": ("rope.scaling.beta_fast", "rope.scaling.mscale_all_dim", "rope.scaling_beta"),
    "qwen35": ("ssm.v_head_reordered", "rope.mrope_interleaved"),
    "qwen35moe": ("ssm.v_head_reordered", "rope.mrope_interleaved"),
}
LEFT_OUT: Final = {
    "gemma3": "attention.layer_norm_rms_epsilon",
    "qwen3vl": "rope.dimension_sections",
    "qwen3vlmoe": "rope.dimension_sections",
}
_DT: Final = re.compile(r"blk\.\d+\.ssm_dt")
_LATENT: Final = re.compile(r"blk\.\d+\.ffn_latent_(in|out)\b")


def mark(header: Header) -> str | None:
    """What gives such a file away, or None. The header has to be read with its tensors."""
    name = header.architecture or ""
    if name in RENAMED:
        known = RENAMED[name]
        return f"its architecture {name} is " + (f"{known} elsewhere" if known else "Ollama's own")
    # A split model's later shards have none of the keys.
    if header.number("split.no"):
        return None
    for prefix in FOREIGN.get(name, ()):
        if any(tensor.name.startswith(prefix) for tensor in header.tensors):
            return f"it holds {prefix}* tensors, which belong into a file of their own"
    for key in WRITTEN.get(name, ()):
        if f"{name}.{key}" in header.metadata:
            return f"it says {name}.{key}, which nobody else does"
    left_out = LEFT_OUT.get(name)
    if left_out and header.tensor_count and f"{name}.{left_out}" not in header.metadata:
        return f"{name}.{left_out} is missing"
    peculiar = PECULIAR.get(name)
    return peculiar(header) if peculiar else None


def _names(header: Header) -> Iterable[str]:
    return (tensor.name for tensor in header.tensors)


def _snowflake(header: Header) -> str | None:
    """llama.cpp ends the process over it."""
    charsmap = header.metadata.get("tokenizer.ggml.precompiled_charsmap")
    is_text = isinstance(charsmap, Omitted) and charsmap.type == STRING
    is_text = is_text or (isinstance(charsmap, list) and any(isinstance(c, str) for c in charsmap))
    if header.text("tokenizer.ggml.model") == "t5" and is_text:
        return "tokenizer.ggml.precompiled_charsmap is text"
    return None


def _gemma3n(header: Header) -> str | None:
    rows = {tensor.name: tensor.shape[-1] for tensor in header.tensors if tensor.shape}
    words, others = rows.get("token_embd.weight"), rows.get("per_layer_token_embd.weight")
    if words is not None and others is not None and words != others:
        return f"its embeddings are for {words} tokens and for {others}"
    return None


def _gemma4(header: Header) -> str | None:
    if header.text("tokenizer.ggml.model") == "llama":
        return "its tokenizer is called llama"
    return None


def _lfm2(header: Header) -> str | None:
    names = set(_names(header))
    if "output_norm.weight" in names and "token_embd_norm.weight" not in names:
        return "token_embd_norm is called output_norm"
    return None


def _nemotron(header: Header) -> str | None:
    if any(_LATENT.match(name) for name in _names(header)):
        return "ffn_latent_down is called ffn_latent_in"
    return None


def _laguna(header: Header) -> str | None:
    if "blk.0.attn_g.weight" in _names(header):
        return "attn_gate is called attn_g"
    return None


def _qwen3next(header: Header) -> str | None:
    if any(_DT.fullmatch(name) for name in _names(header)):
        return "ssm_dt.bias is called ssm_dt"
    return None


def _qwen35(header: Header) -> str | None:
    sections = header.metadata.get(f"{header.architecture}.rope.dimension_sections")
    if isinstance(sections, list) and len(sections) != 4:
        return f"rope.dimension_sections has {len(sections)} entries, not 4"
    return None


PECULIAR: Final[dict[str, Callable[[Header], str | None]]] = {
    "bert": _snowflake,
    "gemma3n": _gemma3n,
    "gemma4": _gemma4,
    "laguna": _laguna,
    "lfm2": _lfm2,
    "nemotron_h_moe": _nemotron,
    "qwen35": _qwen35,
    "qwen35moe": _qwen35,
    "qwen3next": _qwen3next,
}
