"""Anthropic's client, what is newer of OpenAI's, and llama-server's paths: against the service as
a user starts it, with a process, an engine and the demo model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types import MessageParam, ToolParam
from openai.types.responses import FunctionToolParam

from tests.dialects.serving import wait_until
from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

MODEL = "demo:latest"
ASK: list[MessageParam] = [{"role": "user", "content": "What is 7 plus 5?"}]
SCHEMA: dict[str, object] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}
ADD: ToolParam = {"name": "add", "description": "Adds two numbers.", "input_schema": SCHEMA}
ADD_FUNCTION: FunctionToolParam = {
    "type": "function",
    "name": "add",
    "description": "Adds two numbers.",
    "parameters": SCHEMA,
    "strict": True,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("no-models")
    with service(folder, "--default-context-size", "2048", "--parallel-slots", "2") as running:
        yield running


@pytest.fixture(scope="module")
def claude(running: Service) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.url, api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def client(running: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url + "/v1", api_key="x", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def http(running: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as client:
        yield client


def test_a_message_whole_and_streamed_is_the_same(claude: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {
        "model": MODEL, "messages": ASK, "max_tokens": 24,
        "extra_body": {"temperature": 0},
    }  # fmt: skip
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        final = stream.get_final_message()
    counted = claude.messages.count_tokens(model=MODEL, messages=ASK)

    (block,) = whole.content
    assert block.type == "text"
    assert block.text == "".join(b.text for b in final.content if b.type == "text") != ""
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    usage = final.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted.input_tokens
    assert (usage.cache_read_input_tokens or 0) > 0


def test_thoughts_are_a_block_of_their_own(claude: anthropic.Anthropic) -> None:
    answer = claude.messages.create(
        model=MODEL,
        messages=ASK,
        max_tokens=400,
        extra_body={"temperature": 0},
        thinking={"type": "adaptive"},
    )

    thought = answer.content[0]
    assert thought.type == "thinking"
    assert thought.thinking
    assert all("<think>" not in block.text for block in answer.content if block.type == "text")


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_that_is_demanded_is_used(claude: anthropic.Anthropic, stream: bool) -> None:
    asked: dict[str, Any] = {
        "model": MODEL, "messages": ASK, "max_tokens": 200, "tools": [ADD],
        "tool_choice": {"type": "tool", "name": "add", "disable_parallel_tool_use": True},
    }  # fmt: skip
    if stream:
        with claude.messages.stream(**asked) as events:
            answer: Any = events.get_final_message()
    else:
        answer = claude.messages.create(**asked)

    (use,) = [block for block in answer.content if block.type == "tool_use"]
    assert use.name == "add"
    assert use.input.keys() == {"a", "b"}
    assert answer.stop_reason == "tool_use"


def test_a_stop_sequence_is_named(claude: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {
        "model": MODEL, "messages": ASK, "max_tokens": 24,
        "extra_body": {"temperature": 0},
    }  # fmt: skip
    block = claude.messages.create(**asked).content[0]
    assert block.type == "text"
    stop = block.text[1:3]
    answer = claude.messages.create(**asked, stop_sequences=[stop])

    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", stop)


def test_a_response_whole_and_streamed_is_the_same_and_goes_on(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL, "input": "What is 7 plus 5?", "max_output_tokens": 24, "temperature": 0,
        "reasoning": {"effort": "none"},
    }  # fmt: skip
    whole = client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        final = [event for event in stream if event.type.startswith("response.")][-1]
    later = client.responses.create(
        **{**asked, "input": "And again?"}, previous_response_id=whole.id
    )
    counted = client.responses.input_tokens.count(model=MODEL, input="What is 7 plus 5?")

    assert whole.output_text
    assert final.type in ("response.completed", "response.incomplete")
    assert final.response.output_text == whole.output_text
    assert whole.usage is not None
    assert later.usage is not None
    assert later.usage.input_tokens > whole.usage.input_tokens + whole.usage.output_tokens - 2
    assert counted.input_tokens > 5
    assert client.responses.retrieve(later.id).output_text == later.output_text


def test_a_function_that_is_demanded_is_called_in_a_response(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        model=MODEL,
        input="What is 7 plus 5?",
        tools=[ADD_FUNCTION],
        tool_choice="required",
        max_output_tokens=200,
        reasoning={"effort": "none"},
    )

    (call,) = [item for item in answer.output if item.type == "function_call"]
    assert call.name == "add"
    assert json.loads(call.arguments).keys() == {"a", "b"}


def test_a_response_is_cancelled_and_its_slot_is_free(
    client: openai.OpenAI, running: Service
) -> None:
    stream = client.responses.create(
        model=MODEL,
        input="Tell me a story.",
        stream=True,
        extra_body={"ignore_eos": True},
    )
    first = next(iter(stream))
    assert first.type == "response.created"
    assert client.responses.cancel(first.response.id).status == "cancelled"
    last = list(stream)[-1]

    assert last.type == "response.failed"
    assert last.response.status == "cancelled"
    wait_until(running.at_rest)


def test_vectors_have_length_one_and_differ_with_the_text(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input=["one", "two", "one"])
    first, second, third = [entry.embedding for entry in answer.data]

    assert sum(x * x for x in first) == pytest.approx(1, abs=1e-3)
    assert first == pytest.approx(third, abs=1e-3)
    assert first != pytest.approx(second, abs=1e-2)
    assert answer.usage.prompt_tokens > 0


def test_a_gap_is_filled_in(client: openai.OpenAI, http: httpx.Client) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="one two ", suffix=" four five", max_tokens=8, temperature=0
    )
    native = http.post(
        "/infill",
        json={
            "input_prefix": "one two ",
            "input_suffix": " four five",
            "n_predict": 8,
            "temperature": 0,
        },
    ).json()

    assert answer.choices[0].text == native["content"]
    assert "one two " in native["prompt"]


def test_the_best_of_several_is_one(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="1 2 3", best_of=3, n=1, max_tokens=4, temperature=1.0, seed=1
    )

    assert len(answer.choices) == 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 4


def test_a_completion_of_llama_servers_whole_and_streamed(http: httpx.Client) -> None:
    asked = {
        "prompt": "1 2 3 4", "n_predict": 6, "temperature": 0, "return_tokens": True, "n_probs": 2,
    }  # fmt: skip
    whole = http.post("/completion", json=asked).json()
    text = http.post("/completion", json={**asked, "stream": True}).text
    chunks = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n")[:-1]]
    tokens = http.post("/llama-server/tokenize", json={"content": "1 2 3 4"}).json()["tokens"]
    ids = http.post("/completion", json={**asked, "prompt": tokens}).json()

    assert whole["content"]
    assert whole["tokens_predicted"] == len(whole["tokens"]) == 6
    assert len(whole["completion_probabilities"]) == 6
    assert "".join(chunk["content"] for chunk in chunks) == whole["content"]
    assert [token for chunk in chunks for token in chunk["tokens"]] == whole["tokens"]
    assert chunks[-1]["stop"] is True
    assert (ids["content"], ids["prompt"]) == (whole["content"], "1 2 3 4")


def test_what_llama_server_says_of_models_and_slots(http: httpx.Client) -> None:
    props = http.get("/props").json()
    slots = http.get("/slots").json()

    assert props["total_slots"] == len(slots) == 2
    assert not any(slot["is_processing"] for slot in slots)
    assert http.get("/running").json()["running"][0]["model"] == MODEL
    rendered = http.post("/apply-template", json={"messages": ASK}).json()["prompt"]
    assert "What is 7 plus 5?" in rendered


def test_an_option_of_ollamas_and_how_far_the_prompt_is(http: httpx.Client) -> None:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is 7 plus 5? " * 60}],
        "options": {"num_predict": 3, "num_ctx": 512},
        "stream": True,
        "return_progress": True,
        "stream_options": {"include_usage": True},
    }
    response = http.post("/v1/chat/completions", json=body)
    chunks = [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n")[:-2]]

    assert "x-ignored-params" not in response.headers
    assert chunks[-1]["usage"]["completion_tokens"] <= 3
    told = [chunk["prompt_progress"] for chunk in chunks if "prompt_progress" in chunk]
    assert all(said["total"] > 60 for said in told)


def test_a_model_is_unloaded_and_loaded_again(http: httpx.Client) -> None:
    assert http.post("/models/unload", json={"model": MODEL}).json() == {"success": True}
    assert http.get("/running").json() == {"running": []}
    assert http.post("/models/load", json={"model": MODEL}).json() == {"success": True}
    (model,) = http.get("/models").json()["data"]

    assert model["status"] == {"value": "loaded"}


def test_who_subscribes_to_models_is_told_of_them(http: httpx.Client) -> None:
    with http.stream("GET", "/models/sse") as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith(":")
        httpx.post(f"{http.base_url}/models/unload", json={"model": MODEL}, timeout=60)
        httpx.post(f"{http.base_url}/models/load", json={"model": MODEL}, timeout=60)
        statuses: list[str] = []
        while not statuses or statuses[-1] != "loaded":
            line = next(lines)
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                assert event["model"] == MODEL
                statuses.append(event["data"]["status"])

    assert statuses[-1] == "loaded"


def test_coheres_vectors_are_those_of_openais_endpoint(http: httpx.Client) -> None:
    texts = ["red", "blue and green"]
    ours = http.post("/v1/embeddings", json={"input": texts}).json()["data"]
    theirs = http.post("/v2/embed", json={"texts": texts, "truncate": "NONE"}).json()

    assert theirs["embeddings"]["float"] == [row["embedding"] for row in ours]
