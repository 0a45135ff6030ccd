"""Loose `*.gguf` files under a directory the operator named, as model cards.

A file that cannot be used is a card that says why: one bad file hides no good one. Split models
(`name-00001-of-00003.gguf`) are one card; multimodal projectors (`mmproj*`) are part of another.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from service.catalog.architectures import Architectures
from service.catalog.card import ModelCard, Source
from service.catalog.index import File, Index
from service.catalog.projectors import projector_for
from service.catalog.shards import Shards, card_of, fit, grouped, quantized

# Deeper than any layout in use (publisher/repository/file), and an end to odd mounts.
MAX_DEPTH: Final = 6


class Directory:
    """`allowed`: where links may lead beside the directory itself."""

    def __init__(
        self,
        root: Path,
        source: Source = "directory",
        index: Index | None = None,
        architectures: Architectures | None = None,
        allowed: Sequence[str] = (),
    ) -> None:
        self.root = root.absolute()
        self.source: Source = source
        self._index = index or Index()
        self._architectures = architectures or Architectures()
        self._allowed = (os.path.realpath(self.root), *allowed)

    def scan(self) -> list[ModelCard]:
        """Nearest the root first, then by path: of two files with one name the first has it."""
        files = [
            file
            for path in gguf_paths(self.root, MAX_DEPTH)
            if (file := self._index.look(path, self._allowed)) is not None
        ]
        models = grouped(files)
        beside = beside_each_other(files, models)
        cards = [self._card(shards, *beside[shards.folder]) for shards in models]
        return sorted(cards, key=lambda card: (card.path.count(os.sep), card.path))

    def _card(self, shards: Shards, projectors: list[File], stems: list[str]) -> ModelCard:
        name = fit(shards.stem)
        inside = "/".join(fit(part) for part in shards.folder.relative_to(self.root).parts)
        aliases = [f"{inside}/{name}:latest"] if inside else []
        if parts := quantized(name):
            aliases.append(":".join(parts))
        return card_of(
            shards,
            f"{name}:latest",
            self.source,
            self._architectures,
            aliases=tuple(aliases),
            **sight(projector_for(shards.stem, projectors, stems)),
        )


def gguf_paths(root: Path, max_depth: int) -> Iterator[Path]:
    """Files by their name, in order; hidden ones are left out, and links to folders not followed."""
    for folder, folders, files in os.walk(root):
        depth = len(Path(folder).relative_to(root).parts)
        shown = sorted(name for name in folders if not name.startswith("."))
        folders[:] = shown if depth < max_depth else []
        for name in sorted(files):
            if name.lower().endswith(".gguf") and not name.startswith("."):
                yield Path(folder, name)


def beside_each_other(
    files: list[File], models: list[Shards]
) -> dict[Path, tuple[list[File], list[str]]]:
    """Of each folder its projectors, and the stems of its models."""
    found: defaultdict[Path, tuple[list[File], list[str]]] = defaultdict(lambda: ([], []))
    for file in files:
        if file.gguf.projector and file.gguf.problem is None:
            found[file.path.parent][0].append(file)
    for shards in models:
        found[shards.folder][1].append(shards.stem)
    return found


def sight(projector: File | None) -> dict[str, object]:
    """What a projector adds to a card."""
    if projector is None:
        return {}
    gguf = projector.gguf
    return {"projector": str(projector.path), "sees": gguf.sees, "hears": gguf.hears}
