"""The seam: a request in, its events out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from service.catalog.catalog import Catalog
from service.errors import (
    ContextOverflow,
    Draining,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    ModelUnusable,
    Overloaded,
)
from service.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
)
from service.fleet.limits import Limits
from service.generation import (
    Chat,
    GenerationRequest,
    Message,
    ResponseFormat,
    SamplingParams,
    Text,
    Tokens,
    Tool,
    ToolChoice,
)
from service.serving.preparation import prepare_chat, prepare_raw
from service.serving.runtime import Runtime
from service.settings import Settings
from service.stats import RequestStats, StepStats
from service.text.template import ChatTemplate
from tests.fleet.fakes import (
    QUICK,
    Seen,
    Shelf,
    answer,
    card,
    chat,
    lives,
    outcome,
    rest,
    running_runtime,
    until,
    write_script,
)

# As Qwen's: thoughts in tags, calls in JSON.
TEMPLATE = (
    "{% if tools %}<tool_call> {{ tools | tojson }} arguments{% endif %}"
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% if enable_thinking %}<think>{% endif %}{% endif %}"
    "{# </think> #}"
)
WEATHER = Tool("weather", parameters={"type": "object", "properties": {"city": {}}})


async def events_of(runtime: Runtime, request: GenerationRequest) -> list[Event]:
    async with aclosing(await runtime.admit(request)) as generation:
        return [event async for event in generation]


def saying(*pieces: str, **changes: Any) -> GenerationRequest:
    return replace(chat(pieces=pieces), **changes)


async def test_a_request_is_answered_and_accounted_for(tmp_path: Path) -> None:
    seen = Seen()
    async with running_runtime(write_script(tmp_path), observer=seen) as runtime:
        request = replace(chat(tokens=3), sampling=SamplingParams(max_tokens=9))
        generation = await runtime.admit(request)
        async with aclosing(generation):
            batches = [batch async for batch in generation.batches()]

    events = [event for batch in batches for event in batch]
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["t0 ", "t1 ", "t2 "]
    assert (generation.id, generation.model) == (request.id, "fake:latest")
    (stats,) = seen.finishes
    assert (stats.id, stats.model, stats.reason) == (request.id, "fake:latest", FinishReason.STOP)
    assert (stats.dialect, stats.endpoint) == ("openai", "/v1/chat/completions")
    assert stats.usage is not None
    assert stats.usage.prompt_tokens == generation.prompt_tokens > 0
    assert (stats.usage.generation_tokens, stats.max_tokens) == (3, 9)
    assert any(step.running for step in seen.steps)
    assert seen.steps[-1].running == 0


async def test_several_answers_are_one_request_in_the_accounts(tmp_path: Path) -> None:
    seen = Seen()
    async with running_runtime(write_script(tmp_path), observer=seen) as runtime:
        events = await events_of(runtime, chat(n=3, tokens=4))

    ends = [event for event in events if isinstance(event, Finished)]
    assert sorted(end.index for end in ends) == [0, 1, 2]
    (stats,) = seen.finishes
    assert stats.usage is not None
    assert stats.usage.prompt_tokens == ends[0].usage.prompt_tokens
    assert stats.usage.generation_tokens == 12


async def test_thoughts_and_calls_are_told_apart(tmp_path: Path) -> None:
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    seen = Seen()
    path = write_script(
        tmp_path,
        chat_template=TEMPLATE,
        pieces=["<think>", "hm", "</think>", "\n\nSure.", *call],
    )
    async with running_runtime(path, observer=seen) as runtime:
        request = chat()
        given = Chat((Message("user", "weather?"),), tools=(WEATHER,))
        events = await events_of(runtime, replace(request, input=given))

    assert [e.text for e in events if isinstance(e, ReasoningDelta)] == ["hm"]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)).strip() == "Sure."
    calls = [e for e in events if isinstance(e, ToolCallDelta)]
    assert calls[0].name == "weather"
    assert json.loads("".join(part.arguments for part in calls)) == {"city": "Rome"}
    end = events[-1]
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.TOOL_CALLS
    assert end.usage.reasoning_tokens == 3
    assert seen.finishes[0].reason is FinishReason.TOOL_CALLS
    assert seen.finishes[0].usage == end.usage


async def test_an_answer_may_begin_within_thoughts(tmp_path: Path) -> None:
    path = write_script(tmp_path, chat_template=TEMPLATE, pieces=["hm", "</think>", "Yes."])
    async with running_runtime(path) as runtime:
        given = Chat((Message("user", "x"),), enable_thinking=True)
        events = await events_of(runtime, replace(chat(), input=given))

    assert [type(event) for event in events] == [ReasoningDelta, TextDelta, Finished]


async def test_a_raw_prompt_gets_raw_text(tmp_path: Path) -> None:
    path = write_script(tmp_path, chat_template=TEMPLATE, pieces=["<think>", "x", "</think>"])
    async with running_runtime(path) as runtime:
        events = await events_of(runtime, replace(chat(), input=Text("once")))
        tokens = await runtime.admit(replace(chat(), input=Tokens((1, 2))))
        await rest(tokens)

    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "<think>x</think>"


async def test_a_long_conversation_is_rendered_beside_the_loop(tmp_path: Path) -> None:
    path = write_script(tmp_path, n_ctx_seq=1_000_000)
    async with running_runtime(path) as runtime:
        generation = await runtime.admit(
            replace(chat(), input=Chat((Message("user", "word " * 100_000),)))
        )
        await rest(generation)

    assert generation.prompt_tokens > 100_000


async def test_what_a_template_refuses_is_an_invalid_request(tmp_path: Path) -> None:
    path = write_script(tmp_path, chat_template="{{ raise_exception('roles must alternate') }}")
    async with running_runtime(path) as runtime:
        with pytest.raises(InvalidRequest, match="roles must alternate"):
            await runtime.admit(chat())

        assert runtime.models()[0].waiting == 0


async def test_a_forced_call_without_tools_is_an_invalid_request(tmp_path: Path) -> None:
    async with running_runtime(write_script(tmp_path)) as runtime:
        forced = Chat((Message("user", "x"),), tool_choice=ToolChoice("required"))
        with pytest.raises(InvalidRequest):
            await runtime.admit(replace(chat(), input=forced))


async def test_a_response_format_reaches_the_engine_as_a_grammar(tmp_path: Path) -> None:
    wanted = replace(chat(), response_format=ResponseFormat("json"))
    template = ChatTemplate(TEMPLATE)
    conversation = Chat((Message("user", "x"),), enable_thinking=True)

    held = prepare_chat(wanted, conversation, template, "").grammar
    raw = prepare_raw(wanted, Text("x")).grammar

    assert held is not None
    assert held.after == "</think>"
    assert raw is not None
    assert raw.after is None


@pytest.mark.parametrize(
    ("bos", "adds"), [("", True), ("<s>", True), ("user", False)], ids=["none", "other", "written"]
)
def test_a_prompt_that_begins_with_bos_gets_no_second_one(bos: str, adds: bool) -> None:
    prepared = prepare_chat(chat(), Chat((Message("user", "x"),)), ChatTemplate(TEMPLATE, bos), bos)

    assert isinstance(prepared.prompt, Text)
    assert prepared.prompt.add_special_tokens is adds


async def test_errors_come_while_there_still_is_a_status_line(tmp_path: Path) -> None:
    path = write_script(tmp_path, n_ctx_seq=10)
    async with running_runtime(path) as runtime:
        with pytest.raises(ModelNotFound):
            await runtime.admit(chat("gpt-4o"))
        with pytest.raises(ContextOverflow):
            await runtime.admit(replace(chat(), input=Text("a " * 11)))


async def test_a_bad_file_is_an_error_with_its_reason_and_is_never_loaded(tmp_path: Path) -> None:
    path = write_script(tmp_path)
    shelf = Shelf([replace(card(path), problem="holds no weights")])
    async with running_runtime(shelf=shelf) as runtime:
        with pytest.raises(ModelUnusable, match="holds no weights"):
            await runtime.admit(chat("fake"))

        (status,) = runtime.models()
        assert (status.state, status.reason) == ("failed", "holds no weights")
        assert not runtime.ready
        assert lives(path) == 0


async def test_the_default_model_is_loaded_before_anyone_asks(tmp_path: Path) -> None:
    a, b = write_script(tmp_path, "a"), write_script(tmp_path, "b")
    async with running_runtime(a, b, default_model="b") as runtime:
        assert not runtime.ready
        await until(lambda: runtime.ready)

        assert [status.state for status in runtime.models()] == ["unloaded", "ready"]
        assert (await answer(runtime, chat("tgi", tokens=1)))[0] == "t0 "
        await answer(runtime, chat("a"))
        assert [status.state for status in runtime.models()] == ["ready", "ready"]


async def test_without_a_default_among_several_models_one_has_to_be_named(tmp_path: Path) -> None:
    paths = [write_script(tmp_path, name) for name in "ab"]
    async with running_runtime(*paths) as runtime:
        assert runtime.ready
        with pytest.raises(InvalidRequest):
            await runtime.admit(chat())
        await answer(runtime, chat("b"))

        # The only loaded one, from now on.
        assert runtime.resolve(None).name == "b:latest"


async def test_before_the_first_scan_nothing_is_missing_yet() -> None:
    nothing: dict[str, Any] = {}
    runtime = Runtime(Catalog(), Settings(**nothing), Seen())

    with pytest.raises(ModelUnavailable):
        runtime.resolve("anything")
    assert not runtime.ready


async def test_the_state_of_a_model_is_there_to_see(tmp_path: Path) -> None:
    path = write_script(tmp_path, load_seconds=0.2, delay=0.01, tokens=10_000)
    limits = Limits(queue=5)
    async with running_runtime(path, limits=limits, parallel_slots=1) as runtime:
        assert runtime.models()[0].state == "loading"
        running = await runtime.admit(chat())
        waiting = await runtime.admit(chat())
        await until(lambda: running.scheduled)
        (status,) = runtime.models()

        assert (status.state, status.reason) == ("ready", None)
        assert (status.running, status.waiting, status.queue_capacity) == (1, 1, 6)
        assert status.facts is not None
        assert status.facts.architecture == "fake"
        assert not waiting.scheduled
        await running.aclose()
        await waiting.aclose()


async def test_how_far_the_prompt_is_can_be_seen(tmp_path: Path) -> None:
    async with running_runtime(write_script(tmp_path, delay=0.01)) as runtime:
        generation = await runtime.admit(chat(prefill_steps=1000))
        await until(lambda: generation.prefilled_tokens)

        assert generation.prefilled_tokens == generation.prompt_tokens
        await generation.aclose()


@pytest.mark.parametrize("reading", [True, False])
async def test_leaving_cancels_within_a_step_and_is_accounted_for_once(
    tmp_path: Path, reading: bool
) -> None:
    seen = Seen()
    path = write_script(tmp_path, delay=0.01, tokens=100_000)
    async with running_runtime(path, observer=seen) as runtime:
        generation = await runtime.admit(chat())
        async with aclosing(generation):
            if reading:
                async for _ in generation:
                    break
        await generation.aclose()
        await until(lambda: seen.finishes)
        await asyncio.sleep(0.05)

        assert [stats.reason for stats in seen.finishes] == [FinishReason.CANCELLED]
        assert runtime.models()[0].running == 0


async def test_leaving_while_the_model_loads_gives_the_place_back(tmp_path: Path) -> None:
    async with running_runtime(write_script(tmp_path, load_seconds=0.3)) as runtime:
        admitting = asyncio.create_task(runtime.admit(chat()))
        await asyncio.sleep(0.05)
        assert runtime.models()[0].waiting == 1
        admitting.cancel()
        await asyncio.wait({admitting})

        assert runtime.models()[0].waiting == 0


async def test_an_answer_that_was_not_read_to_its_end_counts_as_cancelled(tmp_path: Path) -> None:
    seen = Seen()
    async with running_runtime(write_script(tmp_path), observer=seen) as runtime:
        generation = await runtime.admit(chat(tokens=2))
        await until(lambda: runtime.models()[0].running == 0)
        await generation.aclose()

    assert [stats.reason for stats in seen.finishes] == [FinishReason.CANCELLED]


async def test_a_requests_own_time_limit_holds_if_it_is_the_shorter(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.01, tokens=100_000)
    async with running_runtime(path, request_timeout=10) as runtime:
        await answer(runtime, chat(tokens=1))
        _, (end,) = await answer(runtime, replace(chat(), timeout=0.3))
        assert end.reason is FinishReason.TIMEOUT

    async with running_runtime(path, request_timeout=2.5) as runtime:
        _, (end,) = await answer(runtime, replace(chat(), timeout=100))
        assert end.reason is FinishReason.TIMEOUT


async def test_a_full_queue_counts_requests_that_wait_for_the_load(tmp_path: Path) -> None:
    path = write_script(tmp_path, load_seconds=0.3, tokens=1)
    async with running_runtime(path, limits=Limits(queue=2), parallel_slots=1) as runtime:
        outcomes = await asyncio.gather(*(outcome(answer(runtime, chat())) for _ in range(5)))

    assert [type(each) for each in outcomes].count(Overloaded) == 2


async def test_nothing_is_admitted_while_draining(tmp_path: Path) -> None:
    async with running_runtime(write_script(tmp_path)) as runtime:
        await runtime.drain(1.0)
        with pytest.raises(Draining):
            await runtime.admit(chat())

        assert runtime.draining
        assert not runtime.ready


async def test_an_observer_that_fails_costs_no_answer(tmp_path: Path) -> None:
    class Broken:
        def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
            raise RuntimeError

        def on_finish(self, stats: RequestStats) -> None:
            raise RuntimeError

    async with running_runtime(write_script(tmp_path), observer=Broken(), limits=QUICK) as runtime:
        text, _ = await answer(runtime, chat(tokens=2))

    assert text == "t0 t1 "
