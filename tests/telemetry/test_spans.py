from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import Overloaded
from service.events import FinishReason, Timings, Usage
from service.generation import SamplingParams
from service.settings import Settings
from service.stats import RequestStats
from service.telemetry import spans as spans_module
from service.telemetry.spans import Spans, WallClock, phases
from tests.dialects.fakes import FakeRuntime, end

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331"


def stats(**given: Any) -> RequestStats:
    return RequestStats(
        **{
            "id": "r1",
            "model": "m",
            "dialect": "openai",
            "endpoint": "/v1/chat/completions",
            "stream": True,
            "reason": FinishReason.STOP,
            "arrived": 1.0,
            "ended": 4.0,
            "usage": Usage(10, 4, 5, 2),
            "timings": Timings(1.5, 1.75, 2.0, 3.0, 3.5),
            "asked": "alias",
            "traceparent": CALLER + "-01",
            **given,
        }
    )


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What would go to the collector, of the services that the test makes."""
    exporter = InMemorySpanExporter()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(spans_module, "OTLPSpanExporter", lambda: exporter)
    return exporter


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def post(runtime: FakeRuntime, body: dict[str, Any] = CHAT, **headers: str) -> Any:
    """One request to a service that is then closed, which sends its spans."""
    with TestClient(create_app(Settings(), runtime.make), base_url="http://localhost") as http:
        return http.post("/v1/chat/completions", json=body, headers=headers)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"queue": (1.5, 1.75), "prefill": (1.75, 2.0), "decode": (2.0, 3.0)}),
        ({"timings": None}, {}),
        ({"timings": Timings(1.5)}, {"queue": (1.5, 4.0)}),
        (
            {"timings": Timings(1.5, 1.75, finished=3.5)},
            {"queue": (1.5, 1.75), "prefill": (1.75, 3.5)},
        ),
        # The engine died: when it was scheduled, nobody can say any more.
        ({"timings": Timings(1.5, None, 2.0, 3.0)}, {"decode": (2.0, 3.0)}),
        (
            {"loading": (1.0, 1.4), "timings": Timings(1.5, finished=2.0)},
            {"model_load": (1.0, 1.4), "queue": (1.5, 2.0)},
        ),
    ],
)
def test_phases_are_as_far_as_the_request_got(
    given: dict[str, Any], expected: dict[str, tuple[float, float]]
) -> None:
    found = {name: (start, over) for name, start, over in phases(stats(**given))}

    assert found == expected


def test_a_clock_that_is_set_anew_moves_what_comes_after() -> None:
    wall = [1000.0]
    clock = WallClock(lambda: wall[0], lambda: 100.0)
    assert clock.nanoseconds(101.0) == 1001 * 10**9

    wall[0] += 0.001
    clock.check()
    assert clock.nanoseconds(101.0) == 1001 * 10**9

    wall[0] += 3600
    clock.check()
    assert clock.nanoseconds(101.0) == pytest.approx(4601.001e9)


def test_what_was_asked_and_used_are_attributes_by_their_conventional_names() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans("1", lambda count: None, exporter)
    sampling = SamplingParams(max_tokens=9, temperature=0.5, top_p=0.9, top_k=40, seed=3)
    spans.on_finish(stats(sampling=sampling))
    spans.shutdown()

    span = by_name(exporter)["chat m"]
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "llama_cpp",
        "gen_ai.request.model": "alias",
        "gen_ai.response.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 40,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 3,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 1.0,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "llm.request.id": "r1",
    }


def test_a_generation_that_broke_is_an_error_with_its_stable_word() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans("1", lambda count: None, exporter)
    spans.on_finish(stats(reason=FinishReason.ERROR, error="engine_failed"))
    spans.shutdown()

    span = by_name(exporter)["chat m"]
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "engine_failed"


def test_a_request_without_a_trace_begins_one(sent: InMemorySpanExporter) -> None:
    answer = post(FakeRuntime())

    found = by_name(sent)
    root, inference = found["POST /v1/chat/completions"], found["chat demo:latest"]
    assert root.parent is None
    assert inference.parent is not None
    assert root.context is not None
    assert inference.parent.span_id == root.context.span_id
    assert answer.headers["traceparent"].split("-")[1] == f"{root.context.trace_id:032x}"


def test_what_the_caller_does_not_sample_is_passed_on_and_not_sent(
    sent: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = post(FakeRuntime(), traceparent=CALLER + "-00")

    assert sent.get_finished_spans() == ()
    _, trace, _, flags = answer.headers["traceparent"].split("-")
    assert (trace, flags) == (TRACE, "00")


@pytest.mark.parametrize(
    "traceparent", ["", "junk", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "é"]
)
def test_a_traceparent_that_is_none_begins_a_trace(
    sent: InMemorySpanExporter, traceparent: str
) -> None:
    with TestClient(
        create_app(Settings(), FakeRuntime().make), base_url="http://localhost"
    ) as http:
        headers = [(b"traceparent", traceparent.encode("latin-1"))]
        assert http.post("/v1/chat/completions", json=CHAT, headers=headers).status_code == 200

    assert by_name(sent)["POST /v1/chat/completions"].parent is None


def test_the_sampler_is_the_environments(
    sent: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    post(FakeRuntime())

    assert sent.get_finished_spans() == ()


def test_a_refusal_is_a_span_with_its_reason_and_no_generation(
    sent: InMemorySpanExporter,
) -> None:
    post(FakeRuntime(script=Overloaded("The queue is full")))

    (span,) = sent.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 429
    assert span.attributes["error.type"] == "queue_full"
    assert span.status.status_code is StatusCode.UNSET


def test_a_failure_of_the_servers_own_is_an_error(sent: InMemorySpanExporter) -> None:
    failing = FakeRuntime(
        script=[[end(0, FinishReason.ERROR, error="broken", code="internal_error")]]
    )
    post(failing)

    root = by_name(sent)["POST /v1/chat/completions"]
    assert root.status.status_code is StatusCode.ERROR
    assert root.attributes is not None
    assert root.attributes["error.type"] == "internal_error"


def test_what_is_no_inference_is_no_span(sent: InMemorySpanExporter) -> None:
    with TestClient(
        create_app(Settings(), FakeRuntime().make), base_url="http://localhost"
    ) as http:
        for path in ("/health", "/metrics", "/v1/models", "/nowhere"):
            assert "traceparent" not in http.get(path).headers

    assert sent.get_finished_spans() == ()
