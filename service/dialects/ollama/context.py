"""The deprecated `context`: an answer's tokens, which a later /api/generate can go on from."""

from __future__ import annotations

from collections.abc import AsyncIterator

from service.dialects.respond import Answers
from service.events import Event, Finished, TextDelta, TokenEvent
from service.text.interpreter import Interpreter
from service.text.reasoning import ReasoningFormat


class Interpreted:
    """`respond.Answers` to a prompt given as tokens: nobody below looks for thoughts in those."""

    def __init__(self, answers: Answers, form: ReasoningFormat, inside: bool) -> None:
        self._answers = answers
        self._interpreter = Interpreter(0, form, inside)

    async def batches(self) -> AsyncIterator[list[Event]]:
        async for batch in self._answers.batches():
            yield [told for event in batch for told in self._told(event)]

    async def aclose(self) -> None:
        await self._answers.aclose()

    def _told(self, event: Event) -> list[Event]:
        if isinstance(event, TextDelta):
            tokens, last = event.tokens, 0
            token = TokenEvent(0, event.text, tokens, last, event.logprobs, event.ids)
            return [*self._interpreter.feed(token)]
        if isinstance(event, Finished):
            return [*self._interpreter.flush(), event]
        return [event]
