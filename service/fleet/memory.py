"""How much memory a model takes: weights, KV cells, states and compute buffers, in bytes. Pure.

The formulas are llama.cpp's own (llama-kv-cache*.cpp, llama-memory-recurrent.cpp, llama-hparams.cpp
of the release that is locked), as far as they are formulas: weights, cells and states are exact.
The compute buffer is what its graph allocator needs at the widest moment of a step; that is
approximated by the widest of a few phases, within a tenth on every shape in docs/memory.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.catalog.gguf_types import TENSOR_TYPES
from service.context import SNAPSHOTS, padded

# Bytes of a block and elements in it, by the names that settings use.
_BLOCKS: Final = {name.lower(): (size, block) for name, block, size in TENSOR_TYPES.values()}
# ggml_backend_sched keeps its inputs so many times where several GPUs work on a batch in turn.
PIPELINE_COPIES: Final = 4
# States of recurrent layers, activations and masks without flash attention are f32.
_FLOAT: Final = 4
_HALF: Final = 2


@dataclass(frozen=True, slots=True)
class Layer:
    """One block of the model.

    weights: bytes. largest: bytes of its largest tensor. key, value: elements in a cell, of all
    KV heads together; 0 where the layer keeps no cells. windowed: it looks back no further than
    the model's window. state: bytes for each sequence.
    """

    weights: int
    largest: int = 0
    key: int = 0
    value: int = 0
    windowed: bool = False
    state: int = 0


@dataclass(frozen=True, slots=True)
class Widths:
    """Elements for each token at the widest moments of a step, by phase of a layer.

    attention: beside the scores, which are `heads` for each cell that is looked at.
    """

    feed_forward: int
    attention: int
    recurrent: int
    heads: int


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """What a GGUF header says about memory; sizes in bytes.

    input_weights are the token embeddings, which stay on the host. Where the file has no output
    matrix (`tied`), a GPU that holds the output gets a copy of them. head_lengths: elements of one
    head's key and value. unknown: what the figures leave out, in words; empty where they are whole.
    """

    architecture: str
    n_ctx_train: int
    n_vocab: int
    width: int
    layers: tuple[Layer, ...]
    input_weights: int
    output_weights: int
    tied: bool
    window: int
    widths: Widths
    head_lengths: tuple[int, int]
    unknown: tuple[str, ...] = ()

    @property
    def weights(self) -> int:
        """As they lie in the file."""
        return (
            self.input_weights + self.output_weights + sum(layer.weights for layer in self.layers)
        )

    @property
    def latent(self) -> bool:
        """Key and value are one vector (MLA), and of one type."""
        return any(layer.key and not layer.value for layer in self.layers)

    @property
    def output_on_gpu(self) -> int:
        return self.output_weights + (self.input_weights if self.tied else 0)


@dataclass(frozen=True, slots=True)
class ContextShape:
    """How a context is opened. n_ctx: tokens of all sequences together.

    swa_full: layers with a window keep cells for the whole context all the same, as prefixes that
    are shared and cut back need; llama.cpp's default, and ours.
    """

    n_ctx: int
    n_seq: int = 1
    unified: bool = True
    n_ubatch: int = 512
    n_outputs: int = 33
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = True
    swa_full: bool = True
    prefix_cache: bool = True

    @property
    def streams(self) -> int:
        return 1 if self.unified else self.n_seq

    @property
    def cells(self) -> int:
        """Of one stream: what a sequence can have at most."""
        return padded(self.n_ctx if self.unified else padded(self.n_ctx) // self.n_seq)

    @property
    def n_tokens(self) -> int:
        """Computed at a time."""
        return min(self.cells * self.streams, self.n_ubatch)

    def window_cells(self, window: int) -> int:
        if self.swa_full:
            return self.cells
        wide = window * (self.n_seq if self.unified else 1) + self.n_ubatch
        return padded(min(self.cells, wide))


def bytes_of(elements: int, cache_type: str) -> int:
    """Raises KeyError for a type that ggml has not."""
    size, block = _BLOCKS[cache_type]
    return elements * size // block


def quantized(cache_type: str) -> int:
    """The elements in a block; 0 of a type that is not made of blocks."""
    block = _BLOCKS[cache_type][1]
    return block if block > 1 else 0


def cache_bytes(model: ModelMemory, layer: Layer, shape: ContextShape) -> int:
    """Cells and states of one layer."""
    value = layer.value
    if value and not shape.flash_attention:
        # A transposed V cache has rows of one length in all layers.
        value = max(other.value for other in model.layers)
    cells = shape.window_cells(model.window) if layer.windowed else shape.cells
    cell = bytes_of(layer.key, shape.type_k) + bytes_of(value, shape.type_v)
    return cell * cells * shape.streams + layer.state * shape.n_seq


def cell_bytes(model: ModelMemory, type_k: str, type_v: str) -> int:
    """Of a token in all layers. For a rough cut; `cache_bytes` knows of padding and windows."""
    keys = sum(bytes_of(layer.key, type_k) for layer in model.layers)
    return keys + sum(bytes_of(layer.value, type_v) for layer in model.layers)


def mask_bytes(model: ModelMemory, shape: ContextShape) -> int:
    """Which cells each token may look at: one mask for all layers, one more for those with a
    window. The tokens of a step are shared out among the streams."""
    attends = [layer for layer in model.layers if layer.key]
    if not attends:
        return 0
    element = _HALF if shape.flash_attention else _FLOAT
    cells = shape.cells
    if any(layer.windowed for layer in attends):
        cells += shape.window_cells(model.window)
    return cells * shape.n_tokens * element


def layer_compute(model: ModelMemory, shape: ContextShape) -> int:
    """Of a device that computes layers: masks, and the widest moment of any layer."""
    widths, tokens = model.widths, shape.n_tokens
    attention = widths.attention
    if not shape.flash_attention and widths.heads:
        attention += widths.heads * shape.cells
    state = max((layer.state for layer in model.layers), default=0) * shape.n_seq
    recurrent = widths.recurrent * tokens * _FLOAT + state
    widest = max(widths.feed_forward, attention) * tokens * _FLOAT
    return max(widest, recurrent) + mask_bytes(model, shape)


def output_compute(model: ModelMemory, shape: ContextShape) -> int:
    """Of the device with the output matrix, while it is used: logits, and what led to them."""
    outputs = min(shape.n_tokens, shape.n_outputs)
    return (outputs * model.n_vocab + shape.n_tokens * model.width) * _FLOAT


def logits_bytes(model: ModelMemory, shape: ContextShape) -> int:
    """Of the buffer on the host that they are read from: at first a row for each sequence."""
    return shape.n_seq * model.n_vocab * _FLOAT


def snapshot_bytes(model: ModelMemory, shape: ContextShape) -> int:
    """Of the host, where prefixes of recurrent and hybrid models are kept: so many states at most,
    and with each what layers with a window look back to."""
    state = sum(layer.state for layer in model.layers)
    if not shape.prefix_cache or not state:
        return 0
    for layer in model.layers:
        if layer.windowed:
            cell = bytes_of(layer.key, shape.type_k) + bytes_of(layer.value, shape.type_v)
            state += cell * min(model.window, shape.cells)
    return SNAPSHOTS * shape.n_seq * state


def input_bytes(model: ModelMemory, shape: ContextShape) -> int:
    """What a GPU gets from the device before it: hidden states and masks. Kept several times over
    where GPUs work in turn."""
    return shape.n_tokens * model.width * _FLOAT + mask_bytes(model, shape)
