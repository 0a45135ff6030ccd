"""Spans on their way to the collector, and a count of those that do not get there.

OpenTelemetry's batch processor sends them from a thread of its own. It counts nothing, and what its
queue has no room for it drops: here that is refused first, and counted.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.sdk.environment_variables import OTEL_BSP_MAX_QUEUE_SIZE
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

logger = logging.getLogger(__name__)

# What OpenTelemetry's specification says.
MAX_QUEUE_SIZE: Final = 2048


class SpanQueue(BatchSpanProcessor):
    def __init__(self, exporter: SpanExporter, on_dropped: Callable[[int], None]) -> None:
        self._counted = Counted(exporter, on_dropped)
        asked = os.environ.get(OTEL_BSP_MAX_QUEUE_SIZE, "")
        self._room = int(asked) if asked.isdecimal() else MAX_QUEUE_SIZE
        super().__init__(self._counted, max_queue_size=self._room)

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._counted.enter(self._room):
            super().on_end(span)

    def give_up(self) -> None:
        self._counted.give_up()


class Counted(SpanExporter):
    """Knows how many spans wait or are being sent, and who of them was lost."""

    def __init__(self, exporter: SpanExporter, on_dropped: Callable[[int], None]) -> None:
        self._exporter = exporter
        self._on_dropped = on_dropped
        self._lock = threading.Lock()
        self._waiting = 0

    def enter(self, room: int) -> bool:
        with self._lock:
            if free := self._waiting < room:
                self._waiting += 1
        if not free:
            self._on_dropped(1)
        return free

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._lock:
            self._waiting -= len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self._on_dropped(len(spans))
        return result

    def give_up(self) -> None:
        with self._lock:
            lost, self._waiting = self._waiting, 0
        if lost:
            logger.warning("%d spans were not sent", lost)
            self._on_dropped(lost)

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
