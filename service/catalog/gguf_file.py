"""What a model card needs of one GGUF file, small enough to be kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from service.catalog import ollama_format
from service.catalog.card import Problem, RopeScaling
from service.catalog.gguf import read_header
from service.catalog.gguf_header import GgufError, Header, Keeping
from service.facts import POOLINGS, Pooling

# Ollama's conversions show in their tensors' names. Long lists are stepped over.
TO_DESCRIBE: Final = Keeping(tensors=True)

# The control tokens around prefix, suffix and middle, by their names of today and of 2024.
_INFILL: Final = (("fim_pre", "fim_suf", "fim_mid"), ("prefix", "suffix", "middle"))


class GgufFile(Struct, frozen=True, omit_defaults=True):
    """`problem` is the file's own. `ollama_format`: what marks it as Ollama's own conversion.

    projector: it holds the vision or audio half of some other file's model.
    split_count, split_tensors: of the whole that it is a shard of; None where it is whole itself.
    """

    problem: Problem | None = None
    architecture: str | None = None
    quantization: str | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    block_count: int | None = None
    parameter_count: int = 0
    tensor_count: int = 0
    split_count: int | None = None
    split_tensors: int | None = None
    rope: RopeScaling | None = None
    sliding_window: int | None = None
    chat_template: str | None = None
    sampling: dict[str, int | float] = {}
    pooling: Pooling | None = None
    can_generate: bool = True
    can_infill: bool = False
    projector: bool = False
    sees: bool = False
    hears: bool = False
    ollama_format: str | None = None


def describe(path: Path) -> GgufFile:
    """Raises OSError where the file cannot be read; what is wrong inside is its `problem`."""
    try:
        header = read_header(path, TO_DESCRIBE)
    except GgufError as error:
        return GgufFile(Problem("corrupt", str(error)))
    return _of(header)


def _of(header: Header) -> GgufFile:
    projector = header.architecture == "clip"
    return GgufFile(
        problem=_problem(header),
        architecture=header.architecture,
        quantization=header.quantization,
        context_length=header.context_length,
        embedding_length=header.of_architecture("embedding_length"),
        block_count=header.of_architecture("block_count"),
        parameter_count=header.parameter_count,
        tensor_count=header.tensor_count,
        split_count=header.number("split.count") or None,
        split_tensors=header.number("split.tensors.count"),
        rope=_rope(header),
        sliding_window=header.of_architecture("attention.sliding_window") or None,
        chat_template=header.text("tokenizer.chat_template"),
        sampling=header.sampling,
        pooling=_pooling(header),
        can_generate=header.metadata.get(f"{header.architecture}.attention.causal") is not False,
        can_infill=_can_infill(header),
        projector=projector,
        sees=header.metadata.get("clip.has_vision_encoder") is True,
        hears=header.metadata.get("clip.has_audio_encoder") is True,
        ollama_format=None if projector else ollama_format.mark(header),
    )


def _problem(header: Header) -> Problem | None:
    if header.missing_bytes:
        text = f"the file ends {header.missing_bytes} bytes before its last tensor does"
        return Problem("corrupt", text)
    if header.text("general.type") in ("adapter", "imatrix"):
        return Problem("not-a-model", f"is not a model but an {header.text('general.type')}")
    return None


def _rope(header: Header) -> RopeScaling | None:
    prefix = f"{header.architecture}.rope."
    kind = header.text(f"{prefix}scaling.type")
    factor = header.metadata.get(f"{prefix}scaling.factor")
    if factor is None and (factor := header.metadata.get(f"{prefix}scale_linear")) is not None:
        # As files of 2023 said it.
        kind = kind or "linear"
    if kind is None:
        return None
    finetuned = header.metadata.get(f"{prefix}scaling.finetuned")
    return RopeScaling(
        kind,
        float(factor) if isinstance(factor, int | float) else None,
        header.number(f"{prefix}scaling.original_context_length"),
        finetuned if isinstance(finetuned, bool) else None,
    )


def _pooling(header: Header) -> Pooling | None:
    number = header.of_architecture("pooling_type")
    return POOLINGS[number] if number is not None and 0 < number < len(POOLINGS) else None


def _can_infill(header: Header) -> bool:
    return any(
        all(header.number(f"tokenizer.ggml.{name}_token_id") is not None for name in names)
        for names in _INFILL
    )
