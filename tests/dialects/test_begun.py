from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.requests import Request

from service.dialects.begun import begun
from service.dialects.body import ClientGone
from service.dialects.failures import GenerationFailed
from service.dialects.state import State
from service.events import Event, FinishReason, TextDelta
from service.telemetry.http import Exchange
from tests.dialects.fakes import end


class Scripted:
    """`respond.Answers` that say whether they were closed."""

    def __init__(self, *batches: list[Event]) -> None:
        self.script = batches
        self.closed = False

    async def batches(self) -> AsyncIterator[list[Event]]:
        for batch in self.script:
            yield batch

    async def aclose(self) -> None:
        self.closed = True


class Silent(Scripted):
    async def batches(self) -> AsyncIterator[list[Event]]:
        await asyncio.sleep(60)
        yield []


def request(gone: bool = False) -> Request[State]:
    async def receive() -> Any:
        if not gone:
            await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    return Request({"type": "http", "llm.exchange": Exchange("1", 0.0)}, receive)


async def test_nothing_of_an_answer_is_lost() -> None:
    script: list[list[Event]] = [[TextDelta(0, "a")], [TextDelta(0, "b")], [end()]]
    answers = await begun(request(), Scripted(*script))

    assert [batch async for batch in answers.batches()] == script


async def test_a_failure_that_comes_first_is_raised_and_the_answer_closed() -> None:
    broken = end(reason=FinishReason.ERROR, error="It broke.", code="engine_failed")
    answers, asking = Scripted([broken]), request()

    with pytest.raises(GenerationFailed, match="It broke"):
        await begun(asking, answers)

    assert answers.closed
    assert asking.scope["llm.exchange"].finished == [broken]


async def test_a_failure_that_comes_later_is_part_of_the_answer() -> None:
    broken = end(reason=FinishReason.ERROR, error="It broke.")
    answers = await begun(request(), Scripted([TextDelta(0, "a")], [broken]))

    assert [batch async for batch in answers.batches()][-1] == [broken]


async def test_who_leaves_before_the_first_word_cancels_the_rest() -> None:
    answers = Silent()

    with pytest.raises(ClientGone):
        await begun(request(gone=True), answers)

    assert answers.closed
