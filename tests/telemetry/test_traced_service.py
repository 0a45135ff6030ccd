"""The service as it runs, and what a collector of traces gets of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dialects.serving import wait_until
from tests.service_process import service
from tests.telemetry.collector import Collector, Received, collecting

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, PARENT = CALLER.split("-")[1:3]
CANARY = "canary-in-the-prompt"


def chat(content: str = "What is 7 plus 5?", **given: Any) -> dict[str, Any]:
    return {
        "model": "demo",
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "seed": 7,
        "max_tokens": 12,
        **given,
    }


def exporting_to(collector: Collector) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }


def within(inner: Received, outer: Received) -> bool:
    return outer.start <= inner.start <= inner.end <= outer.end


def test_a_streamed_request_is_a_trace_that_agrees_with_the_metrics_and_the_log(
    tmp_path: Path,
) -> None:
    with collecting() as collector, service(tmp_path, **exporting_to(collector)) as running:
        headers = {"traceparent": CALLER, "tracestate": "vendor=1", "X-Request-Id": "r1"}
        url = running.url + "/v1/chat/completions"
        answer = httpx.post(url, json=chat(stream=True), headers=headers, timeout=60)
        wait_until(lambda: collector.roots() and len(collector.spans) >= 5, 10)
        wait_until(lambda: any(line.get("request_id") == "r1" for line in running.log), 5)
        (line,) = [entry for entry in running.log if entry.get("request_id") == "r1"]
        sums = {
            name: running.metric(f"llm_{name}_seconds_sum")
            for name in ("request_queue", "request_prefill", "request_decode")
        }
        duration = running.metric("llm_request_duration_seconds_sum")
        tokens = running.metric("llm_generated_tokens_total")
        openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
        exposed = httpx.get(running.url + "/metrics", headers=openmetrics, timeout=10).text

    assert answer.status_code == 200
    assert collector.paths == {"/v1/traces"}
    (root,) = collector.roots()
    assert (root.name, root.trace, root.parent) == ("POST /v1/chat/completions", TRACE, PARENT)
    assert answer.headers["traceparent"].split("-")[1:3] == [TRACE, root.id]
    assert root.resource["service.name"] == "llm-inference-service"
    assert root.resource["deployment.environment.name"] == "test"
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["http.route"] == "/v1/chat/completions"
    (inference,) = collector.children(root).values()
    assert inference.name == "chat demo:latest"
    assert not inference.failed
    known = inference.attributes
    assert known["gen_ai.operation.name"] == "chat"
    assert known["gen_ai.provider.name"] == "llama_cpp"
    assert known["gen_ai.request.model"] == "demo"
    assert known["gen_ai.response.model"] == "demo:latest"
    assert known["gen_ai.request.max_tokens"] == 12
    assert known["gen_ai.request.temperature"] == 0
    assert known["gen_ai.request.seed"] == 7
    assert known["gen_ai.request.stream"] is True
    assert known["gen_ai.usage.output_tokens"] == tokens == line["generation_tokens"]
    assert known["gen_ai.usage.input_tokens"] == line["prompt_tokens"]
    assert known["gen_ai.response.finish_reasons"] == [line["finish_reason"]]

    phases = collector.children(inference)
    assert set(phases) - {"model_load"} == {"queue", "prefill", "decode"}
    assert all(within(phase, inference) for phase in phases.values())
    assert root.start <= inference.start
    for name in ("queue", "prefill", "decode"):
        took = phases[name].end - phases[name].start
        assert took == pytest.approx(sums[f"request_{name}"], abs=2e-6)
    assert root.end - root.start == pytest.approx(duration, abs=2e-6)
    assert root.end - root.start == pytest.approx(line["duration_seconds"], abs=2e-6)
    first = phases["prefill"].end - root.start
    assert first == pytest.approx(line["ttft_seconds"], abs=2e-6)
    assert first == pytest.approx(known["gen_ai.response.time_to_first_chunk"], abs=2e-6)
    assert line["trace_id"] == TRACE
    assert f'request_id="r1",trace_id="{TRACE}"' in exposed


def test_a_request_that_waits_for_its_model_shows_the_load_before_the_queue(
    tmp_path: Path,
) -> None:
    with collecting() as collector, service(tmp_path, **exporting_to(collector)) as running:
        httpx.post(running.url + "/api/generate", json={"model": "demo", "keep_alive": 0})
        wait_until(lambda: not running.engines(), 10)
        body = {"model": "demo", "input": "a"}
        answer = httpx.post(running.url + "/v1/embeddings", json=body, timeout=60)
        wait_until(lambda: collector.named("embeddings demo:latest"), 10)
        took = running.metric("llm_model_load_seconds_sum")

    assert answer.status_code == 200
    (inference,) = collector.named("embeddings demo:latest")
    phases = collector.children(inference)
    load = phases["model_load"]
    assert inference.start <= load.start <= load.end <= phases["queue"].start
    assert 0 < load.end - load.start < took


def test_a_collector_that_is_away_costs_no_request_and_its_spans_are_counted(
    tmp_path: Path,
) -> None:
    with (
        collecting(status=400) as collector,
        service(tmp_path, **exporting_to(collector)) as running,
    ):
        answer = httpx.post(running.url + "/v1/chat/completions", json=chat(), timeout=60)
        wait_until(lambda: running.metric("llm_trace_spans_dropped_total") == 5, 10)

    assert answer.status_code == 200


def test_neither_prompt_nor_answer_nor_key_is_in_a_trace(tmp_path: Path) -> None:
    with collecting() as collector, service(tmp_path, **exporting_to(collector)) as running:
        with httpx.Client(base_url=running.url, timeout=60) as http:
            headers = {"Authorization": f"Bearer {CANARY}-key"}
            for given in ({}, {"stream": True}, {"temperature": 9}):
                http.post("/v1/chat/completions", json=chat(CANARY, **given), headers=headers)
            http.post(f"/v1/embeddings?{CANARY}", json={"input": CANARY}, headers=headers)
            http.post("/api/generate", json={"model": "demo", "prompt": CANARY}, headers=headers)
            http.post("/v1/completions", content=CANARY, headers=headers)
            text = running.metrics()
        wait_until(lambda: len(collector.roots()) >= 6, 10)

    assert CANARY.encode() not in b"".join(collector.bodies)
    assert CANARY not in text
    assert CANARY not in json.dumps(running.log)
