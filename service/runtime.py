"""Where the catalogue, the engines and the text meet: a request in, its events out.

`Runtime.admit` is the last place where a failure can still be a status line; what fails later is
a `Finished` with a code. An admitted request is a `Generation`, to be held in
`contextlib.aclosing`: leaving it cancels what still runs, whatever stage it is in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final, Literal

from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.catalog.catalog import Catalog
from service.errors import ModelLoadFailed, ModelUnavailable, ServiceError
from service.facts import ModelFacts
from service.fleet import endings
from service.fleet.answers import Generation
from service.fleet.child import ENGINE
from service.fleet.host import EngineHost
from service.fleet.limits import Limits
from service.fleet.residency import Residency
from service.generation import Chat, GenerationRequest, Grammar, SamplingParams, Text, Tokens
from service.settings import Settings
from service.stats import Observer, RequestStats, StepStats
from service.text.grammar import grammar_of
from service.text.interpreter import Interpreter
from service.text.template import ChatTemplate

__all__ = ["Generation", "ModelStatus", "Runtime"]

logger = logging.getLogger(__name__)

RESCAN_SECONDS: Final = 5.0
DRAIN_POLL_SECONDS: Final = 0.02
# Templates render some MB/s: below this it takes less time than changing threads.
INLINE_CHARACTERS: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model, loaded or not. `running` and `waiting` count requests; the capacity is of both."""

    card: ModelCard
    state: Literal["unloaded", "loading", "ready", "failed", "restarting"]
    # Why it failed, or had to be restarted.
    reason: str | None
    facts: ModelFacts | None
    load_fraction: float | None
    running: int
    waiting: int
    queue_capacity: int
    # How often its engine died, since it was first loaded.
    deaths: int = 0
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """`interpreters` has one for each answer."""

    prompt: Text | Tokens
    sampling: SamplingParams
    grammar: Grammar | None
    interpreters: list[Interpreter]


class Runtime:
    def __init__(
        self,
        catalog: Catalog,
        settings: Settings,
        observer: Observer,
        *,
        command: tuple[str, ...] = ENGINE,
        limits: Limits | None = None,
    ) -> None:
        self.draining = False
        self._catalog = catalog
        self._settings = settings
        self._observer = observer
        self._residency = Residency(settings, self._on_step, command=command, limits=limits)
        # Being compiled, or compiled: many requests may want one before it is.
        self._templates: dict[tuple[str | None, str, str], asyncio.Task[ChatTemplate]] = {}
        self._rescans: asyncio.Task[None] | None = None
        self._first: EngineHost | None = None
        self._scanned = False

    # Life

    async def start(self) -> None:
        """Scans the disk, and begins to load the model that a request without one would get."""
        await asyncio.to_thread(self._catalog.refresh)
        self._scanned = True
        self._rescans = asyncio.create_task(self._rescan())
        try:
            card = self.resolve(None)
        except ServiceError as error:
            logger.warning("no model is loaded yet: %s", error.message)
            return
        if card.problem is None:
            self._first = self._residency.host(card)

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

    # What there is

    @property
    def ready(self) -> bool:
        """Some model can answer, at once or after a load; not before the first load is over."""
        if self.draining or (self._first and self._first.supervisor.state == "loading"):
            return False
        return any(
            card.problem is None and self._state(card) in ("ready", "unloaded")
            for card in self._catalog.cards()
        )

    def resolve(self, name: str | None) -> ModelCard:
        """The model that a client's word means, a missing one among them; or ModelNotFound."""
        if not self._scanned:
            raise ModelUnavailable("The models are still being looked for.", retry_after=1.0)
        loaded = [card.name for card in self._catalog.cards() if self._state(card) == "ready"]
        return self._catalog.resolve(name, default=self._settings.default_model, loaded=loaded)

    def models(self) -> list[ModelStatus]:
        return [self._status(card) for card in self._catalog.cards()]

    def _state(self, card: ModelCard) -> str:
        host = self._residency.find(card)
        return host.supervisor.state if host else "unloaded"

    def _status(self, card: ModelCard) -> ModelStatus:
        host = self._residency.find(card)
        if host is None:
            return ModelStatus(
                card,
                state="failed" if card.problem else "unloaded",
                reason=card.problem,
                facts=None,
                load_fraction=None,
                running=0,
                waiting=0,
                queue_capacity=self._settings.parallel_slots + self._settings.queue_limit,
            )
        supervisor = host.supervisor
        return ModelStatus(
            card,
            state=supervisor.state,
            reason=supervisor.reason,
            facts=supervisor.facts,
            load_fraction=supervisor.load_fraction,
            running=host.running,
            waiting=host.waiting,
            queue_capacity=host.places.capacity,
            deaths=supervisor.deaths,
            pid=supervisor.pid,
        )

    # Requests

    async def admit(self, request: GenerationRequest) -> Generation:
        """In this order, each raising what stands in its way: (1) not while draining, (2) a model
        of that name, that can be used, (3) a place in its queue, (4) its load, (5) the prompt,
        (6) the engine's word that the prompt fits.
        """
        if self.draining:  # (1)
            raise endings.draining().error
        card = self.resolve(request.model)  # (2)
        if card.problem is not None:
            raise ModelLoadFailed(f"The model `{card.name}` cannot be used: {card.problem}.")
        host = self._residency.host(card)
        longest = self._settings.request_timeout
        timeout = min(request.timeout or longest, longest)
        stream = host.enter(  # (3)
            request.n, arrived=request.arrived, deadline=request.arrived + timeout
        )
        try:
            facts = await host.loaded(stream)  # (4)
            prepared = await self._prepare(request, facts)  # (5)
            prompt_tokens = await host.submit(  # (6)
                stream, prepared.prompt, prepared.sampling, prepared.grammar
            )
        except BaseException:
            host.cancel(stream)
            raise
        return Generation(
            request,
            card,
            facts,
            prompt_tokens,
            host,
            stream,
            prepared.interpreters,
            self._on_finish,
        )

    async def _prepare(self, request: GenerationRequest, facts: ModelFacts) -> Prepared:
        chat = request.input
        if not isinstance(chat, Chat):
            return prepare_raw(request, chat)
        template = await self._template(facts)
        if sum(len(message.content or "") for message in chat.messages) > INLINE_CHARACTERS:
            return await asyncio.to_thread(prepare_chat, request, chat, template, facts.bos)
        return prepare_chat(request, chat, template, facts.bos)

    async def _template(self, facts: ModelFacts) -> ChatTemplate:
        key = (facts.chat_template, facts.bos, facts.eos)
        if key not in self._templates:
            compiling = asyncio.to_thread(ChatTemplate, *key)
            self._templates[key] = asyncio.create_task(compiling)
        # One request's leaving must not cost the others their template.
        return await asyncio.shield(self._templates[key])

    def _on_step(self, model: str, stats: StepStats) -> None:
        try:
            self._observer.on_step(model, stats)
        except Exception:
            # Called from the engine's socket: an exception there would close it.
            logger.exception("the observer failed")

    def _on_finish(self, stats: RequestStats) -> None:
        try:
            self._observer.on_finish(stats)
        except Exception:
            logger.exception("the observer failed")

    async def _rescan(self) -> None:
        while True:
            await asyncio.sleep(RESCAN_SECONDS)
            try:
                await asyncio.to_thread(self._catalog.refresh)
            except OSError:
                logger.exception("the models could not be listed")


def prepare_raw(request: GenerationRequest, prompt: Text | Tokens) -> Prepared:
    """The client wrote the prompt itself: what it gets back is text, and nothing is read in it."""
    grammar = grammar_of(request.response_format)
    interpreters = [Interpreter(index) for index in range(request.n)]
    return Prepared(prompt, request.sampling, grammar, interpreters)


def prepare_chat(
    request: GenerationRequest, chat: Chat, template: ChatTemplate, bos: str
) -> Prepared:
    prompt = template.render(chat)
    form, inside = template.reasoning, template.reasoning.opened_by(prompt)
    tools = template.tool_format if chat.tools and chat.tool_choice.mode != "none" else None
    grammar = grammar_of(request.response_format, chat, tools=tools, form=form, inside=inside)
    sampling = request.sampling
    if form.controls or (tools and tools.controls):
        # The marks of thoughts and calls are control tokens here: unseen, they mark nothing.
        sampling = replace(sampling, skip_special_tokens=False)
    interpreters = [
        Interpreter(
            index,
            form,
            inside,
            tools,
            chat.tools,
            stream_arguments=request.stream,
            parallel=chat.parallel_tool_calls,
        )
        for index in range(request.n)
    ]
    # A template that writes BOS itself must not get a second one from the tokenizer.
    begun = bool(bos) and prompt.startswith(bos)
    return Prepared(Text(prompt, add_special_tokens=not begun), sampling, grammar, interpreters)
