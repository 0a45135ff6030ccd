"""How far a prompt is, told in the stream that waits for its answer: llama-server's
`return_progress`. Nothing of it is on the wire unless it was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

from service.dialects.gone import ended
from service.dialects.respond import Answers
from service.events import Event

if TYPE_CHECKING:
    from service.serving.runtime import Progress

LOOK_SECONDS: Final = 0.25


class Watched:
    """`respond.Answers` that look up what goes on until the first batch is here.

    `tell` gives the encoder what there is to say, which it says with the empty batch that follows.
    """

    def __init__(
        self,
        answers: Answers,
        look: Callable[[], Progress | None],
        tell: Callable[[Progress], None],
        seconds: float = LOOK_SECONDS,
    ) -> None:
        self._answers = answers
        self._look = look
        self._tell = tell
        self._seconds = seconds
        self._told: dict[str, Any] = {}

    async def batches(self) -> AsyncIterator[list[Event]]:
        batches = self._answers.batches()
        first: asyncio.Future[list[Event] | None] = asyncio.ensure_future(first_of(batches))
        try:
            while not first.done():
                if self._has_news():
                    yield []
                await asyncio.wait({first}, timeout=self._seconds)
        finally:
            await ended(first)
        if (batch := first.result()) is None:
            return
        yield batch
        async for batch in batches:
            yield batch

    async def aclose(self) -> None:
        await self._answers.aclose()

    def _has_news(self) -> bool:
        progress = self._look()
        if progress is None:
            return False
        said = encode_progress(progress)
        moved = {key: value for key, value in said.items() if key != "prompt_progress"} | {
            key: value for key, value in said["prompt_progress"].items() if key != "time_ms"
        }
        if moved == self._told:
            return False
        self._told = moved
        self._tell(progress)
        return True


async def first_of(batches: AsyncIterator[list[Event]]) -> list[Event] | None:
    return await anext(batches, None)


def encode_progress(progress: Progress) -> dict[str, Any]:
    """`time_ms` is since the request arrived. What is not known is absent."""
    counts = {
        "total": progress.prompt_tokens,
        "cache": progress.cached_tokens,
        "processed": progress.processed_tokens,
        "time_ms": round((progress.updated - progress.started) * 1000),
    }
    said: dict[str, Any] = {
        "prompt_progress": {key: value for key, value in counts.items() if value is not None}
    }
    if progress.queue_position is not None:
        said["queue_position"] = progress.queue_position
    if progress.load_fraction is not None and progress.load_fraction < 1:
        said["load_progress"] = round(progress.load_fraction * 100)
    return said
