"""Whether a file is a LoRA adapter that llama.cpp can apply to a model, by the headers of both.

    general.type = adapter, general.architecture = the model's
    adapter.type = lora, adapter.lora.alpha: float
    NAME.lora_a, NAME.lora_b        for each tensor NAME of the model that is adapted

What is added to a weight of (in, out) is lora_b @ lora_a, of (in, rank) and (rank, out) as ggml
counts dimensions; of experts there is one for each. llama.cpp checks some of this when it loads
the file (llama-adapter.cpp), and aborts over the rest, there or in the first step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from service.catalog.gguf import read_header
from service.catalog.gguf_header import GgufError, Header, Keeping

# What converters write. A low rank is seldom a whole number of a quantized type's blocks.
TYPES: Final = frozenset({"F32", "F16", "BF16", "Q8_0"})
ALORA: Final = "adapter.alora.invocation_tokens"
TO_COMPARE: Final = Keeping(tensors=True)

Shape = tuple[int, ...]


def misfit(path: Path, model: Iterable[str]) -> str | None:
    """Why the file cannot be applied to the model in the files `model`, or None if it can."""
    try:
        adapter = read_header(path, TO_COMPARE)
    except GgufError as error:
        return str(error)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    try:
        headers = [read_header(Path(part), TO_COMPARE) for part in model]
    except (GgufError, OSError):
        # That is for whoever loads the model to say.
        return None
    return _of_header(adapter, headers[0]) or _of_tensors(
        {tensor.name: tensor.shape for tensor in adapter.tensors},
        {tensor.name: tensor.shape for header in headers for tensor in header.tensors},
    )


def _of_header(adapter: Header, model: Header) -> str | None:
    if adapter.missing_bytes:
        return f"it ends {adapter.missing_bytes} bytes before its last tensor does"
    if adapter.text("general.type") != "adapter":
        return "it is no adapter"
    if adapter.text("adapter.type") != "lora":
        return "it is not a LoRA"
    if adapter.architecture != model.architecture:
        return f"it is for {adapter.architecture}, and the model is {model.architecture}"
    alpha = adapter.metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        return "its alpha is not a number"
    if ALORA in adapter.metadata:
        return "it is to be applied from certain words on, which is not supported"
    types = {tensor.type for tensor in adapter.tensors} - TYPES
    return f"it has tensors of type {', '.join(sorted(types))}" if types else None


def _of_tensors(adapter: Mapping[str, Shape], model: Mapping[str, Shape]) -> str | None:
    halves = {name.rpartition(".")[0] for name in adapter if name.endswith((".lora_a", ".lora_b"))}
    if not halves:
        return "it has no tensors"
    for name in sorted(halves):
        a, b = adapter.get(f"{name}.lora_a"), adapter.get(f"{name}.lora_b")
        weight = model.get(name)
        if a is None or b is None:
            return f"its {name} has one half only"
        if weight is None:
            return f"the model has no {name}"
        if name == "token_embd.weight" and "output.weight" not in model:
            # llama.cpp would apply it to the output as well, the other way round, and abort.
            return "it adapts token_embd.weight, which the model's output shares"
        if not _fits(a, b, weight, swapped=name == "token_embd.weight"):
            return f"its {name} is for another shape"
    rest = sorted(name for name in adapter if name.rpartition(".")[0] not in halves)
    if rest and not all(name.endswith("_norm.weight") for name in rest):
        return f"it has a tensor {rest[0]}"
    return None


def _fits(a: Shape, b: Shape, weight: Shape, *, swapped: bool) -> bool:
    a, b, weight = (_matrices(shape) for shape in (a, b, weight))
    if a[2:] != weight[2:] or b[2:] != weight[2:]:
        return False
    if swapped:
        # Rows are looked up in it: (rank, words) and (rank, width).
        return (b[1], a[1]) == weight[:2] and a[0] == b[0]
    return (a[0], b[1]) == weight[:2] and a[1] == b[0]


def _matrices(shape: Shape) -> Shape:
    return (*shape, 1, 1, 1, 1)[:4]
