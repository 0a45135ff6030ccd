"""GGUF models in HuggingFace's cache, where llama.cpp's `-hf` also leaves what it downloads.

    models--ORG--NAME/refs/main                    the revision
    models--ORG--NAME/snapshots/<revision>/…/*.gguf → ../../blobs/<digest>

A file is `hf.co/ORG/NAME:QUANTIZATION`, as Ollama names what it gets from there. A link must lead
to somewhere inside the cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from service.catalog.architectures import Architectures
from service.catalog.card import ModelCard
from service.catalog.confined import beginning, within
from service.catalog.directory import beside_each_other, gguf_paths, sight
from service.catalog.index import File, Index
from service.catalog.projectors import projector_for
from service.catalog.shards import Shards, card_of, fit, grouped, quantized

_REPOSITORY: Final = re.compile(r"models--(?P<path>[A-Za-z0-9_.-]+)")
_REVISION: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
# Below a snapshot: repositories keep large quantizations in folders.
MAX_DEPTH: Final = 3


class HubCache:
    """`allowed`: where links may lead beside the cache itself."""

    def __init__(
        self,
        root: Path,
        index: Index | None = None,
        architectures: Architectures | None = None,
        allowed: Sequence[str] = (),
    ) -> None:
        self.root = root.absolute()
        self._index = index or Index()
        self._architectures = architectures or Architectures()
        self._allowed = (os.path.realpath(self.root), *allowed)

    def scan(self) -> list[ModelCard]:
        return [card for home in self._repositories() for card in self._cards(home)]

    def _repositories(self) -> Iterator[Path]:
        try:
            names = sorted(os.listdir(self.root))
        except OSError:
            return
        for name in names:
            home = self.root / name
            if _REPOSITORY.fullmatch(name) and within(os.path.realpath(home), self._allowed):
                yield home

    def _cards(self, home: Path) -> list[ModelCard]:
        snapshot = self._snapshot(home)
        if snapshot is None:
            return []
        files = [
            file
            for path in gguf_paths(snapshot, MAX_DEPTH)
            if (file := self._index.look(path, self._allowed)) is not None
        ]
        models = grouped(files)
        beside = beside_each_other(files, models)
        # Projectors lie at the top, also of models that lie in folders.
        at_top = beside[snapshot][0]
        stems = [stem for _, stems in beside.values() for stem in stems]
        repository = "/".join(fit(part) for part in home.name.split("--")[1:])
        taken: set[str] = set()
        cards = []
        for shards in models:
            projectors = beside[shards.folder][0] or at_top
            projector = projector_for(shards.stem, projectors, stems)
            card = self._card(shards, repository, projector)
            if card.name.lower() in taken:
                card = self._card(shards, repository, projector, tag=fit(shards.stem))
            taken.add(card.name.lower())
            cards.append(card)
        return cards

    def _card(
        self, shards: Shards, repository: str, projector: File | None, tag: str | None = None
    ) -> ModelCard:
        parts = quantized(shards.stem)
        tag = tag or (parts[1] if parts else shards.first.gguf.quantization) or fit(shards.stem)
        return card_of(
            shards,
            f"hf.co/{repository}:{tag}",
            "hub",
            self._architectures,
            aliases=(f"{repository}:{tag}", f"{fit(shards.stem)}:latest"),
            **sight(projector),
        )

    def _snapshot(self, home: Path) -> Path | None:
        """What `main` was when somebody last asked; where nobody did, the newest there is."""
        snapshots, main = home / "snapshots", home / "refs/main"
        if self._inside(main):
            try:
                revision = beginning(str(main), 200).decode("ascii", "replace").strip()
            except OSError:
                revision = ""
            named = snapshots / revision
            if _REVISION.fullmatch(revision) and self._inside(named) and named.is_dir():
                return named
        try:
            found = [Path(entry) for entry in os.scandir(snapshots) if entry.is_dir()]
            inside = [path for path in found if self._inside(path)]
            return max(inside, key=lambda path: path.stat().st_mtime, default=None)
        except OSError:
            return None

    def _inside(self, path: Path) -> bool:
        return within(os.path.realpath(path), self._allowed)
