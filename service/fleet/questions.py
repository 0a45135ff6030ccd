"""What an engine is asked beside generating: vectors, and how it cuts text into tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.catalog.card import ModelCard
from service.engine import wire
from service.errors import EngineFailed, ServiceError
from service.events import Embedding, Finished, FinishReason, Timings
from service.facts import ModelFacts
from service.fleet.host import EngineHost
from service.fleet.stream import EngineStream
from service.generation import EmbeddingRequest, Selection, Text, Tokens
from service.stats import RequestStats


@dataclass(frozen=True, slots=True)
class Embeddings:
    """`vectors` are float32, little endian, in the order of the inputs, whose lengths are
    `tokens`; `cut_tokens` were cut to make them fit."""

    vectors: list[bytes]
    tokens: list[int]
    cut_tokens: int
    timings: Timings
    load_seconds: float
    card: ModelCard
    facts: ModelFacts

    @property
    def prompt_tokens(self) -> int:
        return sum(self.tokens)


@dataclass(frozen=True, slots=True)
class Tokenized:
    """`prompt` is the text as the tokenizer got it; `pieces` are the tokens' bytes."""

    prompt: str
    tokens: list[int]
    pieces: list[bytes]
    card: ModelCard
    facts: ModelFacts


async def embed(
    host: EngineHost,
    stream: EngineStream,
    request: EmbeddingRequest,
    inputs: tuple[Text | Tokens, ...],
    card: ModelCard,
    facts: ModelFacts,
    on_finish: Callable[[RequestStats], None],
    adapters: Selection = (),
) -> Embeddings:
    """The vectors of `inputs`, which are the request's, its conversations as text: everything at
    once, for nobody can use half of it. Raises what the engine refuses, why the
    service ended it, and EngineFailed where the engine broke."""
    command = wire.Embed(
        stream.id,
        inputs,
        request.truncation,
        request.normalize,
        request.dimensions,
        adapters,
        request.priority,
    )
    admitted = await host.ask(stream, command)
    assert isinstance(admitted, wire.Admitted)
    _report_once_settled(
        stream, lambda end: on_finish(_stats(request, card, stream, end, admitted.cut_tokens))
    )
    vectors: dict[int, Embedding] = {}
    end: Finished | None = None
    while taken := await stream.take():
        for event in taken:
            if isinstance(event, Embedding):
                vectors[event.index] = event
            elif isinstance(event, Finished):
                end = event
    if end is None or end.reason is not FinishReason.STOP:
        raise _failure(stream, end)
    found = [vectors[index] for index in range(len(request.inputs))]
    return Embeddings(
        [event.vector for event in found],
        [event.tokens for event in found],
        admitted.cut_tokens,
        end.timings,
        stream.load_seconds,
        card,
        facts,
    )


async def tokenize(host: EngineHost, stream: EngineStream, text: Text) -> wire.Tokenized:
    answer = await host.ask(stream, wire.Tokenize(stream.id, text))
    assert isinstance(answer, wire.Tokenized)
    return answer


async def detokenize(host: EngineHost, stream: EngineStream, tokens: Sequence[int]) -> bytes:
    answer = await host.ask(stream, wire.Detokenize(stream.id, tuple(tokens)))
    assert isinstance(answer, wire.Detokenized)
    return answer.text


def _report_once_settled(stream: EngineStream, report: Callable[[Finished], None]) -> None:
    """Also where whoever asked has gone by then: the engine says what it had cost."""

    def settled() -> None:
        for end in stream.finished.values():
            report(end)

    stream.on_settled = settled
    if stream.settled:
        settled()


def _failure(stream: EngineStream, end: Finished | None) -> ServiceError:
    if stream.ending is not None:
        return stream.ending.error
    if end is None or end.error is None:
        return EngineFailed("The embedding was broken off.")
    return EngineFailed(end.error)


def _stats(
    request: EmbeddingRequest,
    card: ModelCard,
    stream: EngineStream,
    end: Finished,
    cut_tokens: int,
) -> RequestStats:
    return RequestStats(
        id=request.id,
        model=card.name,
        dialect=request.dialect,
        endpoint=request.endpoint,
        stream=False,
        reason=end.reason,
        arrived=request.arrived,
        ended=time.monotonic(),
        usage=end.usage,
        timings=end.timings,
        operation="embeddings",
        asked=request.model,
        loading=stream.loading,
        error=end.code,
        traceparent=request.traceparent,
        cut_tokens=cut_tokens,
    )
