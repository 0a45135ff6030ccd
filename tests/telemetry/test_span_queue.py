from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from service.telemetry.span_queue import SpanQueue


class Collector(SpanExporter):
    """Takes nothing before it is opened."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.opened = threading.Event()
        self.asked = threading.Event()
        self.sent = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked.set()
        assert self.opened.wait(10)
        self.sent += len(spans)
        return self.result


def provider(queue: SpanQueue) -> TracerProvider:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(queue)
    return provider


def end_spans(provider: TracerProvider, count: int) -> None:
    for _ in range(count):
        provider.get_tracer("test").start_span("x").end()


def test_what_the_queue_has_no_room_for_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")
    collector, dropped = Collector(), list[int]()
    tracing = provider(SpanQueue(collector, dropped.append))

    end_spans(tracing, 2)
    assert collector.asked.wait(10)
    end_spans(tracing, 15)
    collector.opened.set()
    tracing.shutdown()

    assert sum(dropped) == 5
    assert collector.sent == 12


def test_what_the_collector_does_not_take_is_counted() -> None:
    collector, dropped = Collector(SpanExportResult.FAILURE), list[int]()
    collector.opened.set()
    tracing = provider(SpanQueue(collector, dropped.append))

    end_spans(tracing, 3)
    tracing.shutdown()

    assert sum(dropped) == 3


def test_what_still_waits_when_the_service_gives_up_is_counted() -> None:
    collector, dropped = Collector(), list[int]()
    queue = SpanQueue(collector, dropped.append)
    tracing = provider(queue)
    end_spans(tracing, 4)

    queue.give_up()
    collector.opened.set()
    tracing.shutdown()

    assert sum(dropped) == 4


def test_what_is_not_sampled_is_not_dropped() -> None:
    dropped = list[int]()
    tracing = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    tracing.add_span_processor(SpanQueue(Collector(), dropped.append))

    end_spans(tracing, 5)
    tracing.shutdown()

    assert dropped == []
