"""Turns what the engine and the HTTP layer report into metrics. Lives on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, TypeVar, get_args

from prometheus_client import CollectorRegistry

from service.events import FinishReason, Timings, Usage
from service.stats import (
    LoadFailure,
    ModelEvent,
    ModelLoaded,
    ModelLoadFailed,
    ModelUnloaded,
    RequestStats,
    StepStats,
    Unloading,
)
from service.telemetry.api_ledger import ApiLedger
from service.telemetry.families import Families
from service.telemetry.kept import Child
from service.telemetry.tracing import is_sampled, trace_of

MAX_MODELS: Final = 64
UNKNOWN: Final = "_unknown"
OTHER: Final = "_other"

# The code of a refusal → the label. What is not here is a failure, not a refusal; who has no key, or
# asks for more than his may, is among the families of keys.
REJECTIONS: Final = {
    "queue_full": "queue_full",
    "queue_timeout": "queue_timeout",
    "context_length_exceeded": "context_overflow",
    "insufficient_memory": "memory",
    "model_unavailable": "model_unavailable",
    "unloaded": "model_unavailable",
    "model_unusable": "model_unusable",
    "draining": "draining",
    "model_not_found": "unknown_model",
    "invalid_request": "invalid",
    "forbidden": "forbidden",
}
PHASES: Final = ("prefill", "decode", "mixed")

K = TypeVar("K")
V = TypeVar("V")


class RequestChildren:
    """The children of one (api, model). `labels()` costs as much as the observation itself."""

    def __init__(self, families: Families, api: str, model: str) -> None:
        both = (api, model)
        # Made at once, so that `increase()` sees 0 before it sees 1.
        self.finished = {r: families.finished.labels(*both, r) for r in FinishReason}
        self.queue = families.queue.labels(*both)
        self.first_token = families.first_token.labels(*both)
        self.per_token = families.per_token.labels(*both)
        self.prompt_length = families.prompt_length.labels(*both)
        self.output_length = families.output_length.labels(*both)
        self.computed = families.prompt_tokens.labels(*both, "computed")
        self.cached = families.prompt_tokens.labels(*both, "cached")
        self.generated = families.generated_tokens.labels(*both)
        self.reasoning = families.reasoning_tokens.labels(*both)
        self.truncated = families.overflows.labels(*both, "truncated")
        self.prefill = families.prefill.labels(model)
        self.decode = families.decode.labels(model)
        self.max_tokens = families.max_tokens.labels(model)


class RejectionChildren:
    """Apart from the rest, since they are all that a model that nobody knows can have."""

    def __init__(self, families: Families, api: str, model: str) -> None:
        reasons = dict.fromkeys(REJECTIONS.values())
        self.by_reason = {r: families.rejected.labels(api, model, r) for r in reasons}
        self.overflow = families.overflows.labels(api, model, "rejected")


class EngineChildren:
    def __init__(self, families: Families, model: str) -> None:
        self.steps = {phase: families.steps.labels(model, phase) for phase in PHASES}
        self.step_seconds = {p: families.step_seconds.labels(model, p) for p in PHASES}
        self.step_tokens = families.step_tokens.labels(model)
        self.overhead = families.overhead.labels(model)
        self.inter_token = families.inter_token.labels(model)
        self.slot_busy = families.slot_busy.labels(model)
        self.prefix_queried = families.prefix_queried.labels(model)
        self.prefix_hit = families.prefix_hit.labels(model)
        self.evicted = families.evictions.labels(model, "reclaimed")
        self.preempted = families.evictions.labels(model, "preempted")
        self.loads = families.loads.labels(model)
        self.load_seconds = families.load_seconds.labels(model)
        self.load_failures = load_failures(families, model)
        self.unloads = {r: families.unloads.labels(model, r) for r in get_args(Unloading)}


def load_failures(families: Families, model: str) -> dict[LoadFailure, Child]:
    return {r: families.load_failures.labels(model, r) for r in get_args(LoadFailure)}


class Recorder:
    """Implements `stats.Observer`. `wall_clock` is only for timestamps that dashboards show."""

    def __init__(
        self, registry: CollectorRegistry, apis: Sequence[str], wall_clock: Callable[[], float]
    ) -> None:
        self.registry = registry
        self.families = Families(registry)
        self.latest_steps: dict[str, StepStats] = {}
        self.last_used: dict[str, float] = {}
        # Seconds of llama_decode, of each model.
        self.computed: dict[str, float] = {}
        self.apis = apis
        self.ledger = ApiLedger(wall_clock)
        self._wall_clock = wall_clock
        self._models: set[str] = set()
        self._known: set[str] = set()
        self._requests: dict[tuple[str, str], RequestChildren] = {}
        self._rejections: dict[tuple[str, str], RejectionChildren] = {}
        self._engines: dict[str, EngineChildren] = {}
        self._http: dict[tuple[str, str, int], tuple[Child, Child]] = {}
        self._answers: dict[tuple[str, str, str, int, bool], tuple[Child, Child]] = {}
        self.families.label_overflow.labels("model")
        for api in apis:
            self.rejections_of(api, UNKNOWN)

    def label(self, model: str) -> str:
        """Bounds the label: canonical names only get here, and only so many of them."""
        if model in self._models or model in (UNKNOWN, OTHER):
            return model
        if len(self._models) >= MAX_MODELS:
            self.families.label_overflow.labels("model").inc()
            return OTHER
        self._models.add(model)
        return model

    def know(self, models: Collection[str]) -> None:
        """Makes the series of failed loads of models that may be loaded, as long as there are no more
        of them than may be used: `increase()` does not see a series that is born at one. It takes no
        label from those that are used."""
        new = set(models) - self._known
        if len(self._known) + len(new) > MAX_MODELS:
            return
        self._known |= new
        for model in sorted(new):
            load_failures(self.families, model)

    def expect(self, model: str) -> None:
        """Makes the series of a model that is about to be used."""
        label = self.label(model)
        self.engine_of(label)
        for api in self.apis:
            self.requests_of(api, label)
            self.rejections_of(api, label)

    def requests_of(self, api: str, label: str) -> RequestChildren:
        return cached(
            self._requests, (api, label), lambda: RequestChildren(self.families, api, label)
        )

    def rejections_of(self, api: str, label: str) -> RejectionChildren:
        return cached(
            self._rejections, (api, label), lambda: RejectionChildren(self.families, api, label)
        )

    def engine_of(self, label: str) -> EngineChildren:
        return cached(self._engines, label, lambda: EngineChildren(self.families, label))

    # Observer

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
        self.latest_steps[model] = steps[-1]
        computed = [step for step in steps if step.phase != "idle"]
        if not computed:
            return
        seconds = [step.decode_seconds for step in computed]
        self.computed[model] = self.computed.get(model, 0.0) + sum(seconds)
        engine = self._engines.get(model) or self.engine_of(self.label(model))
        for phase in {step.phase for step in computed}:
            of_phase = [step.decode_seconds for step in computed if step.phase == phase]
            engine.steps[phase].inc(len(of_phase))
            engine.step_seconds[phase].observe_each(of_phase)
        engine.step_tokens.observe_each([s.prefill_tokens + s.decode_tokens for s in computed])
        engine.overhead.observe_each([step.overhead_seconds for step in computed])
        engine.slot_busy.inc(sum([step.running * step.step_seconds for step in computed]))
        if gaps := [gap for step in computed for gap in step.inter_token_seconds]:
            engine.inter_token.observe_each(gaps)
        if queried := sum([step.prefix_queried_tokens for step in computed]):
            engine.prefix_queried.inc(queried)
            engine.prefix_hit.inc(sum([step.prefix_hit_tokens for step in computed]))
        if evictions := sum([step.evictions for step in computed]):
            engine.evicted.inc(evictions)
        if preemptions := sum([step.preemptions for step in computed]):
            engine.preempted.inc(preemptions)

    def on_model(self, event: ModelEvent) -> None:
        engine = self.engine_of(self.label(event.model))
        match event:
            case ModelLoaded():
                engine.loads.inc()
                engine.load_seconds.observe(event.seconds)
            case ModelLoadFailed():
                engine.load_failures[event.reason].inc()
            case ModelUnloaded():
                engine.unloads[event.reason].inc()

    def on_finish(self, stats: RequestStats) -> None:
        self.last_used[stats.model] = self._wall_clock()
        request = self.requests_of(stats.dialect, self.label(stats.model))
        request.finished[stats.reason].inc()
        if stats.cut_tokens:
            request.truncated.inc()
        if stats.max_tokens is not None:
            request.max_tokens.observe(stats.max_tokens)
        if stats.usage is not None:
            observe_usage(request, stats.usage)
        if stats.timings is not None:
            exemplar = exemplar_of(stats.id, stats.traceparent)
            observe_timings(request, stats.timings, stats.usage, stats.arrived, exemplar)

    # HTTP

    def on_http(self, endpoint: str, method: str, code: int, size: int) -> None:
        requests, sent = cached(
            self._http,
            (endpoint, method, code),
            lambda: (
                self.families.http_requests.labels(endpoint, method, code),
                self.families.http_bytes.labels(endpoint),
            ),
        )
        requests.inc()
        sent.inc(size)

    def on_answer(
        self,
        api: str,
        endpoint: str,
        model: str,
        code: int,
        stream: bool,
        seconds: float,
        request_id: str,
        traceparent: str | None = None,
    ) -> None:
        label = self.label(model)
        requests, duration = cached(
            self._answers,
            (api, endpoint, label, code, stream),
            lambda: (
                self.families.requests.labels(api, endpoint, label, code, str(stream).lower()),
                self.families.request_duration.labels(api, endpoint, label),
            ),
        )
        exemplar = exemplar_of(request_id, traceparent)
        requests.inc(1, exemplar)
        duration.observe(seconds, exemplar)
        self.ledger.on_answer(api, endpoint, code, seconds)

    def on_rejection(self, api: str, model: str, code: str) -> None:
        if (reason := REJECTIONS.get(code)) is None:
            return
        rejections = self.rejections_of(api, self.label(model))
        rejections.by_reason[reason].inc()
        if reason == "context_overflow":
            rejections.overflow.inc()

    async def sample_loop_lag(self, interval: float = 0.1) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + interval
            await asyncio.sleep(interval)
            self.families.loop_lag.observe(max(0.0, loop.time() - due))


def exemplar_of(request_id: str, traceparent: str | None) -> dict[str, str]:
    """A trace that is not sampled is nowhere to be found, so it is not named."""
    if traceparent is None or not is_sampled(traceparent):
        return {"request_id": request_id}
    return {"request_id": request_id, "trace_id": trace_of(traceparent)}


def observe_usage(request: RequestChildren, usage: Usage) -> None:
    request.prompt_length.observe(usage.prompt_tokens)
    request.output_length.observe(usage.generation_tokens)
    request.computed.inc(usage.prompt_tokens - usage.cached_tokens)
    request.cached.inc(usage.cached_tokens)
    request.generated.inc(usage.generation_tokens)
    request.reasoning.inc(usage.reasoning_tokens)


def observe_timings(
    request: RequestChildren,
    timings: Timings,
    usage: Usage | None,
    arrived: float,
    exemplar: dict[str, str],
) -> None:
    if timings.scheduled is None:
        return
    request.queue.observe(timings.scheduled - timings.queued)
    if timings.first_token is None:
        return
    request.prefill.observe(timings.first_token - timings.scheduled)
    request.first_token.observe(timings.first_token - arrived, exemplar)
    if timings.last_token is None:
        return
    decode = timings.last_token - timings.first_token
    request.decode.observe(decode)
    if usage is not None and usage.generation_tokens >= 2:
        request.per_token.observe(decode / (usage.generation_tokens - 1))


def cached(children: dict[K, V], key: K, make: Callable[[], Any]) -> V:
    child = children.get(key)
    if child is None:
        child = children[key] = make()
    return child
