"""Several requests answered as one: a list of prompts in one HTTP request.

Only a few of them are admitted at the same time. A list longer than the queue would otherwise
never get in, and one that fits would keep everybody else out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import msgspec

from service.events import Event
from service.generation import GenerationRequest

if TYPE_CHECKING:
    from service.serving.runtime import Generation

Admit = Callable[[GenerationRequest], Awaitable["Generation"]]


class Several:
    """`respond.Answers` of all requests: answer j of request i has the index i * n + j."""

    def __init__(self, wanted: Sequence[GenerationRequest], admit: Admit, window: int) -> None:
        self._waiting = deque(enumerate(wanted))
        self._admit = admit
        self._window = window
        self._admitted: deque[tuple[int, Generation]] = deque()
        self._batches: asyncio.Queue[list[Event] | Exception | None] = asyncio.Queue(16)
        self._workers: list[asyncio.Task[None]] = []
        self.n = wanted[0].n

    async def start(self) -> Generation:
        """Admits the first few, so that what is wrong with them still has a status line."""
        try:
            while self._waiting and len(self._admitted) < self._window:
                number, request = self._waiting.popleft()
                self._admitted.append((number, await self._admit(request)))
        except BaseException:
            await self.aclose()
            raise
        return self._admitted[0][1]

    async def batches(self) -> AsyncIterator[list[Event]]:
        self._workers = [asyncio.create_task(self._work()) for _ in range(len(self._admitted))]
        running = len(self._workers)
        while running:
            batch = await self._batches.get()
            if isinstance(batch, Exception):
                raise batch
            if batch is None:
                running -= 1
            else:
                yield batch

    async def aclose(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        while self._admitted:
            _, generation = self._admitted.popleft()
            await generation.aclose()

    async def _work(self) -> None:
        try:
            while (entry := await self._next()) is not None:
                number, generation = entry
                async with aclosing(generation):
                    async for batch in generation.batches():
                        await self._batches.put([self._shifted(event, number) for event in batch])
        except Exception as error:
            await self._batches.put(error)
        else:
            await self._batches.put(None)

    async def _next(self) -> tuple[int, Generation] | None:
        if self._admitted:
            return self._admitted.popleft()
        if self._waiting:
            number, request = self._waiting.popleft()
            return number, await self._admit(request)
        return None

    def _shifted(self, event: Event, number: int) -> Event:
        return msgspec.structs.replace(event, index=number * self.n + event.index)
