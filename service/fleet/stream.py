"""One request in an engine's hands, from its place in the queue to the last event.

Touched on the event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from service.engine.wire import Admitted, Detokenized, Tokenized
from service.errors import ServiceError
from service.events import (
    Embedding,
    Finished,
    FinishReason,
    PromptLogprobs,
    Timings,
    TokenEvent,
    Usage,
)

MAX_EVENTS: Final = 1024
MAX_BYTES: Final = 256 * 1024
LOGPROB_BYTES: Final = 64

EngineEvent = TokenEvent | PromptLogprobs | Embedding | Finished
Reply = Admitted | Tokenized | Detokenized


@dataclass(frozen=True, slots=True)
class Ending:
    """How the service itself ends a request: as an error while it can still be one, else as a
    `Finished` of each answer."""

    reason: FinishReason
    code: str
    error: ServiceError


class EngineStream:
    """What an engine said about one request and nobody has taken yet.

    Two ends: `closed` once the reader was told the last there is, `settled` once the engine holds
    nothing of it any more. A cancelled request is closed at once, and settled within a step; its
    place in the queue is taken until then.
    """

    def __init__(self, id: int, n: int, *, arrived: float, deadline: float, api: str = "") -> None:
        self.id = id
        self.n = n
        # The dialect that asked.
        self.api = api
        self.arrived = arrived
        self.deadline = deadline
        # When it counts as not getting its turn; None while that is not the queue's fault.
        self.queue_deadline: float | None = None
        # From when until when it waited for its model to be loaded, where it did.
        self.loading: tuple[float, float] | None = None
        # The command, as it goes over the socket: perhaps a second time.
        self.frame: bytes | None = None
        self.max_tokens: int | None = None
        # When the engine process that lives now was given it.
        self.sent: float | None = None
        self.admitted: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.scheduled = False
        # Whether any event came: what has begun cannot begin again elsewhere.
        self.answered = False
        self.prefilled_tokens = 0
        self.deaths = 0
        self.closed = False
        self.settled = False
        self.finished: dict[int, Finished] = {}
        self.on_settled: Callable[[], None] | None = None
        self._ending: Ending | None = None
        self._unfinished = set(range(n))
        self._tokens = [0] * n
        self._first_token: float | None = None
        self._last_token: float | None = None
        self._buffer: list[EngineEvent] = []
        self._bytes = 0
        self._untaken_since: float | None = None
        self._waiter: asyncio.Future[None] | None = None

    def push(self, event: EngineEvent, now: float) -> bool:
        """False where the reader is too far behind to hold any more for it."""
        self.answered = self.scheduled = True
        if isinstance(event, Finished):
            self._push_finished(event, now)
            return True
        size = 0
        if isinstance(event, TokenEvent):
            if event.tokens:
                self._first_token = self._first_token or now
                self._last_token = now
                self._tokens[event.index] += event.tokens
            size = len(event.text)
            for entry in event.logprobs:
                size += LOGPROB_BYTES * (1 + len(entry.top))
        if self.closed:
            return True
        full = len(self._buffer) >= MAX_EVENTS or self._bytes + size > MAX_BYTES
        # The vectors of a request are bounded by its inputs, which were.
        if self._buffer and full and not isinstance(event, Embedding):
            return False
        self._append(event, size, now)
        return True

    def _push_finished(self, event: Finished, now: float) -> None:
        if event.index not in self._unfinished:
            return
        self._unfinished.discard(event.index)
        if self._ending is not None:
            # The engine knows the counts and times, and we why it was stopped.
            event = msgspec.structs.replace(
                event,
                reason=self._ending.reason,
                code=self._ending.code,
                error=self._ending.error.message,
            )
        self.finished[event.index] = event
        if not self.closed:
            self._append(event, 0, now)
            self.closed = not self._unfinished

    @property
    def load_seconds(self) -> float:
        return self.loading[1] - self.loading[0] if self.loading else 0.0

    @property
    def complete(self) -> bool:
        """The engine has finished every answer."""
        return not self._unfinished

    @property
    def ending(self) -> Ending | None:
        """How the service ended it, if the service did."""
        return self._ending

    @property
    def generated_tokens(self) -> int:
        return sum(self._tokens)

    @property
    def untaken_since(self) -> float | None:
        """When the oldest event that nobody has taken came."""
        return self._untaken_since

    def admit(self, reply: Reply) -> None:
        """The engine's word. A question about tokens is answered by it, and over."""
        if not self.admitted.done():
            self.admitted.set_result(reply)
        if not isinstance(reply, Admitted):
            self._unfinished.clear()
            self.closed = True

    def end(self, ending: Ending, now: float) -> None:
        """Tells the reader that no more is coming, and why."""
        if self.closed:
            return
        self._ending = ending
        self.closed = True
        if not self.admitted.done():
            self.admitted.set_exception(ending.error)
            # Not everyone who has a place waits for this: an exception unread is no fault.
            self.admitted.exception()
            return
        for index in sorted(self._unfinished):
            self.finished[index] = event = self._ours(index, ending, now)
            self._append(event, 0, now)

    def settle(self) -> None:
        """The engine holds nothing of it any more, or is dead."""
        if self.settled:
            return
        self.settled = True
        if self.on_settled is not None:
            self.on_settled()

    def restart(self) -> None:
        """Its engine died before it said anything: as if it had never been sent."""
        self.sent = None
        self.scheduled = False
        self.prefilled_tokens = 0

    async def take(self) -> list[EngineEvent]:
        """All that has come since the last time, waiting for the first; [] after the last."""
        while not self._buffer:
            if self.closed:
                return []
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken, self._buffer, self._bytes = self._buffer, [], 0
        self._untaken_since = None
        return taken

    def drop(self) -> None:
        """Nobody is going to take what is here."""
        self._buffer, self._bytes, self._untaken_since = [], 0, None

    def _append(self, event: EngineEvent, size: int, now: float) -> None:
        if self._untaken_since is None:
            self._untaken_since = now
        self._buffer.append(event)
        self._bytes += size
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _ours(self, index: int, ending: Ending, now: float) -> Finished:
        """The end of an answer in the engine's stead: what we counted, when we saw it."""
        reply = self.admitted.result()
        prompt_tokens = reply.prompt_tokens if isinstance(reply, Admitted) else 0
        return Finished(
            index=index,
            reason=ending.reason,
            usage=Usage(prompt_tokens, generation_tokens=self._tokens[index]),
            timings=Timings(
                queued=self.sent or self.arrived,
                first_token=self._first_token,
                last_token=self._last_token,
                finished=now,
            ),
            error=ending.error.message,
            code=ending.code,
        )
