"""The service answers from a recording as it would from an engine, in every dialect."""

from __future__ import annotations

from bench.conversation import CHATS, TEXTS, called, long, question, said, short
from bench.dialects import cost
from bench.recorded import recorded
from bench.workloads import Held, twenty_fields


async def test_every_dialect_streams_the_recorded_answer_token_by_token() -> None:
    async with recorded() as service:
        for path, chat in CHATS.values():
            assert (await service.ask(path, chat(short(), False), said())).frames >= len(said())
            assert (await service.ask(path, chat(long(), True), called())).frames > 64
        for path, text in TEXTS.values():
            answer = await service.ask(path, text(question(short())), said())
            assert answer.frames >= len(said())


async def test_costs_are_of_a_request_and_of_a_token() -> None:
    async with recorded() as service:
        path, chat = CHATS["openai chat"]
        figures = await cost(service, path, chat(short(), False), said(), 0)

    assert figures["us per streamed token"] > 0
    assert figures["ms per request"] > 0
    assert figures["tokens"] == len(said()) >= 256


def test_a_long_conversation_has_twenty_messages_and_two_calls_with_their_results() -> None:
    turns = long()

    assert len(turns) == 20
    assert [turn.role for turn in turns if turn.call] == ["assistant", "tool"] * 2


def test_answers_are_held_to_twenty_fields_or_run_on() -> None:
    held, free = (Held(1, free, requests=1).plan("x")[0].body("m") for free in (False, True))

    assert len(twenty_fields()["required"]) == len(twenty_fields()["properties"]) == 20
    assert held["response_format"]["json_schema"]["schema"] == twenty_fields()
    assert "ignore_eos" not in held
    assert free["ignore_eos"]
    assert held["messages"] == free["messages"]
