"""What a split of the layers takes on each device, and how layers are dealt out. Pure."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from service.fleet.memory import (
    PIPELINE_COPIES,
    ContextShape,
    ModelMemory,
    cache_bytes,
    input_bytes,
    layer_compute,
    logits_bytes,
    output_compute,
    snapshot_bytes,
)


@dataclass(frozen=True, slots=True)
class Need:
    """In bytes, but for `layers` (blocks) and `output`."""

    layers: tuple[int, ...]
    output: bool
    weights: int
    cache: int
    compute: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute


def counts_of(split: Sequence[float], layers: int) -> tuple[int, ...]:
    """How many layers each GPU gets of a split, in the arithmetic of llama_model::load_tensors:
    the first GPU whose share of the running sum is above the layer's place, in f32."""
    total = 0.0
    ends = []
    for share in split:
        total = _f32(total + _f32(share))
        ends.append(total)
    ends = [_f32(end / total) for end in ends]
    counts = [0] * len(split)
    for layer in range(layers):
        counts[bisect_right(ends, _f32(layer / layers))] += 1
    return tuple(counts)


def needs(
    model: ModelMemory,
    shape: ContextShape,
    counts: Sequence[int],
    *,
    rows: Sequence[float] = (),
    alone: bool = False,
    ratio: float = 1.0,
) -> tuple[list[Need], Need]:
    """(of each GPU, of the host) where GPU i has counts[i] of the last layers.

    rows: shares of the matrices' rows, where those are split and not the layers. alone: llama.cpp
    is shown one GPU only.
    """
    blocks = len(model.layers)
    start = blocks + 1 - sum(counts)
    ends = list(accumulate(counts, initial=start))
    whole = start == 0
    piped = whole and len(counts) > 1 and not alone and not rows
    shares = [_on_gpu(model, shape, a, b, piped=piped) for a, b in pairwise(ends)]
    if rows:
        weights = sum(share.weights for share in shares)
        total = sum(rows)
        shares = [
            Need(s.layers, s.output, int(weights * row / total), s.cache, s.compute)
            for s, row in zip(shares, [*rows, *[0.0] * len(shares)], strict=False)
        ]
    first = next((i for i, count in enumerate(counts) if count), None)
    if first is not None and start > 0:
        shares[first] = _with_visitor(shares[first], model, start)
    return [_corrected(share, ratio) for share in shares], _on_host(model, shape, start)


def dealt(
    model: ModelMemory, shape: ContextShape, room: Sequence[int], layers: int, ratio: float
) -> tuple[int, ...] | None:
    """The last `layers` layers, each GPU taking what it can in order; None where some are left.

    Runs are contiguous and every GPU's overhead is its own, so that taking as much as possible
    early leaves the least for the others: where this finds no split, there is none.
    """
    piped = layers == len(model.layers) + 1 and len(room) > 1
    start = at = len(model.layers) + 1 - layers
    counts = []
    visited = start == 0
    for free in room:
        low, high = 0, len(model.layers) + 1 - at
        while low < high:
            middle = (low + high + 1) // 2
            need = _on_gpu(model, shape, at, at + middle, piped=piped)
            if not visited:
                need = _with_visitor(need, model, start)
            if _corrected(need, ratio).total <= free:
                low = middle
            else:
                high = middle - 1
        counts.append(low)
        at += low
        visited = visited or low > 0
    return tuple(counts) if at == len(model.layers) + 1 else None


def _on_gpu(model: ModelMemory, shape: ContextShape, start: int, end: int, *, piped: bool) -> Need:
    """Of the layers start ≤ i < end, of which the one behind the last block is the output."""
    blocks = model.layers[start:end]
    output = end > len(model.layers) and end > start
    if end <= start:
        return Need((), False, 0, 0, 0)
    compute = layer_compute(model, shape) if blocks else 0
    if output:
        compute = max(compute, output_compute(model, shape))
    # Copies of what comes from the device before it.
    compute += input_bytes(model, shape) * (PIPELINE_COPIES if piped else 1)
    return Need(
        layers=tuple(range(start, start + len(blocks))),
        output=output,
        weights=sum(layer.weights for layer in blocks) + (model.output_on_gpu if output else 0),
        cache=sum(cache_bytes(model, layer, shape) for layer in blocks),
        compute=compute,
    )


def _on_host(model: ModelMemory, shape: ContextShape, start: int) -> Need:
    blocks = model.layers[:start]
    output = start > len(model.layers)
    compute = input_bytes(model, shape) + logits_bytes(model, shape)
    if blocks:
        compute = layer_compute(model, shape) + logits_bytes(model, shape)
    if output:
        most = max(layer_compute(model, shape), output_compute(model, shape))
        compute = most + logits_bytes(model, shape)
    return Need(
        layers=tuple(range(len(blocks))),
        output=output,
        weights=model.input_weights
        + sum(layer.weights for layer in blocks)
        + (model.output_weights if output else 0),
        cache=sum(cache_bytes(model, layer, shape) for layer in blocks)
        + snapshot_bytes(model, shape),
        compute=compute,
    )


def _with_visitor(need: Need, model: ModelMemory, start: int) -> Need:
    """For batches, the first GPU computes with the host's weights too: one tensor at a time is
    copied into its compute buffer (`op_offload`)."""
    visitor = max((layer.largest for layer in model.layers[:start]), default=0)
    return Need(need.layers, need.output, need.weights, need.cache, need.compute + visitor)


def _corrected(need: Need, ratio: float) -> Need:
    """The ratio is of the whole, and what it changes is the part that is an estimate."""
    more = round(need.total * (ratio - 1.0))
    return Need(need.layers, need.output, need.weights, need.cache, need.compute + more)


def _f32(number: float) -> float:
    (rounded,) = struct.unpack("f", struct.pack("f", number))
    assert isinstance(rounded, float)
    return rounded
