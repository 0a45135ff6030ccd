"""What a loaded model and its context say of themselves."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

KVLayout = Literal["auto", "split", "unified"]
SplitMode = Literal["none", "layer", "row"]
Pooling = Literal["none", "mean", "cls", "last", "rank"]
BufferKind = Literal["weights", "cells", "states", "compute", "output"]
# As GGUF files number them.
POOLINGS: tuple[Pooling, ...] = ("none", "mean", "cls", "last", "rank")


class Buffer(Struct, frozen=True):
    """Memory that llama.cpp took, in bytes. device: "CUDA0" and the like; "CPU_Mapped" are pages of
    the model's file, "CPU_REPACK" weights that are kept a second time, in an order that computes
    faster."""

    device: str
    kind: BufferKind
    bytes: int


class Adapter(Struct, frozen=True):
    """A LoRA adapter to load with a model. name: "" where nobody can ask for it by one. scale: of
    requests that choose none; 0: it is for those alone that do."""

    path: str
    name: str = ""
    scale: float = 1.0


class AdapterFacts(Struct, frozen=True):
    """A LoRA adapter that is loaded. `task` and `prompt_prefix`: what its file says that it is for,
    and that prompts should begin with; empty where it does not say."""

    name: str
    task: str = ""
    prompt_prefix: str = ""


class ModelFacts(Struct, frozen=True):
    """What the loaded model and its context say of themselves; all of it is read, none assumed.

    n_ctx: tokens of all sequences together; n_ctx_seq: the most that one sequence may hold;
    n_ctx_train: what the model was trained for. Sizes are in bytes.

    can_generate: false for encoders, which only embed. pooling: how the file wants vectors made of
    tokens ("none" if it does not say); n_embed_input: the most tokens of one input to embed.
    gpu_layers and tensor_split are in force, 0 and empty without a GPU; layers are counted as
    llama.cpp does, the output as one. flash_attention: None where llama.cpp did not say. buffers:
    empty where it did not.
    infill: the control tokens' text around prefix and suffix, and before the middle.
    rerank_template: the sentence with {query} and {document} that a model of pairs was trained on,
    where its file has it; scores_are_probabilities: false where its scores are logits.
    adapters: in the order of their numbers.
    """

    architecture: str
    description: str
    n_ctx: int
    n_ctx_seq: int
    n_ctx_train: int
    n_seq: int
    n_batch: int
    n_vocab: int
    n_embd: int
    n_layer: int
    n_params: int
    size_bytes: int
    kv_layout: KVLayout
    threads: int
    bos: str
    eos: str
    eog_tokens: tuple[int, ...]
    chat_template: str | None
    # Whether a sequence's tail can be dropped: false for recurrent and hybrid models, which
    # reuse a prefix only where it ends exactly at a kept state.
    can_rollback: bool
    gpu_offload: bool
    engine_version: str
    load_seconds: float
    can_generate: bool = True
    pooling: Pooling = "none"
    n_embed_input: int = 0
    infill: tuple[str, str, str] | None = None
    rerank_template: str | None = None
    scores_are_probabilities: bool = False
    n_ubatch: int = 0
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: bool | None = None
    gpu_layers: int = 0
    tensor_split: tuple[float, ...] = ()
    main_gpu: int = 0
    split_mode: SplitMode = "layer"
    mmap: bool = True
    mlock: bool = False
    buffers: tuple[Buffer, ...] = ()
    adapters: tuple[AdapterFacts, ...] = ()
    # So many tokens back see the layers that do not see everything; 0 where all layers do.
    window: int = 0
