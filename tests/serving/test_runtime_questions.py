"""What a runtime is asked beside generating: vectors, tokens, loads, and how far a request is."""

from __future__ import annotations

import asyncio
import struct
import time
from contextlib import aclosing
from pathlib import Path

import pytest
from msgspec.structs import replace

from service.errors import Cancelled, ContextOverflow, ModelNotFound, OutOfTime
from service.events import FinishReason
from service.generation import Chat, EmbeddingRequest, Message, Text
from service.serving.runtime import Runtime
from tests.fleet.fakes import (
    Seen,
    answer,
    chat,
    lives,
    outcome,
    rest,
    running_runtime,
    until,
    write_script,
)


def embedding(*texts: str, model: str = "") -> EmbeddingRequest:
    inputs = tuple(map(Text, texts))
    now = time.monotonic()
    return EmbeddingRequest(f"embed-{now}", model, inputs, now, "openai", "/v1/embeddings")


def state(runtime: Runtime) -> str:
    (model,) = runtime.models()
    return model.state


async def test_every_input_has_its_vector_and_the_request_is_counted_once(tmp_path: Path) -> None:
    seen = Seen()
    async with running_runtime(write_script(tmp_path), observer=seen) as runtime:
        found = await runtime.embed(embedding("one", "one two", "one two three"))
        assert runtime.journal()[0].state == "completed"
    assert found.vectors == [struct.pack("<f", size) for size in (1, 2, 3)]
    assert (found.tokens, found.prompt_tokens) == ([1, 2, 3], 6)
    (stats,) = seen.finishes
    assert (stats.reason, stats.usage and stats.usage.prompt_tokens) == (FinishReason.STOP, 6)


async def test_a_conversation_is_embedded_as_what_its_template_makes_of_it(tmp_path: Path) -> None:
    async with running_runtime(write_script(tmp_path)) as runtime:
        asked = Chat((Message("user", "Hello there"),), add_generation_prompt=False)
        text = await runtime.render("", asked)
        found = await runtime.embed(replace(embedding("one"), inputs=(Text("one"), asked)))
    assert found.tokens == [1, len(text.split())]
    assert found.tokens[1] > 2


async def test_a_prompt_is_tokenized_as_it_would_be_generated_from(tmp_path: Path) -> None:
    async with running_runtime(write_script(tmp_path)) as runtime:
        asked = Chat((Message("user", "Hello there"),))
        found = await runtime.tokenize("", asked)
        assert found.prompt == await runtime.render("", asked)
        assert b" ".join(found.pieces).decode().split() == found.prompt.split()
        assert await runtime.detokenize("", [3, 4]) == "3 4"
        assert runtime.journal() == [], "a question is no request"
        async with aclosing(await runtime.admit(replace(chat(), input=asked))) as generation:
            assert generation.prompt_text == found.prompt


async def test_a_load_that_is_asked_for_says_what_was_loaded(tmp_path: Path) -> None:
    path = write_script(tmp_path, load_seconds=0.1)
    async with running_runtime(path) as runtime:
        status = await runtime.load("", keep_alive=-1)
        assert (status.state, status.keep_alive, status.expires) == ("ready", -1, None)
        await runtime.unload("")
        assert state(runtime) == "unloaded"
        assert isinstance(await outcome(runtime.load("nobody")), ModelNotFound)
    assert lives(path) == 1


async def test_an_idle_model_goes_when_its_time_is_over_and_comes_back(tmp_path: Path) -> None:
    path = write_script(tmp_path, tokens=1)
    async with running_runtime(path, keep_alive=0.05) as runtime:
        await answer(runtime, chat())
        await until(lambda: state(runtime) == "unloaded")
        text, _ = await answer(runtime, chat())
        assert text == "t0 "
    assert lives(path) == 2


async def test_the_last_request_says_how_long_the_model_stays(tmp_path: Path) -> None:
    path = write_script(tmp_path, tokens=1)
    async with running_runtime(path, keep_alive=0.05) as runtime:
        await answer(runtime, replace(chat(), keep_alive=60.0))
        await asyncio.sleep(0.2)
        (model,) = runtime.models()
        assert model.state == "ready"
        assert model.expires is not None
        assert 50 < model.expires - time.monotonic() <= 60
        await answer(runtime, replace(chat(), keep_alive=0.0))
        await until(lambda: state(runtime) == "unloaded")


async def test_a_model_that_works_does_not_go(tmp_path: Path) -> None:
    path = write_script(tmp_path, tokens=20, delay=0.01)
    async with running_runtime(path, keep_alive=0.0) as runtime:
        generation = await runtime.admit(chat())
        unloading = asyncio.create_task(runtime.unload(""))
        text, (end,) = await rest(generation)
        await unloading
    assert (len(text.split()), end.reason) == (20, FinishReason.STOP)
    assert lives(path) == 1


async def test_a_conversation_too_long_loses_its_oldest_turns_where_it_may(tmp_path: Path) -> None:
    path, seen = write_script(tmp_path, n_ctx_seq=60, tokens=1), Seen()
    turns = [Message("system", "rule")]
    turns += [Message("user", f"{n} " + "word " * 10) for n in range(8)]
    async with running_runtime(path, observer=seen) as runtime:
        whole = replace(chat(), input=Chat(tuple(turns)))
        assert isinstance(await outcome(runtime.admit(whole)), ContextOverflow)
        async with aclosing(await runtime.admit(replace(whole, drop_messages=True))) as generation:
            assert generation.cut_tokens > 0
            assert generation.prompt_tokens <= 45, "a quarter is left for the answer"
            lost = generation.cut_tokens + generation.prompt_tokens
            everything = await runtime.tokenize("", whole.input)  # type: ignore[arg-type]
            assert lost == len(everything.tokens), "what was cut is counted"
            await rest(generation)
    assert [stats.cut_tokens for stats in seen.finishes] == [generation.cut_tokens]


async def test_a_last_message_that_alone_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = write_script(tmp_path, n_ctx_seq=20, tokens=1)
    async with running_runtime(path) as runtime:
        long = Chat((Message("user", "hi"), Message("user", "word " * 40)))
        wanted = replace(chat(), input=long, drop_messages=True)
        assert isinstance(await outcome(runtime.admit(wanted)), ContextOverflow)


async def test_a_request_can_be_followed_from_its_queue_to_its_end(tmp_path: Path) -> None:
    path = write_script(tmp_path, slots=1, tokens=30, delay=0.01, load_seconds=0.1)
    async with running_runtime(path, parallel_slots=1) as runtime:
        wanted = [replace(chat(), id=id) for id in ("first", "second")]
        admitting = [asyncio.create_task(runtime.admit(request)) for request in wanted]
        await asyncio.sleep(0)
        assert [known.state for known in runtime.journal()] == ["loading", "loading"]
        first, second = [await task for task in admitting]
        await until(lambda: first.generated_tokens > 2)
        generating, queued = runtime.journal()
        assert (generating.state, queued.state, queued.queue_position) == (
            "generating",
            "queued",
            1,
        )
        assert 0 < generating.generated_tokens < 30
        await rest(first)
        assert runtime.cancel("second")
        _, (end,) = await rest(second)
        assert end.reason is FinishReason.CANCELLED
        done = runtime.progress("first")
        assert done is not None
        assert (done.state, done.generated_tokens, done.error) == ("completed", 30, None)
        # Its reader knows at once; its place is free once the engine has let go of it.
        await until(lambda: getattr(runtime.progress("second"), "state", "") == "cancelled")
        assert not runtime.cancel("second"), "it is over"
        assert runtime.dismiss_completed() == 2
        assert runtime.journal() == []
        assert runtime.progress("first") is not None, "it is off the list, and not forgotten"


async def test_a_refused_request_is_known_with_its_reason(tmp_path: Path) -> None:
    async with running_runtime(write_script(tmp_path)) as runtime:
        await outcome(runtime.admit(replace(chat("nobody"), id="lost")))
        known = runtime.progress("lost")
        assert known is not None
        assert (known.state, known.error) == ("error", "The model `nobody` does not exist")
        assert runtime.progress("never-heard-of") is None


@pytest.mark.parametrize("then", ["admit", "embed"])
async def test_who_waits_for_a_load_is_told_how_long_it_took(tmp_path: Path, then: str) -> None:
    path = write_script(tmp_path, load_seconds=0.2, tokens=1)
    async with running_runtime(path) as runtime:
        for expected in (True, False):
            if then == "embed":
                waited = (await runtime.embed(embedding("x"))).load_seconds
            else:
                async with aclosing(await runtime.admit(chat())) as generation:
                    waited = generation.load_seconds
            assert (waited > 0.1) is expected


async def test_an_embedding_that_the_service_ends_says_why(tmp_path: Path) -> None:
    async with running_runtime(write_script(tmp_path, embeds=False)) as runtime:
        await runtime.load("")
        failed = await outcome(runtime.embed(replace(embedding("x"), timeout=0.2)))
    assert isinstance(failed, OutOfTime)
    assert failed.message == "The request took longer than 0.2 seconds."


@pytest.mark.parametrize("then", ["admit", "embed"])
async def test_a_request_whose_model_is_still_loading_can_be_cancelled(
    tmp_path: Path, then: str
) -> None:
    seen = Seen()
    path = write_script(tmp_path, load_seconds=0.5, tokens=1)
    async with running_runtime(path, observer=seen) as runtime:
        asked = replace(chat() if then == "admit" else embedding("x"), id="mine")
        waiting = asyncio.create_task(getattr(runtime, then)(asked))
        await until(lambda: getattr(runtime.progress("mine"), "state", "") == "loading")
        assert runtime.cancel("mine")
        assert isinstance(await outcome(waiting), Cancelled)
        known = runtime.progress("mine")
        assert known is not None
        assert (known.state, known.error) == ("cancelled", "The request was cancelled.")
        assert not runtime.cancel("mine"), "it is over"
        assert runtime.models()[0].waiting == 0, "its place is free"
        assert seen.finishes == [], "what has not begun is no generation that has ended"
        text, _ = await answer(runtime, chat())
        assert text == "t0 ", "who comes next is not cancelled with it"


async def test_a_request_whose_model_waits_for_its_turn_can_be_cancelled(tmp_path: Path) -> None:
    paths = [write_script(tmp_path, name, tokens=100_000, delay=0.01) for name in ("one", "two")]
    async with running_runtime(*paths, max_loaded_models=1, default_model="one") as runtime:
        async with aclosing(await runtime.admit(chat("one"))):
            waiting = asyncio.create_task(runtime.admit(replace(chat("two"), id="mine")))
            await until(lambda: runtime.progress("mine") is not None)
            assert runtime.cancel("mine")
            assert isinstance(await outcome(waiting), Cancelled)
            assert {model.card.name: model.waiting for model in runtime.models()} == {
                "one:latest": 0,
                "two:latest": 0,
            }
    assert lives(paths[1]) == 0, "nobody wants it any more"


async def test_a_request_that_is_made_shorter_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_script(tmp_path, n_ctx_seq=60, tokens=1)
    async with running_runtime(path) as runtime:

        async def meanwhile(chat: Chat, *_: object) -> tuple[Chat, int]:
            assert runtime.cancel("mine")
            return Chat(chat.messages[-1:]), 1

        monkeypatch.setattr("service.serving.runtime.shortened", meanwhile)
        turns = Chat((Message("user", "word " * 60), Message("user", "hi")))
        wanted = replace(chat(), id="mine", input=turns, drop_messages=True)
        assert isinstance(await outcome(runtime.admit(wanted)), Cancelled)


async def test_vectors_that_are_being_made_can_be_cancelled(tmp_path: Path) -> None:
    path = write_script(tmp_path, embeds=False)
    async with running_runtime(path) as runtime:
        await runtime.load("")
        waiting = asyncio.create_task(runtime.embed(replace(embedding("x"), id="mine")))
        await until(lambda: runtime.cancel("mine"))
        assert isinstance(await outcome(waiting), Cancelled)
        known = runtime.progress("mine")
    assert known is not None
    assert known.state == "cancelled"
