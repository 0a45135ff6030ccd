"""A runtime that plays a script: what an engine would say, without an engine."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from service.catalog.card import ModelCard
from service.catalog.catalog import RootState
from service.errors import Draining, InvalidRequest, ModelNotFound, ServiceError
from service.events import Event, Finished, FinishReason, TextDelta, Timings, Usage
from service.facts import ModelFacts
from service.fleet.calibration import Learnt
from service.fleet.residency import AS_IT_IS
from service.generation import (
    Chat,
    EmbeddingRequest,
    GenerationRequest,
    Infill,
    LoadWishes,
    Text,
    Tokens,
)
from service.serving.runtime import Embeddings, ModelStatus, Progress, Runtime, Tokenized
from service.settings import Settings
from service.stats import Observer, RequestStats

CARD = ModelCard(
    name="demo:latest",
    path="/models/demo.gguf",
    size_bytes=5_000_000,
    modified=1_760_000_000.0,
    source="demo",
    architecture="llama",
    parameter_count=2_500_000,
    quantization="Q8_0",
    context_length=2048,
)
FACTS = ModelFacts(
    architecture="llama",
    description="demo",
    n_ctx=8192,
    n_ctx_seq=2048,
    n_ctx_train=2048,
    n_seq=4,
    n_batch=2048,
    n_vocab=512,
    n_embd=128,
    n_layer=4,
    n_params=2_500_000,
    size_bytes=5_000_000,
    kv_layout="split",
    threads=2,
    bos="<s>",
    eos="</s>",
    eog_tokens=(2,),
    chat_template=None,
    can_rollback=True,
    gpu_offload=False,
    engine_version="llama.cpp-1",
    load_seconds=0.1,
)


def end(
    index: int = 0,
    reason: FinishReason = FinishReason.STOP,
    tokens: int = 3,
    **given: Any,
) -> Finished:
    usage = given.pop("usage", Usage(7, 2, tokens))
    timings = given.pop("timings", Timings(1.0, 1.25, 1.5, 2.0, 2.0))
    return Finished(index, reason, usage, timings, **given)


def says(*pieces: str, index: int = 0, **ending: Any) -> list[list[Event]]:
    """A script: one batch for each piece, and an end."""
    batches: list[list[Event]] = [[TextDelta(index, piece, tokens=1)] for piece in pieces]
    return [*batches, [end(index, tokens=len(pieces), **ending)]]


# A batch of events, or a pause of so many seconds.
Script = Sequence[list[Event] | float]


@dataclass
class Unmoved:
    """A change of settings that no model was loaded for."""

    reloaded: tuple[str, ...] = ()

    async def abandon(self) -> None: ...


@dataclass
class FakeRuntime:
    """`script` says what each request gets; a ServiceError in its place is raised by `admit`."""

    script: Script | ServiceError | Callable[[GenerationRequest], Script | ServiceError] = field(
        default_factory=lambda: says("Hello", " there")
    )
    able: bool = True
    leaving: bool = False
    draining: bool = False
    admitting: float = 0.0
    waiting: int = 0
    # What `capabilities` says of the model.
    able_to: frozenset[str] = frozenset({"completion", "tools", "thinking"})
    # What `embed`, `tokenize` and `load` raise.
    refuses: ServiceError | None = None
    embedded: list[EmbeddingRequest] = field(default_factory=list)
    # (model, keep_alive) of each load, and models unloaded.
    loads: list[tuple[str, float | None]] = field(default_factory=list)
    unloads: list[str] = field(default_factory=list)
    wishes: list[LoadWishes] = field(default_factory=list)
    # What is known of requests, and what was asked of them.
    known: dict[str, Progress] = field(default_factory=dict)
    dismissed: set[str] = field(default_factory=set)
    facts: ModelFacts | None = FACTS
    state: Any = "ready"
    requests: list[GenerationRequest] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    cancelled: list[str] = field(default_factory=list)
    observer: Observer | None = None
    learnt: Learnt = field(default_factory=Learnt)

    def make(self, settings: Settings, observer: Observer) -> Runtime:
        self.observer = observer
        return cast(Runtime, self)

    @property
    def ready(self) -> bool:
        return self.able and not (self.leaving or self.draining)

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def refresh(self) -> None: ...

    def affected(self, settings: Settings) -> list[str]:
        return []

    async def prepare(self, settings: Settings) -> Unmoved:
        return Unmoved()

    async def adopt(self, settings: Settings, succession: Unmoved) -> None: ...

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109
        self.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.open:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    def models(self) -> list[ModelStatus]:
        running = len(self.open)
        by_api = {"openai": (running, self.waiting)}
        return [
            ModelStatus(
                CARD, self.state, None, self.facts, None, running, self.waiting, 20, by_api=by_api
            )
        ]

    def status(self, name: str | None) -> ModelStatus:
        self.resolve(name)
        return self.models()[0]

    def roots(self) -> tuple[RootState, ...]:
        return (RootState(Path("/models"), "directory", True, 1, 0, None),)

    def resolve(self, name: str | None) -> ModelCard:
        if name in (None, "", "dummy", "demo", "demo:latest", "org/demo:latest"):
            return CARD
        raise ModelNotFound(str(name))

    async def admit(self, request: GenerationRequest) -> FakeGeneration:
        self.requests.append(request)
        script = self.script(request) if callable(self.script) else self.script
        if self.draining:
            raise Draining("The service is shutting down.", retry_after=5.0)
        if isinstance(script, ServiceError):
            raise script
        self.open.add(request.id)
        try:
            await asyncio.sleep(self.admitting)
        except asyncio.CancelledError:
            self.open.discard(request.id)
            self.cancelled.append(request.id)
            raise
        return FakeGeneration(self, request, script)

    def capabilities(self, card: ModelCard) -> frozenset[str]:
        return self.able_to

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The vector of a text is (its characters, its words); of ids, (their sum, their number)."""
        self.embedded.append(request)
        self._refuse(request.model)
        vectors = [
            (float(len(text.prompt)), float(len(text.prompt.split())))
            if isinstance(text, Text)
            else (float(sum(text.ids)), float(len(text.ids)))
            for text in (
                Text(text_of(each)) if isinstance(each, Chat) else each for each in request.inputs
            )
        ]
        return Embeddings(
            [struct.pack("<2f", *vector) for vector in vectors],
            [int(vector[1]) for vector in vectors],
            0,
            Timings(1.0, 1.25, 1.5, 1.5, 1.5),
            0.0,
            CARD,
            self.facts or FACTS,
        )

    async def tokenize(self, model: str, input: Chat | Text | Infill) -> Tokenized:
        """A token is a byte."""
        self._refuse(model)
        text = text_of(input)
        data = text.encode()
        pieces = [bytes([byte]) for byte in data]
        return Tokenized(text, list(data), pieces, CARD, self.facts or FACTS)

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        self._refuse(model)
        if any(not 0 <= token < 256 for token in tokens):
            raise InvalidRequest("token ids must be in 0..255", param="tokens")
        return bytes(tokens).decode("utf-8", "replace")

    async def render(self, model: str, chat: Chat) -> str:
        self._refuse(model)
        return text_of(chat)

    async def load(
        self, model: str, keep_alive: float | None = None, wishes: LoadWishes = AS_IT_IS
    ) -> ModelStatus:
        self._refuse(model)
        self.wishes.append(wishes)
        self.loads.append((model, keep_alive))
        return self.models()[0]

    async def unload(self, model: str) -> None:
        self._refuse(model)
        self.unloads.append(model)

    def cancel(self, id: str) -> bool:
        if id in self.open:
            self.cancelled.append(id)
        return id in self.open

    def progress(self, id: str) -> Progress | None:
        return self.known.get(id)

    def journal(self) -> list[Progress]:
        return [known for id, known in self.known.items() if id not in self.dismissed]

    def dismiss(self, id: str) -> bool:
        self.dismissed.add(id)
        return id in self.known

    def dismiss_completed(self) -> int:
        ended = {id for id, known in self.known.items() if known.ended} - self.dismissed
        self.dismissed |= ended
        return len(ended)

    def _refuse(self, model: str) -> None:
        self.resolve(model)
        if self.refuses is not None:
            raise self.refuses


def text_of(input: Chat | Text | Infill) -> str:
    match input:
        case Text():
            return input.prompt
        case Infill():
            return f"<PRE>{input.prefix}<SUF>{input.suffix}<MID>"
        case _:
            return "".join(f"<{m.role}>{m.content or ''}" for m in input.messages)


class FakeGeneration:
    def __init__(self, runtime: FakeRuntime, request: GenerationRequest, script: Script) -> None:
        self.id = request.id
        self.model = CARD.name
        self.card = CARD
        self.facts = FACTS
        self.prompt_tokens = 7
        self.prompt_ids = tuple(range(7)) if request.sampling.token_ids else ()
        self.prompt_text = None if isinstance(request.input, Tokens) else text_of(request.input)
        self.cut_tokens = 0
        self.load_seconds = 0.0
        self._runtime = runtime
        self._request = request
        self._script = script
        self._ends: list[Finished] = []

    async def batches(self) -> AsyncIterator[list[Event]]:
        for batch in self._script:
            if isinstance(batch, int | float):
                await asyncio.sleep(batch)
                continue
            self._ends += [event for event in batch if isinstance(event, Finished)]
            yield batch

    async def aclose(self) -> None:
        if self.id not in self._runtime.open:
            return
        self._runtime.open.discard(self.id)
        complete = len(self._ends) >= self._request.n
        if not complete:
            self._runtime.cancelled.append(self.id)
        if self._runtime.observer is not None:
            request, arrived = self._request, self._request.arrived
            stats = RequestStats(
                request.id,
                self.model,
                request.dialect,
                request.endpoint,
                request.stream,
                self._ends[0].reason if complete else FinishReason.CANCELLED,
                request.arrived,
                time.monotonic(),
                request.sampling.max_tokens,
                self._ends[0].usage if complete else None,
                Timings(arrived, arrived + 0.1, arrived + 0.2, arrived + 0.3) if complete else None,
                traceparent=request.traceparent,
                cut_tokens=self.cut_tokens,
            )
            self._runtime.observer.on_finish(stats)
