"""Engines as the fleet has them: vetted, placed where there is room, and taking turns."""

from __future__ import annotations

import asyncio
from functools import partial

from service.catalog.card import ModelCard
from service.engine.wire import EngineParams
from service.facts import Adapter, ModelFacts
from service.fleet.eviction import placed_evicting
from service.fleet.host import EngineHost
from service.fleet.limits import Limits
from service.fleet.load_queue import LoadQueue
from service.fleet.placer import Attempt, PlaceModel
from service.fleet.residents import Residents
from service.fleet.shared_processors import SharedProcessors
from service.fleet.vetting import Unloadable, Vet, unfit
from service.stats import Observer


class EngineFactory:
    """`limits` are those of the next one that is made."""

    def __init__(
        self,
        residents: Residents,
        load_queue: LoadQueue,
        observer: Observer,
        *,
        command: tuple[str, ...],
        limits: Limits,
        vet: Vet | None,
        placer: PlaceModel,
    ) -> None:
        self.limits = limits
        self.placer = placer
        self._residents = residents
        self._load_queue = load_queue
        self._observer = observer
        self._command = command
        self._processors = SharedProcessors()
        self._vet = vet

    def make(
        self,
        key: str,
        card: ModelCard,
        params: EngineParams,
        fallback: EngineParams | None = None,
        placed: EngineParams | None = None,
    ) -> EngineHost:
        """It is nobody's until it is put among the residents, and loads when it is asked for.
        `placed`: where it goes at first."""
        first = [placed] if placed is not None else []

        async def place(wanted: EngineParams) -> EngineParams | Unloadable:
            return first.pop() if first else await self._place(key, host, card, wanted)

        host = EngineHost(
            card.name,
            params,
            self.limits,
            self._observer,
            command=self._command,
            vet=partial(self._vetted, card, params.adapters),
            fallback=fallback,
            place=place,
            learn=partial(self._learn, card),
            on_change=partial(self._load_queue.on_change, key),
            want=partial(self._load_queue.want_host, key),
            processors=self._processors,
        )
        return host

    async def attempt(self, card: ModelCard, params: EngineParams) -> Attempt:
        """Where it would go as things are, with the one that serves in its place."""
        return await self.placer(card, params)

    async def _vetted(self, card: ModelCard, adapters: tuple[Adapter, ...]) -> Unloadable | None:
        found = await self._vet(card) if self._vet is not None else None
        return found or await unfit(card, adapters)

    async def _place(
        self, key: str, host: EngineHost, card: ModelCard, params: EngineParams
    ) -> EngineParams | Unloadable:
        attempt = partial(self.attempt, card, params)
        return await placed_evicting(key, host, attempt, self._residents)

    def _learn(self, card: ModelCard, params: EngineParams, facts: ModelFacts) -> None:
        if facts.gpu_layers:
            learn = partial(self.placer.learn, card, params, facts)
            asyncio.get_running_loop().run_in_executor(None, learn)
