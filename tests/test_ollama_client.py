"""Ollama's own client against the service as a user starts it: a process, an engine, the demo model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pytest

from tests.dialects.serving import wait_until
from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

MODEL = "demo:latest"
ASK = [{"role": "user", "content": "What is 7 plus 5?"}]
ADD: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("no-models")
    with service(folder, "--default-context-size", "2048", "--parallel-slots", "2") as running:
        yield running


@pytest.fixture(scope="module")
def client(running: Service) -> Iterator[ollama.Client]:
    with ollama.Client(host=running.url) as client:
        yield client


def test_models_are_listed_and_shown(client: ollama.Client) -> None:
    (listed,) = client.list().models
    shown = client.show(MODEL)

    assert (listed.model, len(listed.digest or "")) == (MODEL, 64)
    assert listed.size is not None
    assert listed.size > 1_000_000
    assert shown.modelinfo is not None
    architecture = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{architecture}.context_length"] > 0
    assert "completion" in (shown.capabilities or ())
    assert shown.template
    assert shown.modelfile


def test_a_chat_streams_and_counts(client: ollama.Client) -> None:
    parts = list(client.chat(MODEL, ASK, stream=True, options={"num_predict": 8, "seed": 1}))
    last = parts[-1]

    assert all(part.message.role == "assistant" for part in parts)
    assert last.done
    assert last.done_reason in ("stop", "length")
    assert 0 < (last.eval_count or 0) <= 8
    assert (last.prompt_eval_count or 0) > 5
    assert (last.total_duration or 0) > 1e6
    assert (last.prompt_eval_duration or 0) > 1000
    assert (last.load_duration or 0) >= 1


def test_a_stream_says_what_a_whole_answer_says(client: ollama.Client) -> None:
    options = {"seed": 42, "num_predict": 40}
    whole = client.chat(MODEL, ASK, options=options)
    parts = client.chat(MODEL, ASK, options=options, stream=True)

    assert "".join(part.message.content or "" for part in parts) == whole.message.content


def test_every_sampled_token_has_its_log_probability(client: ollama.Client) -> None:
    options = {"num_predict": 10, "temperature": 0}
    answer = client.generate(
        MODEL, "Count.", raw=True, logprobs=True, top_logprobs=3, options=options
    )

    assert answer.logprobs is not None
    assert len(answer.logprobs) == answer.eval_count
    assert all(len(token.top_logprobs or ()) == 3 for token in answer.logprobs)
    assert answer.context is None


def test_thoughts_are_where_they_are_asked_for(client: ollama.Client) -> None:
    options = {"temperature": 0, "num_predict": 200}
    apart = client.chat(MODEL, ASK, think=True, options=options).message
    inline = client.chat(MODEL, ASK, options=options).message
    without = client.chat(MODEL, ASK, think=False, options=options).message

    assert apart.thinking
    assert "<think>" not in (apart.content or "")
    assert (inline.content or "").startswith("<think>")
    assert inline.thinking is None
    assert without.thinking is None
    assert "<think>" not in (without.content or "")


def test_a_format_is_kept(client: ollama.Client) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    given: dict[str, Any] = {"think": False, "options": {"num_predict": 100, "temperature": 0}}
    answer = client.chat(MODEL, ASK, format=schema, **given)

    if answer.done_reason == "stop":
        assert isinstance(json.loads(answer.message.content or "")["sum"], int)
    assert (answer.message.content or "").lstrip().startswith("{")


def test_tools_are_offered_and_their_answers_taken(client: ollama.Client) -> None:
    given: dict[str, Any] = {
        "tools": [ADD],
        "think": False,
        "options": {"temperature": 0, "num_predict": 100},
    }
    first = client.chat(MODEL, [{"role": "user", "content": "Add 2 and 3 with the tool."}], **given)
    for call in first.message.tool_calls or ():
        assert isinstance(call.function.arguments, dict)
    conversation: list[dict[str, Any]] = [
        {"role": "user", "content": "Add 2 and 3."},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 2, "b": 3}}}]},
        {"role": "tool", "tool_name": "add", "content": "5"},
    ]  # fmt: skip

    assert client.chat(MODEL, conversation, **given).done


def test_a_context_is_gone_on_from(client: ollama.Client) -> None:
    options = {"num_predict": 5, "temperature": 0}
    first = client.generate(MODEL, "My name is Ann.", options=options)
    assert first.context
    second = client.generate(MODEL, "Hello again.", context=first.context, options=options)

    assert second.context is not None
    assert list(second.context)[: len(first.context)] == list(first.context)
    # All of it but what follows is in the prefix cache.
    raw = client.generate(MODEL, "Hello again.", context=first.context, options=options)
    assert (raw.prompt_eval_count or 0) > len(first.context)


def test_a_gap_is_filled(running: Service) -> None:
    body = {
        "model": MODEL,
        "prompt": "1 2",
        "suffix": "5",
        "stream": False,
        "options": {"num_predict": 4},
    }
    response = httpx.post(f"{running.url}/api/generate", json=body, timeout=30)

    assert response.status_code == 200, response.text


def test_a_prompt_that_is_too_long_is_cut_and_reported(running: Service) -> None:
    long = "sheep " * 3000
    turns = [{"role": "user", "content": f"{n}: {'sheep ' * 150}"} for n in range(12)]
    options = {"num_predict": 4}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/api/generate", {"prompt": long}),
        ("/api/generate", {"prompt": long, "raw": True}),
        ("/api/chat", {"messages": [{"role": "user", "content": long}]}),
        ("/api/chat", {"messages": [*turns, *ASK]}),
    ]
    with httpx.Client(base_url=running.url, timeout=60) as http:
        for path, body in bodies:
            asked = {"model": MODEL, "stream": False, "options": options, **body}
            response = http.post(path, json=asked)
            answer = response.json()
            cut = int(response.headers["x-prompt-truncated"])
            assert answer["prompt_truncated"] is True, path
            assert answer["prompt_original_count"] == answer["prompt_eval_count"] + cut
            assert answer["prompt_eval_count"] < 2048
            refused = http.post(path, json={**asked, "truncate": False})
            assert refused.status_code == 400
            assert refused.json()["error"] == "the input length exceeds the context length"


def test_what_is_rendered_is_shown(running: Service) -> None:
    body = {"model": MODEL, "messages": ASK, "_debug_render_only": True}
    shown = httpx.post(f"{running.url}/api/chat", json=body, timeout=30).json()

    assert "What is 7 plus 5?" in shown["_debug_info"]["rendered_template"]


def test_texts_become_vectors_of_length_one(client: ollama.Client) -> None:
    answer = client.embed(MODEL, ["seven", "eight nine"])

    assert len(answer.embeddings) == 2
    assert all(abs(sum(x * x for x in vector) - 1) < 1e-3 for vector in answer.embeddings)
    assert answer.prompt_eval_count


def test_a_running_request_is_followed_and_cancelled(running: Service) -> None:
    # A list that may not end early, whatever the model thinks of it.
    endless = {"type": "array", "items": {"type": "integer"}, "minItems": 1500}
    body = {"model": MODEL, "prompt": "Count.", "raw": True, "format": endless}
    written: list[str] = []

    def ask() -> None:
        headers = {"X-Request-Id": "long-one"}
        with httpx.stream(
            "POST", f"{running.url}/api/generate", json=body, headers=headers, timeout=60
        ) as answer:
            written.extend(answer.iter_lines())

    asking = threading.Thread(target=ask)
    asking.start()
    with httpx.Client(base_url=running.url) as http:
        wait_until(lambda: http.get("/api/progress/long-one").json().get("progress", 0) > 0)
        (entry,) = [
            e for e in http.get("/api/requests").json()["requests"] if e["request_id"] == "long-one"
        ]
        assert (entry["status"], entry["api_format"]) == ("generating", "ollama_generate")
        http.post("/api/cancel/long-one")
        asking.join(10)
        wait_until(lambda: http.get("/api/progress/long-one").json()["status"] == "cancelled")

    assert json.loads(written[-1]) == {"error": "request canceled"}


def test_a_model_is_unloaded_and_loaded_again(client: ollama.Client) -> None:
    client.generate(MODEL, "", keep_alive=0)
    assert client.ps().models == []

    loaded = client.generate(MODEL, "", keep_alive="1h")
    (model,) = client.ps().models

    assert loaded.done_reason == "load"
    assert (model.context_length or 0) > 0
    assert client.generate(MODEL, "hi", options={"num_predict": 2}, keep_alive=0).done
    wait_until(lambda: client.ps().models == [])
