"""From an admitted request to a response: streamed, or gathered whole.

Admission comes first, so that whatever is wrong still has a status line. And hanging up is
cancelling, in each phase: waiting for admission, gathering, streaming.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Collection, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict, TypeVar

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from exporters.readings import Latest
from service.control.analyst import Analyst
from service.control.audit import Audit
from service.control.presets import Preset
from service.dialects.body import ClientGone, read_array, read_object
from service.dialects.failures import Failure, GenerationFailed, of_error, of_finished, unexpected
from service.dialects.fields import Fields
from service.dialects.framing import json_response
from service.dialects.responses.store import ResponseStore
from service.dialects.sampling import timeout_of
from service.dialects.turnstile import Turnstile
from service.errors import ServiceError
from service.events import Event, Finished, Timings
from service.generation import Chat, EmbeddingRequest, GenerationRequest, Infill, Text
from service.settings import Settings
from service.store.library import Library
from service.telemetry.http import Exchange, exchange_of
from service.telemetry.recorder import Recorder

if TYPE_CHECKING:
    from service.catalog.ollama_inspection import Inspection
    from service.serving.runtime import Embeddings, Generation, Runtime, Tokenized
    from service.tuning.optimization import Optimization
    from service.tuning.reconfiguration import Reconfiguration
    from service.tuning.trial import Trial

logger = logging.getLogger(__name__)

PING_SECONDS: Final = 15.0
ADDRESS: Final = re.compile(r"https?://([^/]+)", re.IGNORECASE)

T = TypeVar("T")
R = TypeVar("R", GenerationRequest, EmbeddingRequest)


class State(TypedDict):
    """What the dialects find in `request.state`; the lifespan puts it there."""

    runtime: Runtime
    library: Library
    settings: Settings
    turnstile: Turnstile
    responses: ResponseStore
    recorder: Recorder
    monitors: Latest
    analyst: Analyst
    optimization: Optimization
    trial: Trial
    audit: Audit
    reconfiguration: Reconfiguration
    inspection: Inspection
    presets: Sequence[Preset]


class Answers(Protocol):
    """What is streamed or gathered: a Generation, or several of them as one."""

    def batches(self) -> AsyncIterator[list[Event]]: ...
    async def aclose(self) -> None: ...


class Encoder(Protocol):
    """One dialect's way to write a stream. Pure: events in, bytes out."""

    media_type: str
    # What may be sent while there is nothing to say; None where clients would choke on it.
    ping: bytes | None

    def encode(self, events: Sequence[Event]) -> bytes: ...
    def fail(self, failure: Failure) -> bytes: ...
    def close(self) -> bytes: ...


async def read_fields(request: Request[State], api: str) -> Fields:
    """The first step of every generating endpoint."""
    exchange_of(request.scope).api = api
    await request.state["turnstile"].turn()
    limit = request.state["settings"].max_body_bytes
    body = await read_object(request.scope, request.receive, limit)
    if is_address(body.get("model"), request.headers.get("host", "")):
        body["model"] = ""
    return Fields(body)


async def read_elements(request: Request[State], api: str, name: str) -> Fields:
    """As `read_fields`, where the body is a list: it is the field `name`."""
    exchange_of(request.scope).api = api
    await request.state["turnstile"].turn()
    limit = request.state["settings"].max_body_bytes
    return Fields({name: await read_array(request.scope, request.receive, limit)})


def is_address(model: object, host: str) -> bool:
    """HuggingFace's client in JavaScript sends the address that it asks where no model is named."""
    match = ADDRESS.match(model) if isinstance(model, str) else None
    return match is not None and match[1].lower() == host.lower()


async def admitted(request: Request[State], wanted: GenerationRequest) -> Generation:
    """Raises ServiceError, or ClientGone where the client did not wait for it."""
    runtime = request.state["runtime"]
    exchange = exchange_of(request.scope)
    exchange.stream, exchange.n = wanted.stream, wanted.n
    # For the labels of what may be refused next; the name in `wanted` is the client's word.
    exchange.model = runtime.resolve(wanted.model or None).name
    return await unless_gone(request.receive, runtime.admit(traced(exchange, wanted)))


async def embedded(request: Request[State], wanted: EmbeddingRequest) -> Embeddings:
    """Raises as `admitted` does: vectors come all at once, so what fails has a status line."""
    runtime = request.state["runtime"]
    exchange = exchange_of(request.scope)
    exchange.model = runtime.resolve(wanted.model or None).name
    return await unless_gone(request.receive, runtime.embed(traced(exchange, wanted)))


def traced(exchange: Exchange, wanted: R) -> R:
    """What is computed for a traced request belongs to its trace."""
    if exchange.traceparent is None:
        return wanted
    return replace(wanted, traceparent=exchange.traceparent)


async def tokenized(request: Request[State], model: str, input: Chat | Text | Infill) -> Tokenized:
    runtime = request.state["runtime"]
    exchange_of(request.scope).model = runtime.resolve(model or None).name
    return await unless_gone(request.receive, runtime.tokenize(model, input))


async def gathered(request: Request[State], answers: Answers) -> list[Event]:
    """Everything that happens, until the last answer has ended. Raises GenerationFailed."""
    exchange = exchange_of(request.scope)

    async def gather() -> list[Event]:
        events: list[Event] = []
        async with aclosing(answers):
            async for batch in answers.batches():
                events += batch
                if failure := note(exchange, batch):
                    raise GenerationFailed(failure)
        return events

    return await unless_gone(request.receive, gather())


def note(exchange: Exchange, batch: Sequence[Event]) -> Failure | None:
    """Keeps the ends of answers for the log, and gives back the first that is a failure."""
    failure = None
    for event in batch:
        if type(event) is Finished:
            exchange.finished.append(event)
            failure = failure or of_finished(event)
    return failure


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """Awaits `work`; if the client hangs up first, cancels it and raises ClientGone."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(hang_up(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        await ended(working, leaving)


async def hang_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancels those that still run, and waits until they have cleaned up."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Stream(Response):
    """The streamed answer. One write for each batch: what one engine step brought."""

    def __init__(self, answers: Answers, encoder: Encoder, request: Request[State]) -> None:
        super().__init__(media_type=encoder.media_type)
        del self.headers["content-length"]
        self.headers["Cache-Control"] = "no-cache"
        # nginx would collect the answer before it passes it on.
        self.headers["X-Accel-Buffering"] = "no"
        self.answers = answers
        self.encoder = encoder
        self.exchange = exchange_of(request.scope)
        self._written = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.answers):
            head = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **head})
            self._written = asyncio.get_running_loop().time()
            writing = asyncio.ensure_future(self.write_all(send))
            leaving = asyncio.ensure_future(self.ping_until_gone(receive, send))
            try:
                await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                await ended(leaving, writing)
            if not writing.cancelled():
                writing.result()

    async def write_all(self, send: Send) -> None:
        now = asyncio.get_running_loop().time
        encode = self.encoder.encode
        try:
            async for batch in self.answers.batches():
                failure = note(self.exchange, batch)
                chunk = encode(batch)
                if failure is not None:
                    chunk += self.fail(failure)
                if chunk:
                    await send(body(chunk))
                    self._written = now()
                if failure is not None:
                    break
            chunk = self.encoder.close()
        except ServiceError as error:
            # Of several requests in one, a later one was refused.
            chunk = self.fail(of_error(error)) + self.encoder.close()
        except Exception:
            # The status line is out: the client can only be told in the stream itself.
            logger.exception("A stream failed unexpectedly")
            chunk = self.fail(unexpected(self.exchange.id)) + self.encoder.close()
        await send(body(chunk, more=False))

    def fail(self, failure: Failure) -> bytes:
        self.exchange.failure = failure.status
        self.exchange.error = failure.code
        return self.encoder.fail(failure)

    async def ping_until_gone(self, receive: Receive, send: Send) -> None:
        """Returns when the client has hung up."""
        loop = asyncio.get_running_loop()
        leaving = asyncio.ensure_future(hang_up(receive))
        try:
            while not leaving.done():
                quiet = loop.time() - self._written
                if quiet >= PING_SECONDS:
                    if self.encoder.ping is not None:
                        await send(body(self.encoder.ping))
                    self._written = loop.time()
                    quiet = 0.0
                await asyncio.wait((leaving,), timeout=PING_SECONDS - quiet)
        finally:
            await ended(leaving)


def body(chunk: bytes, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more}


def json(value: Any, events: Sequence[Event] = ()) -> Response:
    """The whole answer, with how long each part of it took, as far as `events` say so."""
    ends = (event for event in events if isinstance(event, Finished))
    timing = next((server_timing(end.timings) for end in ends), "")
    headers = {"Server-Timing": timing} if timing else {}
    return json_response(value, headers=headers)


def server_timing(timings: Timings) -> str:
    """The Server-Timing header, in milliseconds: what browsers and tracing tools show."""
    marks = {
        "queue": (timings.queued, timings.scheduled),
        "prefill": (timings.scheduled, timings.first_token),
        "decode": (timings.first_token, timings.last_token),
    }
    return ", ".join(
        f"{name};dur={(end - start) * 1000:.1f}"
        for name, (start, end) in marks.items()
        if start is not None and end is not None
    )


def identity(request: Request[State]) -> dict[str, Any]:
    """What a GenerationRequest has from the HTTP request around it."""
    exchange = exchange_of(request.scope)
    limit = request.state["settings"].request_timeout
    return {
        "id": exchange.id,
        "arrived": exchange.arrived,
        "endpoint": request.scope["route"].path,
        "timeout": timeout_of(request.headers.get("x-request-timeout"), limit),
    }


A = TypeVar("A", bound=Response)


def tell_cut(response: A, tokens: int) -> A:
    """How much of the prompt was cut, where the client allowed it."""
    if tokens:
        response.headers["X-Prompt-Truncated"] = str(tokens)
    return response


def tell_ignored(request: Request[State], fields: Fields, harmless: Collection[str]) -> None:
    """Names the parameters that had no effect, in a header and in the log."""
    fields.skip(harmless)
    exchange_of(request.scope).ignored += map(fields.name, fields.unread())
