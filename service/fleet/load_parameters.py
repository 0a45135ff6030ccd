"""What each model is loaded with: what the settings say, and other adapters where they were changed
since."""

from __future__ import annotations

import os

from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.facts import Adapter
from service.fleet.adapting import configured
from service.fleet.parameters import engine_params
from service.settings import Settings


class LoadParameters:
    """Under the settings in force where no others are given."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # Where they are others than the operator wrote down.
        self._adapters: dict[str, tuple[Adapter, ...]] = {}

    def key(self, card: ModelCard, settings: Settings | None = None) -> str:
        """Of what is loaded: a file with other adapters is another model."""
        adapters = configured(card, settings or self.settings)
        # Asked of every model for every request, and links are followed with a dozen system calls.
        real = card.real or os.path.realpath(card.path)
        return "\n".join((real, *map(repr, adapters)))

    def of(self, card: ModelCard, settings: Settings | None = None) -> EngineParams:
        settings = settings or self.settings
        adapters = configured(card, settings)
        if self.key(card, settings) == self.key(card):
            adapters = self.adapters(card)
        return replace(engine_params(card, settings), adapters=adapters)

    def adapters(self, card: ModelCard) -> tuple[Adapter, ...]:
        known = self._adapters.get(self.key(card))
        return configured(card, self.settings) if known is None else known

    def keep(self, card: ModelCard, adapters: tuple[Adapter, ...]) -> None:
        """In later loads."""
        self._adapters[self.key(card)] = adapters
