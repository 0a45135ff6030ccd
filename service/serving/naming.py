"""Which model a client's word means."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog
from service.errors import ModelNotFound, ServiceError
from service.generation import AdapterChoice

logger = logging.getLogger(__name__)


class Names:
    """Those of the catalogue, and those of adapters, of which `owner` finds the model."""

    def __init__(self, catalog: Catalog, owner: Callable[[str], ModelCard | None]) -> None:
        self._catalog = catalog
        self._owner = owner

    def find(
        self, name: str | None, *, default: str | None, loaded: Sequence[str]
    ) -> tuple[ModelCard, AdapterChoice | None]:
        """And the adapter, where it is one's name. Its file may lie among the models, and is then
        listed under that name as one that cannot be used. Raises ModelNotFound."""
        try:
            card = self._catalog.resolve(name, default=default, loaded=loaded)
        except ModelNotFound:
            if name is None or (owner := self._owner(name)) is None:
                raise
            return owner, AdapterChoice(name)
        if card.problem is not None and name and (owner := self._owner(name)) is not None:
            return owner, AdapterChoice(name)
        return card, None

    def pinned(self, names: Iterable[str]) -> Iterator[ModelCard]:
        """Those that there are; of others the log is told."""
        for name in names:
            try:
                yield self._catalog.resolve(name)
            except ServiceError as error:
                logger.warning("%s cannot be pinned: %s", name, error.message)
