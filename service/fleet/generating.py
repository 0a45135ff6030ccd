"""The answers to one admitted request, as they come: read, interpreted, and accounted for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from msgspec.structs import replace

from service.catalog.card import ModelCard
from service.engine.wire import Admitted
from service.events import Embedding, Event, Finished, FinishReason, Timings, TokenEvent, Usage
from service.facts import ModelFacts
from service.fleet.host import EngineHost
from service.fleet.stream import EngineEvent, EngineStream
from service.generation import Chat, GenerationRequest
from service.stats import RequestStats
from service.text.interpreter import Interpreter

# Of several answers' reasons, the first of these is the request's.
_GRAVEST: Final = (FinishReason.ERROR, FinishReason.TIMEOUT, FinishReason.CANCELLED)


class Generation:
    """Iterate it, or its `batches`, once; and `aclose` it, whatever happened.

    It reports itself once, as one `RequestStats` for all its answers, when two things have
    happened: the reader has read the last event or gone away, and the engine has let go of it.
    """

    def __init__(
        self,
        request: GenerationRequest,
        card: ModelCard,
        facts: ModelFacts,
        admitted: Admitted,
        host: EngineHost,
        stream: EngineStream,
        interpreters: list[Interpreter],
        on_finish: Callable[[RequestStats], None],
        on_end: Callable[[], None],
        *,
        prompt_text: str | None = None,
    ) -> None:
        self.id = request.id
        self.model = card.name
        self.prompt_tokens = admitted.prompt_tokens
        # Where they were asked for.
        self.prompt_ids = admitted.prompt
        # Before anything was cut off it; None where the client tokenized it.
        self.prompt_text = prompt_text
        # How much of the prompt was cut to make it fit.
        self.cut_tokens = admitted.cut_tokens
        # How long it waited for its model to be loaded.
        self.load_seconds = stream.load_seconds
        self.card = card
        self.facts = facts
        self._request = request
        self._host = host
        self._stream = stream
        self._interpreters = interpreters
        self._on_finish = on_finish
        self._on_end = on_end
        self._read: set[int] = set()
        self._closed = False
        self._reported = False
        stream.on_settled = self._report

    @property
    def prefilled_tokens(self) -> int:
        """How much of the prompt is computed, or was found computed already."""
        if self._stream.answered:
            return self.prompt_tokens
        return self._stream.prefilled_tokens

    @property
    def scheduled(self) -> bool:
        """Whether it has had its turn yet."""
        return self._stream.scheduled

    @property
    def generated_tokens(self) -> int:
        return self._stream.generated_tokens

    @property
    def ends(self) -> list[Finished]:
        """Of the answers that have ended so far, in order. One that the service ended has what
        the engine counted, once that has let go of it: more than the reader was told."""
        ended = sorted(self._stream.finished.items())
        return [_as_interpreted(end, self._interpreters[index]) for index, end in ended]

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events()

    async def batches(self) -> AsyncIterator[list[Event]]:
        """All that one step brought, or several where the reader lagged behind."""
        while taken := await self._stream.take():
            batch: list[Event] = []
            for event in taken:
                self._interpret(event, batch)
            self._report()
            if batch:
                yield batch

    async def aclose(self) -> None:
        """Cancels what still runs. Its place is given back within a step."""
        self._closed = True
        self._host.cancel(self._stream)
        self._report()

    async def _events(self) -> AsyncIterator[Event]:
        async for batch in self.batches():
            for event in batch:
                yield event

    def _interpret(self, event: EngineEvent, batch: list[Event]) -> None:
        if isinstance(event, TokenEvent):
            batch += self._interpreters[event.index].feed(event)
        elif isinstance(event, Embedding):
            raise TypeError("a generation embeds nothing")
        elif isinstance(event, Finished):
            interpreter = self._interpreters[event.index]
            batch += interpreter.flush()
            self._read.add(event.index)
            batch.append(_as_interpreted(event, interpreter))
        else:
            batch.append(event)

    def _report(self) -> None:
        complete = len(self._read) == self._request.n
        if self._reported or not self._stream.settled or not (complete or self._closed):
            return
        self._reported = True
        ends = self.ends
        request = self._request
        self._on_finish(
            RequestStats(
                id=request.id,
                model=self.model,
                dialect=request.dialect,
                endpoint=request.endpoint,
                stream=request.stream,
                reason=_reason([end.reason for end in ends], complete),
                arrived=request.arrived,
                ended=time.monotonic(),
                max_tokens=request.sampling.max_tokens,
                usage=_usage([end.usage for end in ends]),
                timings=_timings([end.timings for end in ends]),
                operation="chat" if isinstance(request.input, Chat) else "text_completion",
                asked=request.model,
                sampling=request.sampling,
                loading=self._stream.loading,
                error=next((end.code for end in ends if end.code), None),
                traceparent=request.traceparent,
                cut_tokens=self.cut_tokens,
            )
        )
        self._on_end()


def _as_interpreted(event: Finished, interpreter: Interpreter) -> Finished:
    """The engine knows neither tool calls nor thoughts."""
    reason, code = event.reason, event.code
    if reason is FinishReason.STOP and interpreter.called:
        reason = FinishReason.TOOL_CALLS
    if reason is FinishReason.ERROR and code is None:
        code = "internal_error"
    usage = replace(event.usage, reasoning_tokens=interpreter.reasoning_tokens)
    return replace(event, reason=reason, code=code, usage=usage)


def _reason(reasons: list[FinishReason], complete: bool) -> FinishReason:
    if not complete:
        reasons = [*reasons, FinishReason.CANCELLED]
    return next((reason for reason in _GRAVEST if reason in reasons), reasons[0])


def _usage(usages: list[Usage]) -> Usage:
    """All answers together: the prompt was computed once."""
    return Usage(
        prompt_tokens=usages[0].prompt_tokens,
        cached_tokens=usages[0].cached_tokens,
        generation_tokens=sum(usage.generation_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )


def _timings(timings: list[Timings]) -> Timings:
    """From the first answer's beginning to the last one's end."""
    scheduled = [t.scheduled for t in timings if t.scheduled is not None]
    first = [t.first_token for t in timings if t.first_token is not None]
    last = [t.last_token for t in timings if t.last_token is not None]
    finished = [t.finished for t in timings if t.finished is not None]
    return Timings(
        queued=min(t.queued for t in timings),
        scheduled=min(scheduled, default=None),
        first_token=min(first, default=None),
        last_token=max(last, default=None),
        finished=max(finished, default=None),
    )
