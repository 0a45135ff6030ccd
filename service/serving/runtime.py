"""Where the catalogue, the engines and the text meet: a request in, its events out.

`Runtime.admit` is the last place where a failure can still be a status line; what fails later is
a `Finished` with a code. An admitted request is a `Generation`, to be held in
`contextlib.aclosing`: leaving it cancels what still runs, whatever stage it is in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog, RootState
from service.errors import (
    Cancelled,
    ContextOverflow,
    ModelUnavailable,
    ServiceError,
)
from service.fleet import endings
from service.fleet.calibration import Learnt
from service.fleet.child import ENGINE
from service.fleet.generating import Generation
from service.fleet.host import EngineHost
from service.fleet.limits import Limits
from service.fleet.questions import Embeddings, Tokenized, detokenize, embed, tokenize
from service.fleet.residency import AS_IT_IS, Residency
from service.fleet.succession import Succession
from service.fleet.unharmed import Unharmed
from service.fleet.vetting import Vet
from service.generation import (
    AdapterChoice,
    Chat,
    EmbeddingRequest,
    GenerationRequest,
    Infill,
    LoadWishes,
    Text,
)
from service.serving.adaptation import Adaptation
from service.serving.capabilities import capabilities
from service.serving.entrance import Entrance
from service.serving.model_status import ModelStatus, status_of
from service.serving.naming import Names
from service.serving.progress import Entry, Progress, RequestLog
from service.serving.prompts import Prompts
from service.serving.shortening import shortened
from service.settings import Settings
from service.stats import Observer

__all__ = ["Embeddings", "Generation", "ModelStatus", "Progress", "Runtime", "Tokenized"]

logger = logging.getLogger(__name__)

# What changes on disk is seen within five seconds, also where a scan takes its time.
RESCAN_SECONDS: Final = 2.0
DRAIN_POLL_SECONDS: Final = 0.02


class Runtime:
    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        observer: Observer,
        *,
        command: tuple[str, ...] = ENGINE,
        limits: Limits | None = None,
        vet: Vet | None = None,
    ) -> None:
        # About to stop: still serves, and says that it is not to be asked any more.
        self.leaving = False
        self.draining = False
        self._catalog = catalog
        self._settings = settings
        self._observer = Unharmed(observer)
        self._residency = Residency(
            settings, self._observer, command=command, limits=limits, vet=vet
        )
        self.adapters = Adaptation(catalog, self._residency, self.resolve, self.load)
        self._names = Names(catalog, self.adapters.owner)
        self._prompts = Prompts()
        self._entrance = Entrance(
            self._residency, self._called, lambda: self._settings, lambda: self.draining
        )
        self._rescans: asyncio.Task[None] | None = None
        self._first: EngineHost | None = None
        # What runs, and what ran not long ago.
        self._log = RequestLog()
        self._scanned = False

    # Life

    async def start(self) -> None:
        """Scans the disk, and begins to load the model that a request without one would get."""
        await asyncio.to_thread(self._catalog.refresh)
        self._scanned = True
        self._rescans = asyncio.create_task(self._rescan())
        self._residency.pin(self._names.pinned(self._settings.pinned_models))
        try:
            card = self.resolve(None)
        except ServiceError as error:
            logger.warning("no model is loaded yet: %s", error.message)
            return
        if card.problem is None:
            self._first = self._residency.load(card)

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109  what comes after is not cut off
        """Takes nothing new, lets what is here finish, and ends what has not by then."""
        self.draining = True
        until = time.monotonic() + timeout
        # Once in a process's life, so it may poll.
        while not self._residency.idle and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        self._residency.end_all(endings.draining())

    async def close(self) -> None:
        self.draining = True
        if self._rescans is not None:
            self._rescans.cancel()
            await asyncio.wait({self._rescans})
        await self._residency.close()

    # Settings that change

    def affected(self, settings: Settings) -> list[str]:
        """Models that would be loaded anew."""
        return sorted(card.name for card in self._residency.affected(settings).values())

    async def prepare(self, settings: Settings) -> Succession:
        """Loads anew what they need it for, and sends nobody there yet. Raises ChangeRefused, and
        then all is as before."""
        succession = self._residency.succession(settings)
        await succession.prepare()
        return succession

    async def adopt(self, settings: Settings, succession: Succession) -> None:
        """All but the names of models is in force at once."""
        aliases = self._settings.aliases
        self._settings = settings
        self._residency.adopt(settings, succession)
        if settings.aliases != aliases:
            await asyncio.to_thread(self._catalog.rename, settings.aliases)
        self._residency.pin(self._names.pinned(self._settings.pinned_models))

    # What there is

    @property
    def ready(self) -> bool:
        """Some model can answer, at once or after a load; not before the first load is over."""
        if self.leaving or self.draining:
            return False
        if self._first and self._first.supervisor.state == "loading":
            return False
        return any(
            card.problem is None and self._state(card) in ("ready", "unloaded")
            for card in self._catalog.cards()
        )

    def resolve(self, name: str | None) -> ModelCard:
        """The model that a client's word means, a missing one among them; or ModelNotFound."""
        return self._called(name)[0]

    def _called(self, name: str | None) -> tuple[ModelCard, AdapterChoice | None]:
        """And the adapter, where it is one's name."""
        if not self._scanned:
            raise ModelUnavailable("The models are still being looked for.", retry_after=1.0)
        loaded = [card.name for card in self._catalog.cards() if self._state(card) == "ready"]
        return self._names.find(name, default=self._settings.default_model, loaded=loaded)

    def models(self) -> list[ModelStatus]:
        return [self._status(card) for card in self._catalog.cards()]

    def status(self, name: str | None) -> ModelStatus:
        """Of the model that a client's word means. Raises as `resolve` does."""
        return self._status(self.resolve(name))

    @property
    def learnt(self) -> Learnt:
        """What loads took on GPUs, of what was predicted."""
        return self._residency.learnt

    def roots(self) -> tuple[RootState, ...]:
        """Where models are looked for, and what stood in the way."""
        return self._catalog.roots()

    async def refresh(self) -> None:
        """Looks at the disk now: what this process has changed there is seen at once."""
        await asyncio.to_thread(self._catalog.refresh)

    def _state(self, card: ModelCard) -> str:
        host = self._residency.find(card)
        return host.supervisor.state if host else "unloaded"

    def _status(self, card: ModelCard) -> ModelStatus:
        places = self._settings.parallel_slots + self._settings.queue_limit
        return status_of(card, self._residency, places)

    # Requests

    async def admit(self, request: GenerationRequest) -> Generation:
        """In this order, each raising what stands in its way: (1) not while draining, (2) a model
        of that name, that can be used, (3) a place in its queue, (4) its load, (5) the prompt,
        (6) the engine's word that the prompt fits.
        """
        entry = self._open(request, request.sampling.max_tokens)
        try:
            try:
                return await self._admit(request, entry)
            except ContextOverflow as error:
                if not (request.drop_messages and isinstance(request.input, Chat)):
                    raise
                shorter, dropped = await shortened(
                    request.input, request.sampling.max_tokens, error, partial(self._count, request)
                )
            generation = await self._admit(replace(request, input=shorter), entry)
            generation.cut_tokens += dropped
        except BaseException as error:
            _end(entry, error)
            raise
        return generation

    async def _admit(self, request: GenerationRequest, entry: Entry) -> Generation:
        async with self._entrance.enter(request, request.n, entry) as entered:
            card, facts, host, stream = entered.card, entered.facts, entered.host, entered.stream
            adapters = entered.selection(request.adapters)
            prepared = await self._prompts.prepare(request, card, facts)  # (5)
            admitted = await host.submit(  # (6)
                stream,
                prepared.prompt,
                prepared.sampling,
                prepared.grammar,
                request.truncation,
                cache_salt=request.cache_salt,
                priority=request.priority,
                adapters=adapters,
            )
        entry.generation = Generation(
            request,
            card,
            facts,
            admitted,
            host,
            stream,
            prepared.interpreters,
            self._observer.on_finish,
            entry.end,
            prompt_text=prepared.prompt.prompt if isinstance(prepared.prompt, Text) else None,
        )
        return entry.generation

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """One vector for each input, all at once. Raises as `admit` does."""
        entry = self._open(request, None)
        try:
            async with self._entrance.enter(request, 1, entry) as entered:
                return await embed(
                    entered.host,
                    entered.stream,
                    request,
                    await self._prompts.inputs(request, entered.card, entered.facts),
                    entered.card,
                    entered.facts,
                    self._observer.on_finish,
                    entered.selection(),
                )
        except BaseException as error:
            _end(entry, error)
            raise
        finally:
            entry.end()

    async def tokenize(self, model: str, input: Chat | Text | Infill) -> Tokenized:
        """As the same input would be tokenized to generate from."""
        async with self._entrance.ask(model) as asked:
            text = await self._prompts.text(input, asked.card, asked.facts)
            answer = await tokenize(asked.host, asked.stream, text)
        return Tokenized(text.prompt, answer.tokens, answer.pieces, asked.card, asked.facts)

    async def _count(self, request: GenerationRequest, chat: Chat) -> int:
        return len((await self.tokenize(request.model, chat)).tokens)

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        async with self._entrance.ask(model) as asked:
            text = await detokenize(asked.host, asked.stream, tokens)
            return text.decode("utf-8", "replace")

    async def render(self, model: str, chat: Chat) -> str:
        """The prompt that a conversation becomes."""
        async with self._entrance.ask(model) as asked:
            return (await self._prompts.text(chat, asked.card, asked.facts)).prompt

    async def load(
        self,
        model: str,
        keep_alive: float | None = None,
        wishes: LoadWishes = AS_IT_IS,
    ) -> ModelStatus:
        """Comes back when the model is loaded; raises why it cannot be."""
        async with self._entrance.ask(model, wishes) as asked:
            if keep_alive is not None:
                self._residency.keep(asked.card, keep_alive)
        return self._status(asked.card)

    async def unload(self, model: str) -> None:
        """Comes back when the model is gone, once what runs on it has ended."""
        await self._residency.unload(self.resolve(model))

    def cancel(self, id: str) -> bool:
        """Ends the request of that id for its client too, also one that waits for its model; False
        where there is none that has not ended."""
        entry = self._log.find(id)
        return entry is not None and entry.cancel()

    def progress(self, id: str) -> Progress | None:
        """Of a request that runs, or ended within the last minutes."""
        return self._log.get(id)

    def journal(self) -> list[Progress]:
        """The same of all of them that nobody dismissed, oldest first."""
        return self._log.all()

    def dismiss(self, id: str) -> bool:
        """Off the list; it goes on. False where there is none of that id."""
        return self._log.dismiss(id)

    def dismiss_completed(self) -> int:
        """How many were taken off the list."""
        return self._log.dismiss_completed()

    def capabilities(self, card: ModelCard) -> frozenset[str]:
        host = self._residency.find(card)
        return capabilities(card, host.supervisor.facts if host else None)

    def _open(self, request: GenerationRequest | EmbeddingRequest, most: int | None) -> Entry:
        return self._log.open(
            Entry(request.id, request.model, request.dialect, request.endpoint, most, request.owner)
        )

    async def _rescan(self) -> None:
        while True:
            await asyncio.sleep(RESCAN_SECONDS)
            try:
                await asyncio.to_thread(self._catalog.refresh)
            except OSError:
                logger.exception("the models could not be listed")


def _end(entry: Entry, error: BaseException) -> None:
    """With what the client is told, if it still is there."""
    if isinstance(error, ServiceError):
        entry.end(error.message, cancelled=isinstance(error, Cancelled))
    elif isinstance(error, asyncio.CancelledError):
        entry.end(cancelled=True)
    else:
        entry.end("The service made an error.")
