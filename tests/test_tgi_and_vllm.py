"""TGI's and vLLM's dialects against the demo model: what only a real engine can show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import ValidationError

from tests.service_process import Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

HI: Any = [{"role": "user", "content": "What is 2 + 3?"}]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("state")
    with service(folder) as started:
        yield started


@pytest.fixture
def hub(running: Service) -> InferenceClient:
    return InferenceClient(running.url + "/tgi", provider="hf-inference")


@pytest.fixture
def http(running: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as client:
        yield client


def prompt(http: httpx.Client) -> str:
    """A chat as the model's own template writes it: what it answers with its end token."""
    text: str = http.post("/chat_tokenize", json={"messages": HI}).json()["templated_text"]
    return text


def test_a_streams_tokens_are_the_texts_tokens(hub: InferenceClient, http: httpx.Client) -> None:
    text = prompt(http)
    whole = hub.text_generation(text, max_new_tokens=200, details=True)
    events = list(hub.text_generation(text, max_new_tokens=200, details=True, stream=True))

    assert whole.details is not None
    assert [event.token.id for event in events] == [token.id for token in whole.details.tokens]
    assert [event.index for event in events] == list(range(1, len(events) + 1))
    shown = "".join(event.token.text for event in events if not event.token.special)
    assert shown == whole.generated_text == events[-1].generated_text
    assert whole.details.finish_reason == "eos_token"
    assert events[-1].token.special
    assert whole.details.generated_tokens == len(events)
    assert whole.details.seed is None


def test_the_length_ends_a_text_before_its_end_token_does(hub: InferenceClient) -> None:
    answer = hub.text_generation("hi", max_new_tokens=3, details=True)

    assert answer.details is not None
    assert answer.details.finish_reason in ("length", "eos_token")
    assert len(answer.details.tokens) == answer.details.generated_tokens <= 3


def test_a_prompts_tokens_have_the_likelihood_that_the_model_gives_them(
    hub: InferenceClient, http: httpx.Client
) -> None:
    answer = hub.text_generation(
        "Hello there", max_new_tokens=2, details=True, decoder_input_details=True
    )
    tokens = http.post("/tokenize", json={"inputs": "Hello there"}).json()

    assert answer.details is not None
    prefill: Any = answer.details.prefill
    assert [token.id for token in prefill] == [token["id"] for token in tokens]
    assert prefill[0].logprob is None
    assert all(token.logprob <= 0 for token in prefill[1:])


def test_the_stop_string_ends_the_text_and_is_in_it(
    hub: InferenceClient, http: httpx.Client
) -> None:
    text = prompt(http)
    whole = hub.text_generation(text, max_new_tokens=200)
    stop = whole[len(whole) // 2 :][:3]
    answer = hub.text_generation(text, max_new_tokens=200, stop=[stop], details=True)

    assert answer.generated_text == whole[: whole.index(stop) + len(stop)]
    assert answer.details is not None
    assert answer.details.finish_reason == "stop_sequence"


def test_the_seed_that_comes_back_makes_the_same_text(hub: InferenceClient) -> None:
    first = hub.text_generation("Once", max_new_tokens=12, do_sample=True, details=True)
    assert first.details is not None
    assert first.details.seed is not None
    again = hub.text_generation("Once", max_new_tokens=12, do_sample=True, seed=first.details.seed)

    assert again == first.generated_text


def test_the_best_of_two_is_one_of_two(hub: InferenceClient) -> None:
    answer = hub.text_generation("Once", max_new_tokens=8, best_of=2, temperature=1.5, details=True)

    assert answer.details is not None
    assert len(answer.details.best_of_sequences or []) == 1


def test_a_schema_holds_the_text(hub: InferenceClient) -> None:
    value = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    grammar: Any = {"type": "json", "value": value}
    assert hub.text_generation("hi", max_new_tokens=60, grammar=grammar).lstrip().startswith("{")


def test_what_does_not_fit_is_refused(hub: InferenceClient) -> None:
    with pytest.raises(ValidationError, match="must be <="):
        hub.text_generation("hi", max_new_tokens=10_000_000)


def test_only_the_end_of_a_long_prompt_is_kept_where_that_is_allowed(http: httpx.Client) -> None:
    body = {"inputs": "word " * 50, "parameters": {"max_new_tokens": 1, "truncate": 10}}
    response = http.post("/generate", json=body)

    assert response.headers["x-prompt-tokens"] == "10"
    assert int(response.headers["x-prompt-truncated"]) > 30


def test_tokens_go_there_and_back(http: httpx.Client) -> None:
    text = "Grüße, 世界! 😀"
    found = http.post("/tokenize", json={"prompt": text, "add_special_tokens": False}).json()
    back = http.post("/detokenize", json={"tokens": found["tokens"]}).json()

    assert back["prompt"].strip() == text
    assert found["count"] == len(found["tokens"])


def test_ids_of_prompt_and_answer_are_the_tokenizers(http: httpx.Client) -> None:
    body = {"messages": HI, "temperature": 0, "return_token_ids": True, "max_tokens": 200}
    answer = http.post("/vllm/v1/chat/completions", json=body).json()
    counted = http.post("/vllm/tokenize", json={"messages": HI}).json()

    assert answer["prompt_token_ids"] == counted["tokens"]
    assert len(answer["choices"][0]["token_ids"]) == answer["usage"]["completion_tokens"]
    assert answer["metrics"]["time_to_first_token_ms"] > 0


def test_a_token_that_a_stop_string_swallows_is_sampled_all_the_same(http: httpx.Client) -> None:
    body = {"prompt": "1, 2, 3,", "temperature": 0, "max_tokens": 40, "stop": ["6"]}
    body |= {"return_token_ids": True}
    whole = http.post("/v1/completions", json=body).json()
    lines = http.post("/v1/completions", json={**body, "stream": True}).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if "choices" in line]

    (choice,) = whole["choices"]
    assert choice["text"].endswith(" ")
    assert "6" not in choice["text"]
    assert len(choice["token_ids"]) == whole["usage"]["completion_tokens"]
    assert [id for chunk in chunks for id in chunk["choices"][0]["token_ids"]] == choice[
        "token_ids"
    ]


def test_no_other_token_is_sampled_than_those_allowed(http: httpx.Client) -> None:
    (a, *_) = http.post("/tokenize", json={"prompt": "a", "add_special_tokens": False}).json()[
        "tokens"
    ]
    body = {"prompt": "x", "allowed_token_ids": [a], "max_tokens": 4, "return_token_ids": True}
    answer = http.post("/v1/completions", json=body).json()

    assert set(answer["choices"][0]["token_ids"]) == {a}


def test_several_conversations_are_answered_at_once(http: httpx.Client) -> None:
    body = {"messages": [HI, HI], "temperature": 0, "max_tokens": 100}
    first, second = http.post("/v1/chat/completions/batch", json=body).json()["choices"]

    assert first["message"]["content"] == second["message"]["content"]


@pytest.mark.parametrize("model", ["tgi", "dummy", None])
def test_words_for_no_model_mean_the_one_that_is_here(
    http: httpx.Client, model: str | None
) -> None:
    body = {"messages": HI, "model": model, "max_tokens": 1}
    answer = http.post("/tgi/v1/chat/completions", json=body).json()

    assert answer["model"] == "demo:latest"


@pytest.mark.parametrize(
    "constraint",
    [{"guided_choice": ["yes", "no"]}, {"structured_outputs": {"regex": "(yes|no)"}}],
)
def test_a_constraint_holds_under_its_old_name_and_its_new(
    http: httpx.Client, constraint: dict[str, Any]
) -> None:
    body = {"messages": HI, "max_tokens": 500, "n": 8, "seed": 1, **constraint}
    answer = http.post("/vllm/v1/chat/completions", json=body).json()

    for choice in answer["choices"]:
        assert choice["message"]["content"] in ("yes", "no")


def test_a_budget_of_thoughts_under_each_name_for_it(http: httpx.Client) -> None:
    asked = {"messages": [{"role": "user", "content": "What is 7 plus 5?"}], "temperature": 0}
    thoughts = {"chat_template_kwargs": {"enable_thinking": True}, "max_tokens": 64}
    free = http.post("/vllm/v1/chat/completions", json={**asked, **thoughts}).json()
    whole = free["choices"][0]["message"]["reasoning"]
    for name in ("thinking_token_budget", "reasoning_budget_tokens"):
        answer = http.post("/v1/chat/completions", json={**asked, **thoughts, name: 4})
        message = answer.json()["choices"][0]["message"]
        assert "x-ignored-params" not in answer.headers
        assert 0 < len(message["reasoning"]) < len(whole)
        assert message["content"].endswith("12.")
    body = {"model": "demo", **asked, "max_tokens": 64}
    thinking = {"type": "enabled", "budget_tokens": 4}
    blocks = http.post("/v1/messages", json={**body, "thinking": thinking}).json()["content"]
    assert blocks[0]["thinking"] == message["reasoning"]


def test_bad_words_and_salts_do_what_they_say(http: httpx.Client) -> None:
    asked = {"prompt": prompt(http), "temperature": 0, "max_tokens": 24}
    path = "/vllm/v1/completions"
    usual = http.post(path, json=asked).json()["choices"][0]["text"]
    banned = http.post(path, json={**asked, "bad_words": ["5"]}).json()["choices"][0]["text"]
    assert "5" in usual
    assert "5" not in banned

    def cached(salt: str) -> int:
        long = {**asked, "prompt": "Count from 1 to 9. " * 8, "max_tokens": 4}
        answer = http.post(path, json={**long, "cache_salt": salt}).json()
        count: int = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        return count

    assert [cached("mine"), cached("yours")] == [0, 0]
    assert cached("mine") > 0


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/chat/completions", {"messages": HI}),
        ("/vllm/v1/completions", {"prompt": "x"}),
        ("/llama-server/completion", {"prompt": "x"}),
    ],
)
def test_an_end_that_the_model_has_not_is_refused_and_the_model_goes_on(
    http: httpx.Client, path: str, asked: dict[str, Any]
) -> None:
    body = asked | {"temperature": 0, "min_tokens": 1, "stop_token_ids": [2_000_000]}
    answer = http.post(path, json=body)

    assert answer.status_code == 400
    assert "token ids must be in 0.." in answer.json()["error"]["message"]
    assert http.post(path, json=asked | {"max_tokens": 1}).status_code == 200
