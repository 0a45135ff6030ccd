"""From an admitted request to a response: streamed, or gathered whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.dialects.failures import Failure, GenerationFailed, of_error, of_finished, unexpected
from service.dialects.fields import Fields
from service.dialects.framing import json_response
from service.dialects.gone import ended, hang_up, unless_gone
from service.dialects.state import State
from service.errors import ServiceError
from service.events import Event, Finished, Timings
from service.telemetry.http import Exchange, exchange_of

logger = logging.getLogger(__name__)

PING_SECONDS: Final = 15.0


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
