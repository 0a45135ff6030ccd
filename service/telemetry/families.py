"""Every metric family that events feed, declared once. What mirrors a state is in mirror.py.

Raw events only: no rates and no averages, which cannot be aggregated. Base units. Each label is
bounded: `model` by the catalogue and a limit, `endpoint` by the route table, the rest by enums.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from service.telemetry.kept import Kept

# As vLLM's where it has the same measure, so that its dashboards can read copies.
REQUEST_SECONDS: Final = (
    0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
)  # fmt: skip
QUEUE_SECONDS: Final = (
    0.001, 0.005, 0.01, 0.05, 0.1, 0.3, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600,
)  # fmt: skip
FIRST_TOKEN_SECONDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40,
    80, 160, 640, 2560,
)  # fmt: skip
TOKEN_SECONDS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
TOKENS: Final = (
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 131072,
)  # fmt: skip
STEP_SECONDS: Final = tuple(0.001 * 2**n for n in range(14))
STEP_TOKENS: Final = (1, *(2**n for n in range(3, 15)))
OVERHEAD_SECONDS: Final = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1,
)  # fmt: skip
LOAD_SECONDS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
LAG_SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

# The address has shown no key, or one that is not known, or too old, or for something else; it did
# so too often; the key has had what it may have for now; or a page of another site asked.
AUTH_FAILURES: Final = ("missing", "unknown", "expired", "scope", "throttled", "limited", "origin")


class Families:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.all: list[Kept] = []

        def kept(family: Counter | Histogram, labels: tuple[str, ...]) -> Kept:
            self.all.append(Kept(family, *labels))
            registry.register(self.all[-1])
            return self.all[-1]

        def counter(name: str, help: str, *labels: str) -> Kept:
            return kept(Counter(name, help, labels, registry=None), labels)

        def histogram(name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Kept:
            return kept(Histogram(name, help, labels, buckets=buckets, registry=None), labels)

        # Requests
        self.requests = counter(
            "llm_requests_total",
            "Inference requests answered, by final status; 499 is a client that went away.",
            "api", "endpoint", "model", "code", "stream",
        )  # fmt: skip
        self.request_duration = histogram(
            "llm_request_duration_seconds",
            "Time from a request's arrival to the last byte of its answer.",
            REQUEST_SECONDS, "api", "endpoint", "model",
        )  # fmt: skip
        self.finished = counter(
            "llm_requests_finished_total",
            "Answers that ended, by why generation ended.",
            "api", "model", "finish_reason",
        )  # fmt: skip
        self.rejected = counter(
            "llm_requests_rejected_total",
            "Inference requests refused before their first token, by reason.",
            "api", "model", "reason",
        )  # fmt: skip
        self.overflows = counter(
            "llm_context_overflow_total",
            "Prompts that did not fit the context, by what was done.",
            "api", "model", "action",
        )  # fmt: skip
        self.queue = histogram(
            "llm_request_queue_seconds",
            "Time from a request's entry into its model's queue until its first step.",
            QUEUE_SECONDS, "api", "model",
        )  # fmt: skip
        self.prefill = histogram(
            "llm_request_prefill_seconds",
            "Time from a request's first step until its first token.",
            REQUEST_SECONDS, "model",
        )  # fmt: skip
        self.decode = histogram(
            "llm_request_decode_seconds",
            "Time from a request's first token to its last.",
            REQUEST_SECONDS, "model",
        )  # fmt: skip
        self.first_token = histogram(
            "llm_time_to_first_token_seconds",
            "Time from a request's arrival until its first token was sampled, streamed or not.",
            FIRST_TOKEN_SECONDS, "api", "model",
        )  # fmt: skip
        self.inter_token = histogram(
            "llm_inter_token_latency_seconds",
            "Gaps between successive tokens of one answer.",
            TOKEN_SECONDS, "model",
        )  # fmt: skip
        self.per_token = histogram(
            "llm_time_per_output_token_seconds",
            "Mean gap between the tokens of one answer, once for each answer of two or more.",
            TOKEN_SECONDS, "api", "model",
        )  # fmt: skip
        self.prompt_length = histogram(
            "llm_request_prompt_tokens", "Length of a request's prompt.", TOKENS, "api", "model"
        )
        self.output_length = histogram(
            "llm_request_output_tokens", "Length of an answer.", TOKENS, "api", "model"
        )
        self.max_tokens = histogram(
            "llm_request_max_tokens", "Longest answer that a request asked for.", TOKENS, "model"
        )

        # Tokens
        self.prompt_tokens = counter(
            "llm_prompt_tokens_total",
            "Prompt tokens, by whether they were computed or taken from the prefix cache.",
            "api", "model", "source",
        )  # fmt: skip
        self.generated_tokens = counter(
            "llm_generated_tokens_total", "Tokens sampled for answers.", "api", "model"
        )
        self.reasoning_tokens = counter(
            "llm_reasoning_tokens_total", "Sampled tokens that were thoughts.", "api", "model"
        )

        # Engine
        self.steps = counter(
            "llm_engine_steps_total", "Steps that computed something.", "model", "phase"
        )
        self.step_seconds = histogram(
            "llm_engine_step_seconds",
            "Time of one llama_decode.",
            STEP_SECONDS, "model", "phase",
        )  # fmt: skip
        self.step_tokens = histogram(
            "llm_engine_step_tokens", "Tokens computed in one step.", STEP_TOKENS, "model"
        )
        self.overhead = histogram(
            "llm_engine_overhead_seconds",
            "Processor time of one step outside of llama.cpp.",
            OVERHEAD_SECONDS, "model",
        )  # fmt: skip
        self.slot_busy = counter(
            "llm_engine_slot_busy_seconds_total",
            "Seconds that slots were in use, added up.",
            "model",
        )
        self.prefix_queried = counter(
            "llm_prefix_cache_queried_tokens_total",
            "Prompt tokens looked up in the prefix cache.",
            "model",
        )
        self.prefix_hit = counter(
            "llm_prefix_cache_hit_tokens_total", "Prompt tokens found in the prefix cache.", "model"
        )
        self.evictions = counter(
            "llm_kv_evictions_total",
            "Sequences whose KV cells were taken away: kept prefixes, or running ones (preempted).",
            "model", "reason",
        )  # fmt: skip

        # Models
        self.loads = counter("llm_model_loads_total", "Times that a model was loaded.", "model")
        self.load_seconds = histogram(
            "llm_model_load_seconds",
            "Time from the start of a model's engine process until it could serve.",
            LOAD_SECONDS, "model",
        )  # fmt: skip
        self.load_failures = counter(
            "llm_model_load_failures_total",
            "Times that a model could not be loaded, by reason.",
            "model", "reason",
        )  # fmt: skip
        self.unloads = counter(
            "llm_model_unloads_total",
            "Times that a loaded model was given up, by reason.",
            "model", "reason",
        )  # fmt: skip

        # The service itself
        self.http_requests = counter(
            "llm_http_requests_total",
            "HTTP requests of every route.",
            "endpoint", "method", "code",
        )  # fmt: skip
        self.http_bytes = counter(
            "llm_http_response_bytes_total", "Bytes of response bodies.", "endpoint"
        )
        self.auth_failures = counter(
            "llm_auth_failures_total",
            "Requests that were not let in for want of a key that may do it, now or at all, by reason.",
            "reason",
        )  # fmt: skip
        for reason in AUTH_FAILURES:
            self.auth_failures.labels(reason)
        self.audit_lost = counter(
            "llm_audit_lost_lines_total",
            "Lines that the audit log should have and that the disk did not take.",
        )
        self.trace_spans_dropped = counter(
            "llm_trace_spans_dropped_total",
            "Spans that never reached the collector: it did not take them, or too many waited.",
        )
        self.label_overflow = counter(
            "llm_metrics_label_overflow_total",
            "Values that a label had no room for and that were counted as `_other`.",
            "label",
        )
        self.loop_lag = histogram(
            "llm_event_loop_lag_seconds",
            "How late the event loop wakes a task that slept for 0.1 seconds.",
            LAG_SECONDS,
        )
