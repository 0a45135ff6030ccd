"""Adapters that come and go while the service runs.

llama.cpp takes adapters when a model is loaded, so a change of the list loads it anew: what runs
finishes first, what comes waits. Other scales need no load. Either holds until the service ends.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from service.catalog.adapters import misfit
from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog
from service.catalog.confined import within
from service.errors import AdapterNotFound, InvalidRequest, ModelNotFound
from service.facts import Adapter
from service.fleet.residency import Residency

Resolve = Callable[[str | None], ModelCard]
# Comes back when the model is loaded; raises why it cannot be.
Load = Callable[[str], Awaitable[object]]


class Adaptation:
    def __init__(
        self, catalog: Catalog, residency: Residency, resolve: Resolve, load: Load
    ) -> None:
        self._catalog = catalog
        self._residency = residency
        self._resolve = resolve
        self._load = load
        # One change at a time: each begins with the list that the last one left.
        self._changing = asyncio.Lock()

    def of(self, card: ModelCard) -> tuple[Adapter, ...]:
        """Those that the model is, or will be, loaded with."""
        return self._residency.adapters(card)

    def owner(self, name: str) -> ModelCard | None:
        """The first model that has an adapter of that name."""
        usable = (card for card in self._catalog.cards() if card.problem is None)
        own = (card for card in usable if any(name == each.name for each in self.of(card)))
        return next(own, None) if name else None

    async def add(
        self, name: str, path: str, model: str | None = None, *, anew: bool = False
    ) -> None:
        """For requests that ask for it by name; comes back when it is there. `anew`: in place of
        one of that name. Raises InvalidRequest where it cannot be applied."""
        async with self._changing:
            card = self._resolve(model)
            self._check_name(name, card, anew=anew)
            file = self._inside(path)
            files = card.weights
            if why := await asyncio.to_thread(misfit, file, files):
                text = f"`{name}` cannot be applied to `{card.name}`: {why}."
                raise InvalidRequest(text, param="lora_path")
            adapter = Adapter(str(file), name, scale=0.0)
            adapters = self.of(card)
            names = [each.name for each in adapters]
            at = names.index(name) if name in names else len(names)
            await self._change(card, (*adapters[:at], adapter, *adapters[at + 1 :]))

    async def remove(self, name: str) -> None:
        """Comes back when it is gone. Raises AdapterNotFound."""
        async with self._changing:
            card = self.owner(name)
            if card is None:
                raise AdapterNotFound(name)
            await self._change(card, tuple(each for each in self.of(card) if each.name != name))

    def rescale(self, card: ModelCard, scales: Mapping[int, float]) -> None:
        """Of requests that choose none, from the next one on; 0 for all that are not named."""
        adapters = self.of(card)
        if unknown := scales.keys() - range(len(adapters)):
            raise InvalidRequest(f"The model has no adapter {min(unknown)}.", param="id")
        rescaled = (replace(each, scale=scales.get(n, 0.0)) for n, each in enumerate(adapters))
        self._residency.keep_adapters(card, tuple(rescaled))

    async def _change(self, card: ModelCard, adapters: tuple[Adapter, ...]) -> None:
        if self._residency.find(card) is not None:
            # A load that is under way, or waits for room, is others' too.
            await self._load(card.name)
        self._residency.adapt(card, adapters)
        await self._load(card.name)
        self._residency.keep_adapters(card, self.of(card))
        if [each.path for each in self.of(card)] != [each.path for each in adapters]:
            raise InvalidRequest(
                f"The model `{card.name}` could not be loaded so, and serves as before.",
                param="lora_path",
            )

    def _check_name(self, name: str, card: ModelCard, *, anew: bool) -> None:
        owner = self.owner(name)
        if owner is not None and not (anew and owner.path == card.path):
            raise InvalidRequest(
                f"The lora adapter '{name}' has already been loaded.", param="lora_name"
            )
        try:
            taken = self._catalog.resolve(name).problem is None
        except ModelNotFound:
            taken = False
        if taken:
            raise InvalidRequest(f"'{name}' is the name of a model.", param="lora_name")

    def _inside(self, path: str) -> Path:
        """Says the same of what is not there and of what is nobody's business."""
        folders = [os.path.realpath(root.path) for root in self._catalog.roots()]
        for candidate in (os.path.join(folder, path) for folder in folders):
            real = os.path.realpath(candidate)
            if within(real, folders) and os.path.isfile(real):
                return Path(real)
        raise InvalidRequest(
            "No adapter lies there, in the directories that are served.", param="lora_path"
        )
