"""Which models exist, and which of them a name means."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from service.catalog.card import ModelCard
from service.catalog.demo import Demo
from service.catalog.directory import Directory
from service.errors import InvalidRequest, ModelNotFound

logger = logging.getLogger(__name__)

# What clients send when they have no model to name: TGI's and HuggingFace's own words among them.
PLACEHOLDERS: Final = frozenset({"", "tgi", "dummy", "default"})
_HOME_REGISTRY: Final = ("registry.ollama.ai/library/", "registry.ollama.ai/", "library/")


class Shelf(Protocol):
    """A place where models lie. `scan` may block, and reports bad files as cards."""

    def scan(self) -> list[ModelCard]: ...


@dataclass(frozen=True)
class _Snapshot:
    cards: tuple[ModelCard, ...] = ()
    names: Mapping[str, ModelCard] = field(default_factory=dict)
    paths: Mapping[str, ModelCard] = field(default_factory=dict)


class Catalog:
    """Everything but `refresh` reads one snapshot, which a refresh replaces whole."""

    def __init__(self, roots: Iterable[Path] = (), demo: Shelf | None = None) -> None:
        self._shelves: list[Shelf] = [Directory(Path(root)) for root in roots]
        # Last: a model of the operator's that is called "demo" goes before ours.
        self._shelves.append(demo or Demo())
        self._snapshot = _Snapshot()

    def refresh(self) -> None:
        """Looks at the disk, so it belongs on a worker thread; one at a time."""
        self._snapshot = _index(card for shelf in self._shelves for card in shelf.scan())

    def cards(self) -> tuple[ModelCard, ...]:
        return self._snapshot.cards

    def resolve(
        self, name: str | None, *, default: str | None = None, loaded: Sequence[str] = ()
    ) -> ModelCard:
        """The card that a client's word means: a name, alias, file stem or path of a known file.

        A placeholder means, in this order: (1) the configured default, (2) the only loaded model,
        (3) the only installed one, (4) the demo model where there is no other.
        """
        if name is not None and (name := name.strip()).lower() not in PLACEHOLDERS:
            return self._find(name)
        if default:  # (1)
            return self._find(default)
        if len(loaded) == 1:  # (2)
            return self._find(loaded[0])
        usable = [card for card in self.cards() if card.problem is None]
        installed = [card for card in usable if card.source != "demo"]
        if len(installed) == 1:  # (3)
            return installed[0]
        if not installed and usable:  # (4)
            return usable[0]
        if not installed:
            raise ModelNotFound(name or "default")
        raise InvalidRequest(
            f"No model is named, and {len(installed)} are installed. Please name one.",
            param="model",
        )

    def _find(self, name: str) -> ModelCard:
        snapshot = self._snapshot
        card = snapshot.names.get(normal(name))
        if card is None and os.sep in name:
            # Compared as text with what the scan found: a client's path opens nothing.
            card = snapshot.paths.get(os.path.normpath(name))
        if card is None:
            raise ModelNotFound(name)
        return card


def normal(name: str) -> str:
    """Names that mean the same, as one: in lower case, with a tag, without the home registry."""
    name = name.strip().lower()
    for prefix in _HOME_REGISTRY:
        name = name.removeprefix(prefix)
    name = name.removesuffix(".gguf")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _index(cards: Iterable[ModelCard]) -> _Snapshot:
    """Canonical names first, so that no alias takes a name that is a model's own."""
    kept: list[ModelCard] = []
    names: dict[str, ModelCard] = {}
    for card in cards:
        name = next((n for n in (card.name, *card.aliases) if normal(n) not in names), None)
        if name is None:
            logger.warning("%s is left out: its name %s is taken", card.path, card.name)
            continue
        if name != card.name:
            card = msgspec.structs.replace(card, name=name)
        names[normal(name)] = card
        kept.append(card)
    for card in kept:
        for alias in card.aliases:
            names.setdefault(normal(alias), card)
    return _Snapshot(tuple(kept), names, {card.path: card for card in kept})
