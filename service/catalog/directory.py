"""Loose `*.gguf` files under a directory the operator named, as model cards.

A file that cannot be used is a card that says why: one bad file hides no good one. Split models
(`name-00001-of-00003.gguf`) are one card; multimodal projectors (`mmproj*`) are none.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.catalog.card import ModelCard, Source
from service.catalog.gguf import GgufError, Header, read_header
from service.facts import POOLINGS, Pooling

_SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})", re.IGNORECASE)
_QUANTIZED: Final = re.compile(
    r"(?P<base>.+)[-._](?P<quantization>(?:UD-)?(?:I?Q\d|TQ\d|F16|F32|BF16|MXFP4|NVFP4)\w*)",
    re.IGNORECASE,
)
_UNFIT_FOR_A_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]+")
# Deeper than any layout in use (publisher/repository/file), and an end to odd mounts.
MAX_DEPTH: Final = 6

# Device, inode, size and time of change: while they stay, so does the header.
_Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _File:
    """One GGUF file and what of its header a card needs, so that the header itself can go."""

    path: Path
    size: int
    modified: float
    problem: str | None = None
    architecture: str | None = None
    quantization: str | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    block_count: int | None = None
    parameter_count: int = 0
    tensor_count: int = 0
    split_count: int | None = None
    projector: bool = False
    chat_template: str | None = None
    pooling: Pooling | None = None
    can_generate: bool = True


class Directory:
    """`scan` reads each file's header once, and again when the file has changed."""

    def __init__(self, root: Path, source: Source = "directory") -> None:
        self.root = root.absolute()
        self.source: Source = source
        self._seen: dict[_Identity, _File] = {}

    def scan(self) -> list[ModelCard]:
        """Nearest the root first, then by path: of two files with one name the first has it."""
        models: defaultdict[tuple[Path, str], dict[int, _File]] = defaultdict(dict)
        shards_of: dict[tuple[Path, str], int] = {}
        seen: dict[_Identity, _File] = {}
        for path in self._paths():
            file = self._file(path, seen)
            if file is None or file.projector:
                continue
            shard = _SHARD.fullmatch(path.stem)
            key = (path.parent, shard["stem"] if shard else path.stem)
            models[key][int(shard["number"]) if shard else 1] = file
            shards_of[key] = int(shard["count"]) if shard else 1
        self._seen = seen
        cards = [
            self._card(folder, stem, files, shards_of[folder, stem])
            for (folder, stem), files in models.items()
        ]
        return sorted(cards, key=lambda card: (card.path.count(os.sep), card.path))

    def _paths(self) -> Iterator[Path]:
        for folder, folders, files in os.walk(self.root):
            depth = len(Path(folder).relative_to(self.root).parts)
            shown = sorted(name for name in folders if not name.startswith("."))
            folders[:] = shown if depth < MAX_DEPTH else []
            for name in sorted(files):
                lower = name.lower()
                if lower.endswith(".gguf") and not lower.startswith((".", "mmproj")):
                    yield Path(folder, name)

    def _file(self, path: Path, seen: dict[_Identity, _File]) -> _File | None:
        try:
            stat = path.stat()
        except OSError:
            # Gone since the folder was listed, or a link that leads nowhere.
            return None
        identity = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        file = self._seen.get(identity)
        if file is None or file.path != path:
            file = _read(path, stat.st_size, stat.st_mtime)
        # A file that could not be opened is tried again: permissions leave no mark on it.
        if file.problem is None or not file.problem.startswith("cannot be read"):
            seen[identity] = file
        return file

    def _card(self, folder: Path, stem: str, files: dict[int, _File], count: int) -> ModelCard:
        first = files[min(files)]
        name = _fit(stem)
        inside = "/".join(_fit(part) for part in folder.relative_to(self.root).parts)
        aliases = [f"{inside}/{name}:latest"] if inside else []
        if quantized := _QUANTIZED.fullmatch(name):
            aliases.append(f"{quantized['base']}:{quantized['quantization']}")
        return ModelCard(
            name=f"{name}:latest",
            path=str(first.path),
            size_bytes=sum(file.size for file in files.values()),
            modified=max(file.modified for file in files.values()),
            source=self.source,
            architecture=first.architecture,
            parameter_count=sum(file.parameter_count for file in files.values()) or None,
            quantization=first.quantization,
            context_length=first.context_length,
            embedding_length=first.embedding_length,
            block_count=first.block_count,
            chat_template=first.chat_template,
            pooling=first.pooling,
            can_generate=first.can_generate,
            aliases=tuple(aliases),
            problem=_problem(files, count),
        )


def _problem(files: dict[int, _File], count: int) -> str | None:
    for number in range(1, count + 1):
        if number not in files:
            return f"shard {number} of {count} is missing"
    for number, file in sorted(files.items()):
        if file.problem:
            return f"shard {number}: {file.problem}" if count > 1 else file.problem
    if (files[1].split_count or 1) != count:
        return f"is one of {files[1].split_count or 1} shards, by its header, not of {count}"
    if not any(file.tensor_count for file in files.values()):
        return "holds no weights"
    return None


def _read(path: Path, size: int, modified: float) -> _File:
    try:
        header = read_header(path)
    except GgufError as error:
        return _File(path, size, modified, problem=str(error))
    except OSError as error:
        return _File(path, size, modified, problem=f"cannot be read: {error.strerror}")
    return _File(
        path,
        size,
        modified,
        problem=_unusable(header),
        architecture=header.architecture,
        quantization=header.quantization,
        context_length=header.context_length,
        embedding_length=header.of_architecture("embedding_length"),
        block_count=header.of_architecture("block_count"),
        parameter_count=header.parameter_count,
        tensor_count=header.tensor_count,
        split_count=header.number("split.count") or None,
        projector=header.architecture == "clip",
        chat_template=header.text("tokenizer.chat_template"),
        pooling=_pooling(header),
        can_generate=header.metadata.get(f"{header.architecture}.attention.causal") is not False,
    )


def _pooling(header: Header) -> Pooling | None:
    number = header.of_architecture("pooling_type")
    return POOLINGS[number] if number is not None and 0 < number < len(POOLINGS) else None


def _unusable(header: Header) -> str | None:
    if header.missing_bytes:
        return f"the file ends {header.missing_bytes} bytes before its last tensor does"
    if header.text("general.type") in ("adapter", "imatrix"):
        return f"is not a model but an {header.text('general.type')}"
    return None


def _fit(part: str) -> str:
    """A file name as part of a model name: it goes into URLs, labels and log lines."""
    return _UNFIT_FOR_A_NAME.sub("-", part)[:200]
