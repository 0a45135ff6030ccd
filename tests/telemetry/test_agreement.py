"""Five thousand requests of all kinds, with an engine that dies among them, and four accounts of them
that must be one: /metrics, /api/metrics/apis, the log and the traces."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.dialects.serving import wait_until
from tests.service_process import Service, service
from tests.telemetry.collector import Collector, collecting

REQUESTS = 5000
CLIENTS = 16
MESSAGES = [{"role": "user", "content": "What is 7 plus 5?"}]
CHAT = {"messages": MESSAGES, "max_tokens": 4}
LONG = {"messages": MESSAGES, "max_tokens": 400, "ignore_eos": True, "stream": True}

WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "stream": True}),
    ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 2}),
    ("/api/generate", {"model": "demo", "prompt": "a", "options": {"num_predict": 3}}),
    ("/generate", {"inputs": "a", "parameters": {"max_new_tokens": 3}}),
    ("/v1/messages", {**CHAT, "model": "demo"}),
    ("/v1/embeddings", {"input": ["a", "b"]}),
    ("/v1/chat/completions", {**CHAT, "model": "none-such"}),
    ("/v1/chat/completions", {**CHAT, "temperature": 99}),
]


def ask(running: Service, http: httpx.Client, number: int) -> None:
    if number == REQUESTS // 2:
        (engine,) = running.engines()
        engine.kill()
    kind = number % (len(WHOLE) + 2)
    if kind < len(WHOLE):
        path, body = WHOLE[kind]
        http.post(path, json=body)
    elif kind == len(WHOLE):
        with http.stream("POST", "/v1/chat/completions", json=LONG) as answer:
            next(answer.iter_bytes(), None)
    else:
        with contextlib.suppress(httpx.ReadTimeout):
            http.post("/v1/chat/completions", json={**LONG, "stream": False}, timeout=0.1)


class Accounts:
    def __init__(self, running: Service, collector: Collector) -> None:
        self.metrics: list[Metric] = list(plain(running.metrics()))
        apis = httpx.get(running.url + "/api/metrics/apis", timeout=10).json()
        self.apis: list[dict[str, Any]] = apis["endpoints"]
        self.lines = [line for line in running.log if "api" in line]
        self.roots = collector.roots()
        self.generations = [s for s in collector.spans if "gen_ai.operation.name" in s.attributes]

    def counted(self, name: str, label: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        for family in self.metrics:
            for sample in family.samples:
                if sample.name == name and sample.value:
                    counts[sample.labels[label]] += int(sample.value)
        return counts

    def of_lines(self, key: str) -> Counter[str]:
        return Counter(str(line[key]) for line in self.lines)

    def of_roots(self, key: str) -> Counter[str]:
        return Counter(str(span.attributes[key]) for span in self.roots)


pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Accounts]:
    folder: Path = tmp_path_factory.mktemp("agreement")
    environment = {"OTEL_BSP_MAX_QUEUE_SIZE": "65536", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with collecting() as collector:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        with service(folder, "--queue-size", "6", **environment) as running:
            limits = httpx.Limits(max_connections=CLIENTS)
            with httpx.Client(base_url=running.url, timeout=60, limits=limits) as http:
                with ThreadPoolExecutor(CLIENTS) as clients:
                    list(clients.map(lambda number: ask(running, http, number), range(REQUESTS)))
            wait_until(running.at_rest, 30)
            answered = running.metric("llm_requests_total")
            finished = running.metric("llm_requests_finished_total")
            wait_until(lambda: len(collector.roots()) >= answered, 15)
            wait_until(lambda: len(Accounts(running, collector).generations) >= finished, 15)
            yield Accounts(running, collector)


def test_all_kinds_of_ends_are_among_them(accounts: Accounts) -> None:
    codes = accounts.counted("llm_requests_total", "code")

    assert codes.keys() >= {"200", "400", "404", "429", "499"}
    assert accounts.counted("llm_engine_deaths_total", "model").total() == 1
    assert REQUESTS * 0.9 < codes.total() <= REQUESTS


@pytest.mark.parametrize(
    ("label", "key", "attribute"),
    [
        ("code", "status", "http.response.status_code"),
        ("api", "api", "llm.api"),
        ("endpoint", "endpoint", "http.route"),
        ("model", "model", "gen_ai.request.model"),
    ],
)
def test_metrics_log_and_traces_count_the_same_requests(
    accounts: Accounts, label: str, key: str, attribute: str
) -> None:
    counted = accounts.counted("llm_requests_total", label)

    assert counted == accounts.of_lines(key)
    assert counted == accounts.of_roots(attribute)


def test_the_json_of_the_apis_counts_them_too(accounts: Accounts) -> None:
    codes = accounts.counted("llm_requests_total", "code")
    total, succeeded, cancelled = (
        sum(row[key] for row in accounts.apis)
        for key in ("total_requests", "successful_requests", "cancelled_requests")
    )

    assert total == codes.total()
    assert succeeded == codes["200"]
    assert cancelled == codes["499"]


def test_each_generation_that_ended_is_a_span(accounts: Accounts) -> None:
    reasons = Counter(
        reason
        for span in accounts.generations
        for reason in span.attributes["gen_ai.response.finish_reasons"]
    )

    assert reasons == accounts.counted("llm_requests_finished_total", "finish_reason")
    assert reasons["cancelled"] > 0


def test_traces_have_all_tokens_and_no_other(accounts: Accounts) -> None:
    for attribute, name in (
        ("gen_ai.usage.output_tokens", "llm_generated_tokens_total"),
        ("gen_ai.usage.input_tokens", "llm_prompt_tokens_total"),
    ):
        tokens = sum(span.attributes.get(attribute, 0) for span in accounts.generations)
        assert tokens == accounts.counted(name, "api").total()


def test_requests_are_the_same_one_by_one(accounts: Accounts) -> None:
    by_id = {span.attributes["llm.request.id"]: span for span in accounts.roots}

    for line in accounts.lines:
        span = by_id.pop(line["request_id"])
        assert span.trace == line["trace_id"]
        assert span.attributes["http.response.status_code"] == line["status"]
        assert span.attributes.get("error.type") == line.get("error") or line["status"] == 499
        assert span.end - span.start == pytest.approx(line["duration_seconds"], abs=2e-6)
    assert by_id == {}


def test_each_generation_is_below_its_request(accounts: Accounts) -> None:
    roots = {span.id: span for span in accounts.roots}

    for span in accounts.generations:
        root = roots[span.parent]
        assert root.trace == span.trace
        # Of a list of prompts, each has a number behind the request's id.
        assert span.attributes["llm.request.id"].startswith(root.attributes["llm.request.id"])
        assert span.start >= root.start


def test_no_span_was_lost(accounts: Accounts) -> None:
    (lost,) = (
        sample.value
        for family in accounts.metrics
        for sample in family.samples
        if sample.name == "llm_trace_spans_dropped_total"
    )

    assert lost == 0
