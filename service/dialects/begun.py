"""An answer that has begun: what fails before its first word still has a status line.

A stream with pings has to answer at once, to keep its connection. One without has nothing to send
before the first word, and clients that tell failures by their status are better served so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request

from service.dialects.failures import GenerationFailed, of_finished
from service.dialects.gone import unless_gone
from service.dialects.respond import Answers, note
from service.dialects.state import State
from service.events import Event, Finished
from service.telemetry.http import exchange_of


class Begun:
    """`respond.Answers` whose first batch is here already."""

    def __init__(
        self, answers: Answers, first: list[Event], rest: AsyncIterator[list[Event]]
    ) -> None:
        self._answers = answers
        self._first = first
        self._rest = rest

    async def batches(self) -> AsyncIterator[list[Event]]:
        yield self._first
        async for batch in self._rest:
            yield batch

    async def aclose(self) -> None:
        await self._answers.aclose()


async def begun(request: Request[State], answers: Answers) -> Begun:
    """Raises GenerationFailed where a failure comes first, ClientGone where nobody waits for it."""
    rest = answers.batches()
    try:
        first = await unless_gone(request.receive, first_of(rest))
        for event in first:
            if isinstance(event, Finished) and (failure := of_finished(event)):
                note(exchange_of(request.scope), first)
                raise GenerationFailed(failure)
    except BaseException:
        await answers.aclose()
        raise
    return Begun(answers, first, rest)


async def first_of(batches: AsyncIterator[list[Event]]) -> list[Event]:
    return await anext(batches, [])
