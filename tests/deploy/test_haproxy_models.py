"""Two services with different models behind the real HAProxy, which is told who has which."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.balancer import haproxy
from tests.service_process import ROOT, Service, service

pytest.importorskip("llama_cpp", reason="the engine needs llama-cpp-python")

SAID = [{"role": "user", "content": "2+2"}]
CHAT: dict[str, Any] = {"messages": SAID, "max_tokens": 2}
PROMPT: dict[str, Any] = {"prompt": "2+2", "max_tokens": 2}
OLLAMA: dict[str, Any] = {"stream": False, "options": {"num_predict": 2}}
# TGI's clients name no model: theirs is the default of whoever is asked.
ASKED = [
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", PROMPT),
    ("/v1/responses", {"input": "2+2", "max_output_tokens": 16}),
    ("/v1/embeddings", {"input": "2+2"}),
    ("/api/chat", {"messages": SAID, **OLLAMA}),
    ("/api/generate", {"prompt": "2+2", **OLLAMA}),
    ("/api/show", {}),
    ("/v1/messages", CHAT),
    ("/vllm/v1/chat/completions", CHAT),
    ("/tokenize", {"prompt": "2+2"}),
    ("/completion", {"prompt": "2+2", "n_predict": 2}),
]
# More than is looked into.
LONG = "x" * 100_000


@dataclass(frozen=True)
class Pool:
    url: str
    one: Service
    two: Service

    def ask(self, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("pool")
    with ExitStack() as opened:
        services = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            shutil.copy(ROOT / "service/catalog/demo.gguf", folder / name / f"{name}.gguf")
            services.append(opened.enter_context(service(folder / name)))
        models = folder / "models.map"
        models.write_text("# model  backend\none llm-a\ntwo llm-b\n")
        ports = [httpx.URL(each.url).port or 0 for each in services]
        front, _ = opened.enter_context(haproxy(*ports, models=models))
        yield Pool(f"http://127.0.0.1:{front}", *services)


def test_either_knows_its_own_model_alone(pool: Pool) -> None:
    for name, found in (("one", pool.two), ("two", pool.one)):
        body = {"model": name, **CHAT}
        assert httpx.post(found.url + ASKED[0][0], json=body, timeout=60).status_code == 404


@pytest.mark.parametrize(("path", "body"), ASKED, ids=[path for path, _ in ASKED])
def test_every_request_goes_where_its_model_is(pool: Pool, path: str, body: dict[str, Any]) -> None:
    for model in ("one", "two", "one:latest", "two:latest") * 2:
        answer = pool.ask(path, {"model": model, **body})
        assert answer.status_code == 200, answer.text


def test_whoever_names_no_model_or_one_that_nobody_has_is_answered_by_any(pool: Pool) -> None:
    assert pool.ask("/v1/chat/completions", CHAT).status_code == 200
    assert pool.ask("/generate", {"inputs": "2+2"}).status_code == 200
    unknown = pool.ask("/v1/chat/completions", {"model": "three", **CHAT})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"
    assert pool.ask("/v1/chat/completions", {"model": 7, **CHAT}).status_code == 400
    assert httpx.get(pool.url + "/v1/models", timeout=60).status_code == 200


def test_a_name_before_a_long_prompt_is_seen_and_one_behind_it_is_said_in_a_header(
    pool: Pool,
) -> None:
    """The prompt is too long for the model, which only a service that has it can say."""
    said = [{"role": "user", "content": LONG}]
    for model in ("one", "two") * 3:
        before = pool.ask("/v1/chat/completions", {"model": model, "messages": said})
        behind = {"messages": said, "model": model}
        header = pool.ask("/v1/chat/completions", behind, **{"X-Model": model})
        assert [before.status_code, header.status_code] == [400, 400]
        assert before.json()["error"]["code"] == "context_length_exceeded"
        assert header.json()["error"]["code"] == "context_length_exceeded"


def test_a_service_is_not_shown_the_header(pool: Pool) -> None:
    """What the header says counts for the way alone: the body's model is the one that answers."""
    answer = pool.ask("/v1/chat/completions", {"model": "one", **CHAT}, **{"X-Model": "two"})

    assert answer.status_code == 404


def test_a_body_that_is_only_sent_when_it_is_asked_for_is_read(pool: Pool) -> None:
    body = {"model": "two", **CHAT}
    for _ in range(2):
        answer = pool.ask("/v1/chat/completions", body, Expect="100-continue")
        assert answer.status_code == 200
