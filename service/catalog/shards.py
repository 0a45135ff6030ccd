"""From files to cards: a model is one file, or the shards `name-00001-of-00003.gguf` of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from service.catalog.architectures import Architectures
from service.catalog.card import ModelCard, Problem, Source
from service.catalog.index import File
from service.catalog.names import digest_in

_SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.IGNORECASE)
_QUANTIZED: Final = re.compile(
    r"(?P<base>.+)(?<!-UD)[-._](?P<quantization>(?:UD-)?(?:I?Q\d|TQ\d|F16|F32|BF16|MXFP4|NVFP4)\w*)",
    re.IGNORECASE,
)
_UNFIT_FOR_A_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Shards:
    """One model's files by their number, from 1; `count` of them there should be."""

    folder: Path
    stem: str
    count: int
    files: Mapping[int, File]

    @property
    def first(self) -> File:
        return self.files[min(self.files)]


def alone(file: File) -> Shards:
    return Shards(file.path.parent, file.path.stem, 1, {1: file})


def grouped(files: Iterable[File]) -> list[Shards]:
    """Models in the order of their first files. Projectors are none."""
    groups: dict[tuple[Path, str, int], dict[int, File]] = {}
    for file in files:
        path = file.path
        if file.gguf.projector or path.name.lower().startswith("mmproj"):
            continue
        shard = _SHARD.fullmatch(path.stem)
        stem, number, count = (
            (shard["stem"], int(shard["number"]), int(shard["count"]))
            if shard
            else (path.stem, 1, 1)
        )
        groups.setdefault((path.parent, stem, count), {})[number] = file
    return [Shards(*key, found) for key, found in groups.items()]


def card_of(
    shards: Shards, name: str, source: Source, architectures: Architectures, **given: Any
) -> ModelCard:
    """What the headers say; `given` has what else is known, and goes before it."""
    first, files = shards.first, [file for _, file in sorted(shards.files.items())]
    gguf = first.gguf
    problem = problem_of(shards, architectures)
    digest = digest_in(first.real)
    fields: dict[str, Any] = {
        "size_bytes": sum(file.size for file in files),
        "modified": max(file.modified for file in files),
        "parameter_count": sum(file.gguf.parameter_count for file in files) or None,
        "digest": f"sha256:{digest}" if digest and shards.count == 1 else None,
        "problem": problem and problem.text,
        "reason": problem and problem.reason,
        "shards": tuple(str(file.path) for file in files) if shards.count > 1 else (),
    }
    for same in _SAME:
        fields[same] = getattr(gguf, same)
    own = {"path": str(first.path), "real": first.real, **fields, **given}
    return ModelCard(name=name, source=source, **own)


_SAME: Final = (
    "architecture", "quantization", "context_length", "embedding_length", "block_count", "rope",
    "sliding_window", "chat_template", "sampling", "pooling", "can_generate", "can_infill",
)  # fmt: skip


def problem_of(shards: Shards, architectures: Architectures) -> Problem | None:
    """The gravest: what is missing, then what is broken, then what is not for this server."""
    files, count = shards.files, shards.count
    for number in range(1, count + 1):
        if number not in files:
            return Problem("missing-shard", f"shard {number} of {count} is missing")
    for number, file in sorted(files.items()):
        if problem := file.gguf.problem:
            text = f"shard {number}: {problem.text}" if count > 1 else problem.text
            return Problem(problem.reason, text)
    first = shards.first.gguf
    if (first.split_count or 1) != count:
        said = f"is one of {first.split_count or 1} shards, by its header, not of {count}"
        return Problem("missing-shard", said)
    held = sum(file.gguf.tensor_count for file in files.values())
    if not held:
        return Problem("no-weights", "holds no weights")
    if first.split_tensors is not None and held != first.split_tensors:
        return Problem("corrupt", f"holds {held} of {first.split_tensors} tensors")
    if first.projector:
        return Problem("not-a-model", "is not a model but a projector")
    for file in files.values():
        if mark := file.gguf.ollama_format:
            return Problem("incompatible: ollama-format", _INCOMPATIBLE.format(mark))
    if first.architecture and not architectures.known(first.architecture):
        text = f"is of the architecture {first.architecture!r}, which this llama.cpp does not know"
        return Problem("unsupported-arch", text)
    return None


_INCOMPATIBLE: Final = (
    "was converted by Ollama for itself, and llama.cpp cannot load it ({}). A conversion by "
    "llama.cpp can be used instead, for example one from hf.co/ggml-org"
)


def quantized(stem: str) -> tuple[str, str] | None:
    """`name-Q4_K_M` as name and quantization, None where the file name ends in none."""
    match = _QUANTIZED.fullmatch(stem)
    return (match["base"], match["quantization"]) if match else None


def fit(part: str) -> str:
    """A file name as part of a model name: it goes into URLs, labels and log lines."""
    return _UNFIT_FOR_A_NAME.sub("-", part)[:200]
