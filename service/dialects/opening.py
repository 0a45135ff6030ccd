"""A stream that begins before its first token: the encoder is asked once with nothing to encode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from service.dialects.respond import Answers
from service.events import Event


class Opening:
    """`respond.Answers` with an empty batch in front, for dialects whose first frame has no text.

    `closed` is called at the end, however it came.
    """

    def __init__(self, answers: Answers, closed: Callable[[], None] | None = None) -> None:
        self._answers = answers
        self._closed = closed

    async def batches(self) -> AsyncIterator[list[Event]]:
        yield []
        async for batch in self._answers.batches():
            yield batch

    async def aclose(self) -> None:
        await self._answers.aclose()
        if self._closed is not None:
            self._closed()
