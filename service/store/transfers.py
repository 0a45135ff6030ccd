"""Work that reports how far it is, to any number of clients, and ends with the last of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable
from typing import Final

from msgspec import Struct

# A line for each tenth of a second is enough for a progress bar.
TELL_SECONDS: Final = 0.1


class Step(Struct, frozen=True, omit_defaults=True):
    """As Ollama's clients get it: `digest`, `total` and `completed` (bytes) of a blob on its way."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


Tell = Callable[[Step], None]
Work = Callable[[Tell], Awaitable[None]]


class Transfer:
    """One piece of work. Of the steps with one status and one digest, the last counts."""

    def __init__(self, work: Work) -> None:
        self.followers = 0
        self._steps: dict[tuple[str, str], Step] = {}
        self._news = asyncio.Event()
        self.task = asyncio.ensure_future(work(self._tell))
        self.task.add_done_callback(lambda _: self._wake())

    def _tell(self, step: Step) -> None:
        self._steps[step.status, step.digest] = step
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self) -> AsyncIterator[list[Step]]:
        """What is new each time, from the beginning on. Raises what the work raises."""
        seen: dict[tuple[str, str], Step] = {}
        while True:
            done, news = self.task.done(), self._news
            fresh = [step for key, step in self._steps.items() if seen.get(key) is not step]
            seen.update(self._steps)
            if fresh:
                yield fresh
            if done:
                self.task.result()
                return
            if not fresh:
                await news.wait()
            else:
                await asyncio.wait((self.task,), timeout=TELL_SECONDS)


class Transfers:
    """Those that run, by what they are about. Belongs to one event loop."""

    def __init__(self) -> None:
        self._running: dict[Hashable, Transfer] = {}

    async def follow(self, key: Hashable, work: Work) -> AsyncGenerator[list[Step], None]:
        """Joins what runs already under this key. Who leaves last ends it, and waits until it has
        cleaned up."""
        transfer = self._running.get(key)
        if transfer is None or transfer.task.done():
            transfer = self._running[key] = Transfer(work)
        transfer.followers += 1
        try:
            async for steps in transfer.follow():
                yield steps
        finally:
            transfer.followers -= 1
            if not transfer.followers:
                if self._running.get(key) is transfer:
                    del self._running[key]
                transfer.task.cancel()
                await asyncio.gather(transfer.task, return_exceptions=True)

    async def close(self) -> None:
        tasks = [transfer.task for transfer in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
