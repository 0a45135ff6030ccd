"""OpenAI's own client against the service as a user starts it: a process, an engine, the demo model."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.dialects.serving import wait_until

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

ROOT = Path(__file__).parents[1]
MODEL = "demo:latest"
ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is 7 plus 5?"}]
ADD: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("no-models")
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--port", "0", "--log-format", "json",
         "--no-discover-models", "--state-dir", str(folder), "--model-dir", str(folder),
         "--default-context-size", "2048"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stderr is not None
    address = ""
    while not address:
        line = json.loads(process.stderr.readline())
        if line["message"].startswith("Listening on "):
            address = line["message"].removeprefix("Listening on ")
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    drain.start()
    try:
        wait_until(lambda: httpx.get(address + "/health/ready").status_code == 200, 30)
        yield address
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        drain.join(5)
        process.stderr.close()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url + "/v1", api_key="unused", max_retries=0) as client:
        yield client


def metric(url: str, name: str, *parts: str) -> float:
    rows = [row for row in series(url, name) if all(part in row for part in parts)]
    return sum(float(row.rpartition(" ")[2]) for row in rows)


def series(url: str, name: str) -> list[str]:
    lines = httpx.get(url + "/metrics").text.splitlines()
    return [line for line in lines if line.startswith(name)]


def test_a_chat_is_answered_and_accounted_for(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=24, temperature=0, reasoning_effort="none"
    )

    assert answer.model == MODEL
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 5
    assert 0 < answer.usage.completion_tokens <= 24
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_says_what_a_whole_answer_says(client: openai.OpenAI) -> None:
    given: dict[str, Any] = {
        "model": MODEL, "messages": ASK, "max_tokens": 400, "temperature": 1.0, "seed": 42,
    }  # fmt: skip
    whole = client.chat.completions.create(**given)
    with client.chat.completions.stream(**given, stream_options={"include_usage": True}) as stream:
        final = stream.get_final_completion()

    assert final.choices[0].message.content == whole.choices[0].message.content
    assert final.choices[0].finish_reason == whole.choices[0].finish_reason
    assert final.usage is not None
    assert whole.usage is not None
    assert final.usage.completion_tokens == whole.usage.completion_tokens


def test_a_prompt_that_was_seen_before_is_not_computed_again(client: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "You count sheep. " * 20},
        *ASK,
    ]
    usages = [
        client.chat.completions.create(model=MODEL, messages=messages, max_tokens=2).usage
        for _ in range(2)
    ]

    cached = [
        u.prompt_tokens_details.cached_tokens for u in usages if u and u.prompt_tokens_details
    ]
    assert cached[0] == 0
    assert (cached[1] or 0) > 50


def test_thoughts_are_kept_apart_and_counted(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=400, temperature=0, reasoning_effort="high"
    )

    message = answer.choices[0].message
    assert message.model_extra is not None
    assert message.model_extra["reasoning"] == message.model_extra["reasoning_content"] != ""
    assert "<think>" not in (message.content or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert (answer.usage.completion_tokens_details.reasoning_tokens or 0) > 1


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client: openai.OpenAI) -> None:
    given: dict[str, Any] = {"model": MODEL, "prompt": "1 2 3 4", "max_tokens": 16, "seed": 3}
    text = client.completions.create(**given).choices[0].text
    stop = text[2:4]
    stopped = client.completions.create(**given, stop=[stop]).choices[0]

    assert stopped.text == text[: text.index(stop)]
    assert stopped.finish_reason == "stop"


def test_logprobs_are_of_the_tokens_that_came(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=8,
        temperature=0,
        logprobs=True,
        top_logprobs=3,
        reasoning_effort="none",
    ).choices[0]

    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    text = b"".join(bytes(token.bytes or []) for token in tokens).decode()
    assert choice.message.content == text
    assert all(len(token.top_logprobs) == 3 for token in tokens)
    # Greedy: the sampled token is the likeliest.
    assert [token.token for token in tokens] == [token.top_logprobs[0].token for token in tokens]


def test_several_answers_come_from_one_prompt(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Tell me a story."}],
        n=3,
        max_tokens=40,
        temperature=1.5,
        seed=1,
    )

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 120


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_demanded_is_made(client: openai.OpenAI, stream: bool) -> None:
    choice: Any = {"type": "function", "function": {"name": "add"}}
    given: dict[str, Any] = {
        "model": MODEL, "messages": ASK, "tools": [ADD], "tool_choice": choice, "max_tokens": 200,
    }  # fmt: skip
    if stream:
        with client.chat.completions.stream(**given) as events:
            made = events.get_final_completion().choices[0]
    else:
        made = client.chat.completions.create(**given).choices[0]

    assert made.finish_reason == "tool_calls"
    assert made.message.tool_calls
    call = made.message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "add"
    assert json.loads(call.function.arguments).keys() == {"a", "b"}


def test_an_answer_has_the_shape_that_was_asked_for(client: openai.OpenAI) -> None:
    class Verdict(pydantic.BaseModel):
        right: bool
        colour: Literal["red", "green"]

    answer = client.chat.completions.parse(
        model=MODEL, messages=ASK, response_format=Verdict, max_tokens=200
    )

    assert isinstance(answer.choices[0].message.parsed, Verdict)


def test_a_choice_between_words_is_kept_to(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        max_tokens=20,
        reasoning_effort="none",
        extra_body={"guided_choice": ["yes", "no"]},
    )

    # White space may lead: it is where thoughts would have ended.
    assert answer.choices[0].message.content in ("yes", "no")


def test_completions_take_text_lists_and_ids(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt=["a", "b"], n=2, max_tokens=4, logprobs=2
    )
    ids = client.completions.create(model=MODEL, prompt=[5, 6, 7], max_tokens=4)

    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.token_logprobs
    assert ids.usage is not None
    assert ids.usage.prompt_tokens == 3


def test_a_prompt_can_be_scored_without_an_answer(client: openai.OpenAI) -> None:
    prompt = "What is 7 plus 5?"
    answer = client.completions.create(
        model=MODEL, prompt=prompt, max_tokens=0, echo=True, logprobs=1
    )
    (choice,) = answer.choices

    assert choice.text == prompt
    assert choice.logprobs is not None
    scores: list[Any] = [*(choice.logprobs.token_logprobs or [])]
    assert scores[0] is None
    assert all(score <= 0 for score in scores[1:])
    assert "".join(choice.logprobs.tokens or []) == prompt


def test_a_prompt_that_does_not_fit_is_told_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "many words " * 5000}]
        )

    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["n_prompt_tokens"] > caught.value.body["n_ctx"]


def test_a_model_is_listed_and_others_are_not_found(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-4o", messages=ASK)


def test_leaving_a_stream_frees_its_slot(client: openai.OpenAI, url: str) -> None:
    before = metric(url, "llm_requests_finished_total", 'finish_reason="cancelled"')
    stream = client.completions.create(
        model=MODEL, prompt="1 2 3", max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
    )
    for number, _ in enumerate(stream):
        if number == 3:
            break
    stream.close()

    def cancelled() -> bool:
        now = metric(url, "llm_requests_finished_total", 'finish_reason="cancelled"')
        return now == before + 1

    wait_until(cancelled, 5)
    wait_until(lambda: metric(url, "llm_engine_slots_busy") == 0, 5)
    assert metric(url, "llm_active_requests") == 0


def test_clients_at_the_same_time_are_answered_side_by_side(url: str) -> None:
    def ask(number: int, into: list[str]) -> None:
        body = {"prompt": f"{number} {number}", "max_tokens": 24, "seed": number}
        into.append(httpx.post(url + "/v1/completions", json=body, timeout=60).json()["object"])

    answers: list[str] = []
    threads = [threading.Thread(target=ask, args=(n, answers)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == ["text_completion"] * 8


def test_what_is_reported_adds_up(url: str) -> None:
    time.sleep(0.1)
    prompt = metric(url, "llm_prompt_tokens_total")
    lengths = metric(url, "llm_request_prompt_tokens_sum")
    first = metric(url, "llm_time_to_first_token_seconds_sum")
    whole = metric(url, "llm_request_duration_seconds_sum")

    assert prompt == lengths > 0
    assert 0 < first <= whole
    assert metric(url, "llm_engine_up", MODEL) == 1
    assert metric(url, "llm_engine_steps_total") > 0
    collectors = series(url, "llm_exporter_collector_success")
    assert {row.rpartition(" ")[2] for row in collectors} == {"1.0"}
