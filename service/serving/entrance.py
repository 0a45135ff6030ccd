"""A request's way to a loaded model: by its name, through the queue, until it is loaded."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.catalog.card import ModelCard
from service.errors import Cancelled, ModelUnusable
from service.facts import ModelFacts
from service.fleet import endings
from service.fleet.adapting import by_default, selected
from service.fleet.host import EngineHost
from service.fleet.residency import AS_IT_IS, Residency
from service.fleet.stream import EngineStream
from service.generation import (
    AdapterChoice,
    EmbeddingRequest,
    GenerationRequest,
    LoadWishes,
    Selection,
)
from service.serving.progress import Entry
from service.settings import Settings

# The model that a client's word means, and the adapter where it is one's name.
Find = Callable[[str], tuple[ModelCard, AdapterChoice | None]]


@dataclass(frozen=True, slots=True)
class Entered:
    """`adapter`: the one whose name was asked for as a model's."""

    card: ModelCard
    facts: ModelFacts
    host: EngineHost
    stream: EngineStream
    adapter: AdapterChoice | None

    def selection(self, choices: tuple[AdapterChoice, ...] | None = None) -> Selection:
        """Of the adapters: what the request chose, else the one of that name, else the model's
        own. Raises InvalidRequest."""
        adapters = self.host.params.adapters
        if choices is None and self.adapter is not None:
            choices = (self.adapter,)
        return by_default(adapters) if choices is None else selected(adapters, choices)


class Entrance:
    """Shut while `draining`. `settings`: those in force."""

    def __init__(
        self,
        residency: Residency,
        find: Find,
        settings: Callable[[], Settings],
        draining: Callable[[], bool],
    ) -> None:
        self._residency = residency
        self._find = find
        self._settings = settings
        self._draining = draining

    @asynccontextmanager
    async def enter(
        self, request: GenerationRequest | EmbeddingRequest, n: int, entry: Entry
    ) -> AsyncIterator[Entered]:
        """A place in the queue of a loaded model, given back where what follows raises. The
        numbers are those of `Runtime.admit`."""
        if self._draining():  # (1)
            raise endings.draining().error
        if entry.called_off:
            # While it was made shorter: it comes here for the second time.
            raise Cancelled
        card, adapter = self._find(request.model)  # (2)
        if card.problem is not None:
            raise ModelUnusable(card.name, card.problem)
        host = self._residency.host(card, request.load)
        if request.keep_alive is not None:
            self._residency.keep(card, request.keep_alive)
        longest = self._settings().request_timeout
        timeout = min(request.timeout or longest, longest)
        deadline = request.arrived + timeout
        stream = host.enter(
            n, arrived=request.arrived, deadline=deadline, api=request.dialect
        )  # (3)
        entry.model, entry.host, entry.stream = card.name, host, stream
        try:
            facts = await host.loaded(stream)  # (4)
            yield Entered(card, facts, host, stream, adapter)
        except BaseException:
            host.cancel(stream)
            raise

    @asynccontextmanager
    async def ask(self, model: str, wishes: LoadWishes = AS_IT_IS) -> AsyncIterator[Entered]:
        """A place for a question, which is no request and in no list of them."""
        question = EmbeddingRequest("", model, (), time.monotonic(), "", "", load=wishes)
        async with self.enter(question, 1, Entry("", model, "", "", None)) as entered:
            try:
                yield entered
            finally:
                entered.host.cancel(entered.stream)
