"""The figures of /metrics as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as plain
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.dialects.fakes import FakeRuntime
from tests.dialects.seed.test_routes import DONE, RUNNING

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.fixture
def http(runtime: FakeRuntime) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(), runtime.make), base_url="http://localhost") as client:
        yield client


def rows(http: TestClient) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in http.get("/api/metrics/apis").json()["endpoints"]}


def test_an_api_that_nobody_has_used_is_unknown_and_not_unwell(http: TestClient) -> None:
    body = http.get("/api/metrics/apis").json()

    assert body["overallHealth"] == "healthy"
    assert {row["status"] for row in body["endpoints"]} == {"unknown"}
    assert {row["responseTime"] for row in body["endpoints"]} == {None}
    assert [row["name"] for row in body["endpoints"]][:6] == [
        "OpenAI API", "Ollama Chat", "Ollama Generate", "vLLM Chat", "vLLM Completion",
        "HuggingFace TGI",
    ]  # fmt: skip


def test_each_answer_is_in_the_row_of_its_api(http: TestClient) -> None:
    for path in ("/v1/chat/completions", "/vllm/v1/chat/completions", "/api/chat"):
        http.post(path, json={"model": "demo", "messages": MESSAGES, "stream": False})
    http.post("/vllm/v1/completions", json={"model": "demo", "prompt": "a"})
    http.post("/v1/chat/completions", json={"model": "nope", "messages": MESSAGES})
    http.post("/generate", json={"inputs": "a"})

    found = rows(http)
    totals = {name: row["total_requests"] for name, row in found.items()}
    assert totals == {
        "OpenAI API": 2, "Ollama Chat": 1, "Ollama Generate": 0, "vLLM Chat": 1,
        "vLLM Completion": 1, "HuggingFace TGI": 1, "Other": 0,
    }  # fmt: skip
    openai = found["OpenAI API"]
    assert (openai["successful_requests"], openai["failed_requests"]) == (1, 1)
    assert (openai["successRate"], openai["errorRate"], openai["status"]) == (50, 50, "error")
    assert openai["requestsPerMin"] == 2
    assert openai["average_response_time"] == openai["responseTime"] > 0
    assert http.get("/api/metrics/apis").json()["overallHealth"] == "degraded"


def test_the_rows_add_up_to_what_prometheus_is_told(http: TestClient) -> None:
    for number in range(7):
        http.post("/v1/messages" if number % 2 else "/api/generate", json={"prompt": number})
        http.post("/v1/responses", json={"model": "demo", "input": "a"})
    counted = sum(
        sample.value
        for family in plain(http.get("/metrics").text)
        for sample in family.samples
        if sample.name == "llm_requests_total"
    )

    assert sum(row["total_requests"] for row in rows(http).values()) == counted == 14


def test_the_dashboard_lists_what_runs_and_the_last_ten_that_ended(
    http: TestClient, runtime: FakeRuntime
) -> None:
    for number in range(12):
        runtime.known[f"old{number}"] = replace(DONE, id=f"old{number}")
    for number in range(3):
        runtime.known[f"new{number}"] = replace(RUNNING, id=f"new{number}")
    body = http.get("/api/metrics/dashboard").json()

    assert [r["request_id"] for r in body["requests"]][:4] == ["new2", "new1", "new0", "old11"]
    assert len(body["requests"]) == 13
    first = body["requests"][0]
    assert first["duration"] == 4.0
    assert (first["actual_tokens"], first["prompt_tokens"]) == (8, 7)
    assert first["generated_tokens_per_second"] == 2.0
    assert first["total_tokens_per_second"] == 3.75
    assert body["gpu_metrics"] is None
    assert body["status"]["components"]["models"] == "1 available"


def test_the_dashboard_has_what_a_models_file_says(http: TestClient) -> None:
    [model] = http.get("/api/metrics/dashboard").json()["models"]

    assert model["name"] == "demo:latest"
    assert model["context_size"] == model["model_info"]["general.context_length"]
    assert model["model_info"]["general.architecture"] == model["details"]["family"]
