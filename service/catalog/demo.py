"""The model that ships with the service, so that a fresh machine has something to answer with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from service.catalog.card import ModelCard
from service.catalog.directory import Directory
from service.catalog.index import Index

PATH: Final = Path(__file__).with_name("demo.gguf")


class Demo:
    """The bundled file, scanned like any other; no cards where the package lacks it."""

    def __init__(self, path: Path = PATH, index: Index | None = None) -> None:
        self._path = path
        self._directory = Directory(path.parent, "demo", index)

    def scan(self) -> list[ModelCard]:
        return [
            msgspec.structs.replace(card, name="demo:latest", aliases=())
            for card in self._directory.scan()
            if card.path == str(self._path)
        ]
