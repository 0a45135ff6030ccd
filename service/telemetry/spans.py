"""Requests as OpenTelemetry spans. The only importer of it; `tracing.py` decides whether it is.

    POST /v1/chat/completions       the HTTP request, as the counters of /metrics have it
    └── chat demo:latest            one for each answer's generation, from its RequestStats
        ├── model_load              waiting for the model to be loaded, where it was not
        ├── queue                   in the engine's queue until the first step
        ├── prefill                 until the first token
        └── decode                  until the last

All times are stamps that the metrics have too: nothing is measured here. Attributes are named by
OpenTelemetry's conventions for HTTP and for generative AI; none holds a prompt or an answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.events import FinishReason
from service.generation import SamplingParams
from service.stats import RequestStats
from service.telemetry.span_queue import SpanQueue
from service.telemetry.tracing import is_sampled

SERVICE: Final = "llm-inference-service"
PROVIDER: Final = "llama_cpp"
CLOSING_SECONDS: Final = 5.0
# A clock that is set anew moves more at once than the reading of two clocks is apart.
STEP_SECONDS: Final = 0.05

Attributes = Mapping[str, str | int | float | bool | tuple[str, ...]]

_propagator: Final = TraceContextTextMapPropagator()
_CARRIED: Final = (b"traceparent", b"tracestate")


class WallClock:
    """Monotonic seconds as Unix nanoseconds, by one offset: what was measured stays as far apart as
    it was. The offset is read again only when the wall clock was set, or the machine slept."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset = wall() - monotonic()

    def check(self) -> None:
        offset = self._wall() - self._monotonic()
        if abs(offset - self._offset) > STEP_SECONDS:
            self._offset = offset

    def nanoseconds(self, stamp: float) -> int:
        return int((stamp + self._offset) * 1e9)


class RequestSpan:
    """Of an HTTP request, from its arrival on. One that is never closed is never sent."""

    def __init__(self, span: Span, clock: WallClock) -> None:
        self._span = span
        self._clock = clock
        self.traceparent = traceparent_of(span.get_span_context())

    def close(self, name: str, attributes: Attributes, code: int, ended: float) -> None:
        """`ended` in monotonic seconds. A client's own mistake is no error of the server's."""
        if self._span.is_recording():
            self._span.update_name(name)
            self._span.set_attributes(attributes)
            if code >= 500:
                self._span.set_status(Status(StatusCode.ERROR))
            self._span.end(self._clock.nanoseconds(ended))


class Spans:
    def __init__(
        self,
        version: str,
        on_dropped: Callable[[int], None],
        exporter: SpanExporter | None = None,
    ) -> None:
        resource = Resource({SERVICE_NAME: SERVICE, SERVICE_VERSION: version})
        # What the environment says of the resource, the service's name among it, goes before.
        self._provider = TracerProvider(
            resource=Resource.create().merge(resource).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
        )
        self._queue = SpanQueue(exporter or OTLPSpanExporter(), on_dropped)
        self._provider.add_span_processor(self._queue)
        self._tracer = self._provider.get_tracer("service.telemetry.spans", version)
        self._clock = WallClock()

    def open(
        self, headers: Iterable[tuple[bytes, bytes]], method: str, arrived: float
    ) -> RequestSpan:
        """In the trace that the client names, if it names one, and sampled if that is."""
        self._clock.check()
        carrier = {
            name.decode(): value.decode("latin-1") for name, value in headers if name in _CARRIED
        }
        parent = _propagator.extract(carrier, Context()) if carrier else Context()
        start = self._clock.nanoseconds(arrived)
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, start_time=start)
        return RequestSpan(span, self._clock)

    def on_finish(self, stats: RequestStats) -> None:
        if stats.traceparent is None or not is_sampled(stats.traceparent):
            return
        at = self._clock.nanoseconds
        parent = Context()
        parent = set_span_in_context(NonRecordingSpan(context_of(stats.traceparent)), parent)
        span = self._tracer.start_span(
            f"{stats.operation} {stats.model}",
            parent,
            attributes=attributes_of(stats),
            start_time=at(stats.arrived),
        )
        if stats.reason in (FinishReason.ERROR, FinishReason.TIMEOUT):
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span, parent)
        for name, start, end in phases(stats):
            self._tracer.start_span(name, inside, start_time=at(start)).end(at(end))
        span.end(at(stats.ended))

    def shutdown(self) -> None:
        """Sends what is there, for some seconds; what a collector did not take by then is lost."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(CLOSING_SECONDS)
        self._queue.give_up()


def traceparent_of(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def context_of(traceparent: str) -> SpanContext:
    _, trace, span, flags = traceparent.split("-")
    return SpanContext(int(trace, 16), int(span, 16), False, TraceFlags(int(flags, 16)))


def phases(stats: RequestStats) -> Iterator[tuple[str, float, float]]:
    """(name, start, end) in monotonic seconds. The phase in which a request was broken off ends
    with it; one whose beginning nobody saw is left out."""
    if stats.loading is not None:
        yield ("model_load", *stats.loading)
    if (timings := stats.timings) is None:
        return
    over = timings.finished or stats.ended
    if timings.scheduled is None:
        if timings.first_token is None:
            yield "queue", timings.queued, over
    else:
        yield "queue", timings.queued, timings.scheduled
        yield "prefill", timings.scheduled, timings.first_token or over
    if timings.first_token is not None:
        yield "decode", timings.first_token, timings.last_token or over


def attributes_of(stats: RequestStats) -> Attributes:
    attributes: dict[str, str | int | float | bool | tuple[str, ...]] = {
        "gen_ai.operation.name": stats.operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": stats.asked or stats.model,
        "gen_ai.response.model": stats.model,
        "gen_ai.request.stream": stats.stream,
        "gen_ai.response.finish_reasons": (stats.reason.value,),
        "llm.request.id": stats.id,
    }
    if stats.sampling is not None:
        attributes |= sampling_of(stats.sampling)
    if (usage := stats.usage) is not None:
        attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = usage.generation_tokens
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    if stats.stream and stats.timings is not None and stats.timings.first_token is not None:
        first = stats.timings.first_token - stats.arrived
        attributes["gen_ai.response.time_to_first_chunk"] = first
    if stats.error is not None:
        attributes["error.type"] = stats.error
    return attributes


def sampling_of(sampling: SamplingParams) -> Attributes:
    """What is in force, whoever said it."""
    attributes: dict[str, float] = {
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
    }
    if sampling.max_tokens is not None:
        attributes["gen_ai.request.max_tokens"] = sampling.max_tokens
    if sampling.seed is not None:
        attributes["gen_ai.request.seed"] = sampling.seed
    return attributes
