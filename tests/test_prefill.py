"""Answers that the client began, in every dialect that has a word for it: the demo model goes on
from the very text, and the answer is only what follows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

ASK = {"role": "user", "content": "What is 7 plus 5?"}
BEGUN = {"role": "assistant", "content": "7 plus 5 is 1"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("no-models")
    with service(folder, "--default-context-size", "2048", "--parallel-slots", "2") as running:
        yield running


@pytest.fixture(scope="module")
def http(running: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def rest(http: httpx.Client) -> str:
    """What a raw prompt in the template's own words is gone on with."""
    return gone_on(http)


def gone_on(http: httpx.Client, **template: Any) -> str:
    asked = {"messages": [ASK, BEGUN], "chat_template_kwargs": template}
    prompt = posted(http, "/apply-template", asked)["prompt"]
    assert prompt.endswith(BEGUN["content"])
    body = {"prompt": prompt, "temperature": 0, "max_tokens": 24}
    text: str = posted(http, "/v1/completions", body)["choices"][0]["text"]
    assert not text.startswith(BEGUN["content"])
    return text


def posted(http: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def chat(http: httpx.Client, path: str = "/v1/chat/completions", **body: Any) -> str:
    given = {"messages": [ASK, BEGUN], "temperature": 0, "max_tokens": 24, **body}
    text: str = posted(http, path, given)["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize("prefix", ["", "/vllm"])
def test_vllms_flag(http: httpx.Client, rest: str, prefix: str) -> None:
    flags = {"continue_final_message": True, "add_generation_prompt": False}
    path = prefix + "/v1/chat/completions"

    assert chat(http, path, **flags) == rest
    assert chat(http, path, **flags, echo=True) == BEGUN["content"] + rest
    streamed = http.post(
        path,
        json={
            "messages": [ASK, BEGUN],
            "temperature": 0,
            "max_tokens": 24,
            "stream": True,
            **flags,
        },
    )
    lines = [line[6:] for line in streamed.text.splitlines() if line.startswith("data: {")]
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert "".join(delta.get("content", "") for delta in deltas) == rest


def test_mistrals_and_deepseeks_mark(http: httpx.Client, rest: str) -> None:
    assert chat(http, messages=[ASK, {**BEGUN, "prefix": True}]) == rest


def test_llama_servers_last_message(http: httpx.Client, rest: str) -> None:
    assert chat(http, "/llama-server/v1/chat/completions") == rest


def test_anthropics_last_message(http: httpx.Client) -> None:
    """Its models think only where that is asked for."""
    rest = gone_on(http, enable_thinking=False)
    body = {"model": "demo", "messages": [ASK, BEGUN], "temperature": 0, "max_tokens": 24}
    answer = posted(http, "/v1/messages", body)

    assert [block["text"] for block in answer["content"]] == [rest]


def test_ollamas_last_message(http: httpx.Client, rest: str) -> None:
    options = {"temperature": 0, "num_predict": 24}
    body = {"model": "demo", "messages": [ASK, BEGUN], "stream": False, "options": options}

    assert posted(http, "/api/chat", body)["message"]["content"] == rest


def test_thoughts_that_were_begun_go_on_as_thoughts(http: httpx.Client) -> None:
    begun = {"role": "assistant", "reasoning": "\nI add 7 and"}
    body = {
        "messages": [ASK, begun],
        "continue_final_message": True,
        "temperature": 0,
        "max_tokens": 48,
    }
    message = posted(http, "/v1/chat/completions", body)["choices"][0]["message"]

    assert message["reasoning"]
    assert "<think>" not in message["reasoning"]


def test_a_form_holds_for_what_was_begun_and_what_follows(http: httpx.Client) -> None:
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    shape = {"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}}
    begun = {"role": "assistant", "content": '{"sum": 1'}
    text = chat(
        http,
        messages=[ASK, begun],
        continue_final_message=True,
        response_format=shape,
        max_tokens=64,
    )

    assert json.loads(begun["content"] + text)["sum"] >= 1
    wrong = {"messages": [ASK, BEGUN], "continue_final_message": True, "response_format": shape}
    assert http.post("/v1/chat/completions", json=wrong).status_code == 400
