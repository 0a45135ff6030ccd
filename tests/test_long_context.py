"""A model's context is as long as its file says: no 4096 that nobody asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.long_model import CONTEXT, long_model
from tests.service_process import Service, service

LONG = 100_000


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("models")
    long_model(folder / "long.gguf")
    with service(folder) as started:
        yield started


def complete(running: Service, tokens: int, **more: Any) -> httpx.Response:
    body = {"model": "long", "prompt": [tokens % 256] * tokens, "max_tokens": 4, **more}
    return httpx.post(f"{running.url}/v1/completions", json=body, timeout=300)


def test_before_it_is_loaded_its_length_is_that_of_the_file(running: Service) -> None:
    shown = httpx.post(f"{running.url}/api/show", json={"model": "long"}).json()
    [listed] = [
        m for m in httpx.get(f"{running.url}/v1/models").json()["data"] if "long" in m["id"]
    ]

    assert shown["model_info"]["llama.context_length"] == CONTEXT
    assert listed["max_model_len"] == CONTEXT


@pytest.mark.timeout(400)
def test_a_prompt_of_a_hundred_thousand_tokens_runs_through_it(running: Service) -> None:
    answer = complete(running, LONG, ignore_eos=True).json()

    assert answer["usage"]["prompt_tokens"] == LONG
    assert answer["usage"]["completion_tokens"] == 4
    [loaded] = httpx.get(f"{running.url}/api/ps").json()["models"]
    assert loaded["context_length"] == CONTEXT
    assert running.metric("llm_model_context_tokens", 'kind="trained"', "long") == CONTEXT


def test_one_token_more_than_it_has_is_refused_with_both_numbers(running: Service) -> None:
    refused = complete(running, CONTEXT + 1)

    assert refused.status_code == 400
    message = refused.json()["error"]["message"]
    assert str(CONTEXT) in message
    assert str(CONTEXT + 1) in message
