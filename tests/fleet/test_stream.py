from __future__ import annotations

import asyncio

import pytest

from service.engine.wire import Admitted
from service.events import (
    Finished,
    FinishReason,
    Logprob,
    Timings,
    TokenEvent,
    TokenLogprobs,
    Usage,
)
from service.fleet import endings
from service.fleet.stream import MAX_EVENTS, EngineEvent, EngineStream

DONE = Finished(0, FinishReason.STOP, Usage(3), Timings(0.0))


def stream(n: int = 1, admitted: bool = True) -> EngineStream:
    made = EngineStream(1, n, arrived=0.0, deadline=100.0)
    if admitted:
        made.admit(Admitted(1, 3))
    return made


def token(text: str = "x", index: int = 0) -> TokenEvent:
    return TokenEvent(index, text, 1, 7)


async def test_what_came_is_taken_at_once_and_in_order() -> None:
    events: list[EngineEvent] = [token("a"), token("b"), DONE]
    made = stream()
    for event in events:
        made.push(event, 1.0)

    assert await made.take() == events
    assert await made.take() == []


async def test_a_reader_waits_for_the_first_event() -> None:
    made = stream()
    reader = asyncio.create_task(made.take())
    await asyncio.sleep(0)
    made.push(token("a"), 1.0)
    made.push(token("b"), 1.0)

    assert await reader == [token("a"), token("b")]


async def test_a_reader_that_stops_waiting_loses_nothing() -> None:
    made = stream()
    reader = asyncio.create_task(made.take())
    await asyncio.sleep(0)
    reader.cancel()
    await asyncio.wait({reader})
    made.push(token("a"), 1.0)

    assert await made.take() == [token("a")]


async def test_it_is_closed_only_after_the_last_of_its_answers() -> None:
    made = stream(2)
    closed = []
    for end in (DONE, Finished(1, FinishReason.LENGTH, Usage(3), Timings(0.0))):
        made.push(end, 1.0)
        closed.append((made.closed, made.complete))

    assert closed == [(False, False), (True, True)]


async def test_events_beyond_the_limit_are_refused_and_what_was_kept_is_not_lost() -> None:
    made = stream()

    assert all(made.push(token(), 1.0) for _ in range(MAX_EVENTS))
    assert not made.push(token(), 1.0)
    made.end(endings.slow_reader(), 2.0)

    events = await made.take()
    assert len(events) == MAX_EVENTS + 1
    assert isinstance(events[-1], Finished)
    assert events[-1].code == "slow_reader"
    assert events[-1].usage == Usage(3, generation_tokens=MAX_EVENTS + 1)


async def test_text_and_logprobs_beyond_the_limit_are_refused() -> None:
    made = stream()
    assert made.push(token("x" * 200_000), 1.0)
    assert not made.push(token("x" * 200_000), 1.0)

    logprob = Logprob(1, b"x", -1.0)
    many = TokenEvent(
        0, "x", 1, 1, tuple(TokenLogprobs(logprob, (logprob,) * 20) for _ in range(50))
    )
    made = stream()
    assert [made.push(many, 1.0) for _ in range(5)] == [True, True, True, False, False]


async def test_one_event_always_fits_however_large() -> None:
    assert stream().push(token("x" * 1_000_000), 1.0)


async def test_an_end_before_admission_is_an_error() -> None:
    made = stream(admitted=False)
    ending = endings.draining()
    made.end(ending, 1.0)

    with pytest.raises(type(ending.error)):
        await made.admitted


async def test_an_end_by_the_service_says_what_the_service_saw() -> None:
    made = stream(2)
    made.push(token(index=0), 5.0)
    made.push(token(index=0), 6.0)
    made.end(endings.crashed(), 7.0)

    ends = [event for event in await made.take() if isinstance(event, Finished)]
    assert [end.index for end in ends] == [0, 1]
    assert [end.reason for end in ends] == [FinishReason.ERROR] * 2
    assert [end.usage.generation_tokens for end in ends] == [2, 0]
    assert ends[0].timings == Timings(0.0, None, 5.0, 6.0, 7.0)
    assert await made.take() == []


async def test_what_the_engine_says_after_the_end_is_kept_for_the_accounts_only() -> None:
    made = stream()
    made.push(token(), 1.0)
    made.end(endings.out_of_time(3), 2.0)
    made.drop()
    engine = Finished(0, FinishReason.CANCELLED, Usage(3, 2, 9), Timings(0.1, 0.2))
    made.push(token(), 3.0)
    made.push(engine, 3.0)

    assert await made.take() == []
    assert made.finished[0].reason == FinishReason.TIMEOUT
    assert made.finished[0].usage == Usage(3, 2, 9)
    assert made.finished[0].timings == Timings(0.1, 0.2)
    assert made.complete


async def test_what_nobody_takes_has_an_age() -> None:
    made = stream()
    ages = [made.untaken_since]
    for now in (5.0, 6.0):
        made.push(token(), now)
        ages.append(made.untaken_since)
    await made.take()

    assert [*ages, made.untaken_since] == [None, 5.0, 5.0, None]
