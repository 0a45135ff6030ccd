"""Which models exist, and which of them a name means."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from service.catalog.architectures import Architectures
from service.catalog.card import ModelCard, Problem
from service.catalog.demo import Demo
from service.catalog.directory import Directory
from service.catalog.hub_cache import HubCache
from service.catalog.index import Index, Opened
from service.catalog.ollama_store import OllamaStore
from service.catalog.roots import Kind, Root, obstacle, recognised
from service.catalog.verify import verify
from service.errors import InvalidRequest, ModelNotFound

logger = logging.getLogger(__name__)

# What clients send when they have no model to name: TGI's and HuggingFace's own words among them.
PLACEHOLDERS: Final = frozenset({"", "tgi", "dummy", "default"})
_HOME_REGISTRY: Final = ("registry.ollama.ai/library/", "registry.ollama.ai/", "library/")

KINDS: Final[dict[Kind, str]] = {
    "directory": "a directory",
    "ollama": "an Ollama store",
    "hub": "a HuggingFace cache",
}


class Shelf(Protocol):
    """A place where models lie. `scan` may block, and reports bad files as cards."""

    def scan(self) -> list[ModelCard]: ...


SHELVES: Final[Mapping[Kind, Callable[..., Shelf]]] = {
    "directory": Directory,
    "ollama": OllamaStore,
    "hub": HubCache,
}


class RootState(Struct, frozen=True):
    """What a scan found in a root. `problem`: why it found nothing, where it could not look."""

    path: Path
    kind: Kind
    named: bool
    models: int
    unusable: int
    problem: str | None


@dataclass(frozen=True)
class _Snapshot:
    cards: tuple[ModelCard, ...] = ()
    names: Mapping[str, ModelCard] = field(default_factory=dict)
    paths: Mapping[str, ModelCard] = field(default_factory=dict)
    roots: tuple[RootState, ...] = ()


class Catalog:
    """Everything but `refresh` reads one snapshot, which a refresh replaces whole.

    A root that is only a path is one that the operator named. With an `index` that is kept on
    disk, files that did not change since the last start are not read again.
    """

    def __init__(
        self,
        roots: Iterable[Root | Path] = (),
        demo: Shelf | None = None,
        index: Index | None = None,
        architectures: Architectures | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._aliases = aliases or {}
        self._index = index or Index()
        self._architectures = architectures or Architectures()
        self._roots = [root if isinstance(root, Root) else Root(root.absolute()) for root in roots]
        self._shelves: dict[tuple[Path, Kind], Shelf] = {}
        self._demo = demo or Demo(index=self._index)
        self._snapshot = _Snapshot()
        self._refreshing = Lock()
        self._told: set[str] = set()

    def rename(self, aliases: Mapping[str, str]) -> None:
        """With other aliases than before; looks at the disk."""
        self._aliases = aliases
        self.refresh()

    def refresh(self) -> None:
        """Looks at the disk, so it belongs on a worker thread; one at a time."""
        with self._refreshing:
            found = [self._scan(root) for root in self._roots]
            # Last: a model of the operator's that is called "demo" goes before ours.
            cards = [card for _, cards in found for card in cards] + self._demo.scan()
            self._index.forget_unused()
            self._index.save()
            snapshot, left_out = _index(cards, self._aliases)
            self._snapshot = replace(snapshot, roots=tuple(state for state, _ in found))
            for state, _ in found:
                self._tell(state)
            for card in left_out:
                self._tell_once(f"{card.path} is left out: its name {card.name} is taken")
            for alias, model in self._aliases.items():
                if normal(model) not in snapshot.names:
                    self._tell_once(f"the alias {alias} means {model}, which there is not")

    def verify(
        self, card: ModelCard, stopped: Callable[[], bool] = lambda: False
    ) -> Problem | None:
        """Whether its files are what their SHA-256 says; blocks for half a second a gigabyte the
        first time. A card that fails is marked corrupt until its file changes."""
        problem = verify(card, self._index, stopped)
        if problem is not None:
            self.refresh()
        return problem

    def opened(self, card: ModelCard, by: str) -> Opened | None:
        """What `by` said of the model's files when it opened them; None where it never did."""
        entry = self._index.entry(os.path.realpath(card.path))
        return entry.opened if entry and entry.opened and entry.opened.by == by else None

    def remember(self, card: ModelCard, opened: Opened) -> None:
        real = os.path.realpath(card.path)
        if (entry := self._index.entry(real)) is not None:
            self._index.remember(real, entry.identity, opened=opened)

    def roots(self) -> tuple[RootState, ...]:
        return self._snapshot.roots

    def _scan(self, root: Root) -> tuple[RootState, list[ModelCard]]:
        # What an operator named may become a store, or get a disk mounted on it, later.
        path, kind = recognised(root.path) if root.kind is None else (root.path, root.kind)
        if (path, kind) not in self._shelves:
            self._shelves[path, kind] = SHELVES[kind](
                path,
                index=self._index,
                architectures=self._architectures,
                allowed=[os.path.realpath(other.path) for other in self._roots],
            )
        problem = obstacle(path, needed=root.named)
        cards = [] if problem else self._shelves[path, kind].scan()
        unusable = sum(card.problem is not None for card in cards)
        return RootState(path, kind, root.named, len(cards) - unusable, unusable, problem), cards

    def _tell(self, state: RootState) -> None:
        place = f"{state.path} ({KINDS[state.kind]})"
        if state.problem:
            self._tell_once(f"no models from {place}: {state.problem}")
        elif state.models or state.unusable:
            unusable = f", and {state.unusable} that cannot be used" if state.unusable else ""
            self._tell_once(f"{state.models} models in {place}{unusable}", logging.INFO)

    def _tell_once(self, message: str, level: int = logging.WARNING) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.log(level, "%s", message)

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


def _index(
    cards: Iterable[ModelCard], aliases: Mapping[str, str]
) -> tuple[_Snapshot, list[ModelCard]]:
    """And the cards that no name was left for. Canonical names first, so that no alias takes a
    name that is a model's own; those that can be used before those that cannot. The operator's
    `aliases` come last, and mean models, not one another."""
    kept: list[ModelCard] = []
    left_out: list[ModelCard] = []
    names: dict[str, ModelCard] = {}
    for card in sorted(cards, key=lambda card: card.problem is not None):
        name = next((n for n in (card.name, *card.aliases) if normal(n) not in names), None)
        if name is None:
            left_out.append(card)
            continue
        if name != card.name:
            card = msgspec.structs.replace(card, name=name)
        names[normal(name)] = card
        kept.append(card)
    for card in kept:
        for alias in card.aliases:
            names.setdefault(normal(alias), card)
    further: dict[str, list[str]] = {}
    for alias, model in aliases.items():
        if normal(alias) not in names and (meant := names.get(normal(model))) is not None:
            further.setdefault(meant.name, []).append(alias)
    # A card says all names that mean it.
    for index, card in enumerate(kept):
        if more := further.get(card.name):
            kept[index] = told = msgspec.structs.replace(card, aliases=(*card.aliases, *more))
            names = {name: told if known is card else known for name, known in names.items()}
            names |= {normal(alias): told for alias in more}
    return _Snapshot(tuple(kept), names, {card.path: card for card in kept}), left_out
