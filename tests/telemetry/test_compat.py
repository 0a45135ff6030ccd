"""Our families under vLLM's names."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families as plain
from starlette.testclient import TestClient

from service.app import create_app
from service.events import FinishReason
from service.settings import Settings
from service.telemetry.compat import COPIES, FINISHED_REASONS, copies
from tests.dialects.fakes import FakeRuntime

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def scrape(path: str, **settings: Any) -> dict[str, Metric]:
    runtime = FakeRuntime()
    app = create_app(Settings(**settings), runtime.make)
    with TestClient(app, base_url="http://localhost") as http:
        for _ in range(3):
            http.post("/v1/chat/completions", json=CHAT)
        http.post("/api/chat", json={"model": "demo", "stream": False, **CHAT})
        answer = http.get(path)
    assert answer.status_code == 200
    return {family.name: family for family in plain(answer.text)}


def value(family: Metric, name: str, **labels: str) -> float:
    [sample] = [s for s in family.samples if s.name == name and labels.items() <= s.labels.items()]
    return sample.value


def test_each_copy_is_made_of_a_family_that_there_is() -> None:
    ours, theirs = scrape("/metrics"), scrape("/metrics/compat/vllm")

    assert {copy.of for copy in COPIES} <= ours.keys()
    assert theirs.keys() == {copy.name for copy in COPIES}
    assert not any(name.startswith("vllm:") for name in ours)


def test_the_dialects_are_added_up_and_the_labels_are_vllms() -> None:
    families = scrape("/metrics/compat/vllm")
    success = families["vllm:request_success"]

    assert value(success, "vllm:request_success_total", finished_reason="stop") == 4
    assert value(success, "vllm:request_success_total", finished_reason="abort") == 0
    assert {frozenset(sample.labels) for sample in success.samples} == {
        frozenset({"model_name", "engine", "finished_reason"})
    }
    e2e = families["vllm:e2e_request_latency_seconds"]
    assert value(e2e, "vllm:e2e_request_latency_seconds_count", model_name="demo:latest") == 4
    assert (
        value(e2e, "vllm:e2e_request_latency_seconds_bucket", le="+Inf", model_name="demo:latest")
        == 4
    )


def test_they_are_beside_ours_where_the_operator_wants_that() -> None:
    both = scrape("/metrics", vllm_metric_names=True)

    assert both["llm_requests_waiting"].samples
    assert both["vllm:num_requests_waiting"].samples


def test_only_samples_that_are_meant_are_copied() -> None:
    registry = CollectorRegistry()
    tokens = Counter("llm_prompt_tokens", "x", ["api", "model", "source"], registry=registry)
    tokens.labels("openai", "m", "computed").inc(5)
    tokens.labels("ollama", "m", "cached").inc(2)
    made = {family.name: family for family in copies(registry.collect())}

    assert value(made["vllm:prompt_tokens"], "vllm:prompt_tokens_total") == 7
    assert value(made["vllm:prompt_tokens_cached"], "vllm:prompt_tokens_cached_total") == 2
    assert "vllm:generation_tokens" not in made


def test_a_histograms_buckets_stay_buckets() -> None:
    registry = CollectorRegistry()
    steps = Histogram("llm_engine_step_tokens", "x", ["model"], buckets=(1, 8), registry=registry)
    steps.labels("a").observe(5)
    steps.labels("b").observe(9)
    [made] = copies(registry.collect())

    counted = {
        (s.labels["model_name"], s.labels["le"]): s.value for s in made.samples if "le" in s.labels
    }
    assert counted == {
        ("a", "1.0"): 0, ("a", "8.0"): 1, ("a", "+Inf"): 1,
        ("b", "1.0"): 0, ("b", "8.0"): 0, ("b", "+Inf"): 1,
    }  # fmt: skip


@pytest.mark.parametrize("reason", FinishReason)
def test_every_reason_to_finish_has_a_name_of_vllms(reason: FinishReason) -> None:
    assert FINISHED_REASONS[reason] in ("stop", "length", "abort", "error")
