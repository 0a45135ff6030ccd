"""vLLM's metric names, for what reads them: its dashboards, autoscalers, gateways.

They are copies. Nothing is observed twice: each is one of our families, summed over the labels
that vLLM's lacks. Names, labels and the values of `finished_reason` are those of vLLM's
`v1/metrics/loggers.py`; its counters' names end in `_total` on the wire, as ours do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from service.telemetry.encoding import body, chosen, encode

Labels = tuple[tuple[str, str], ...]

# One engine process for each model, as a vLLM server without data parallelism has.
ENGINE: Final = "0"
FINISHED_REASONS: Final = {
    "stop": "stop",
    "tool_calls": "stop",
    "length": "length",
    "cancelled": "abort",
    "timeout": "abort",
    "error": "error",
}


@dataclass(frozen=True)
class Copy:
    """`of` is the family it is made of, only of its samples that have the labels in `only`.
    `keep` are labels that stay: ours → (theirs, the value's translation)."""

    name: str
    of: str
    only: Mapping[str, str] = field(default_factory=dict)
    keep: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)


COPIES: Final = (
    Copy("vllm:num_requests_running", "llm_requests_running"),
    Copy("vllm:num_requests_waiting", "llm_requests_waiting"),
    Copy("vllm:kv_cache_usage_perc", "llm_kv_cache_usage_ratio"),
    Copy("vllm:prefix_cache_queries", "llm_prefix_cache_queried_tokens"),
    Copy("vllm:prefix_cache_hits", "llm_prefix_cache_hit_tokens"),
    Copy("vllm:num_preemptions", "llm_kv_evictions", only={"reason": "preempted"}),
    Copy("vllm:prompt_tokens", "llm_prompt_tokens"),
    Copy("vllm:prompt_tokens_cached", "llm_prompt_tokens", only={"source": "cached"}),
    Copy("vllm:generation_tokens", "llm_generated_tokens"),
    Copy("vllm:iteration_tokens_total", "llm_engine_step_tokens"),
    Copy(
        "vllm:request_success",
        "llm_requests_finished",
        keep={"finish_reason": ("finished_reason", FINISHED_REASONS)},
    ),
    Copy("vllm:request_prompt_tokens", "llm_request_prompt_tokens"),
    Copy("vllm:request_generation_tokens", "llm_request_output_tokens"),
    Copy("vllm:request_params_max_tokens", "llm_request_max_tokens"),
    Copy("vllm:time_to_first_token_seconds", "llm_time_to_first_token_seconds"),
    Copy("vllm:inter_token_latency_seconds", "llm_inter_token_latency_seconds"),
    Copy("vllm:request_time_per_output_token_seconds", "llm_time_per_output_token_seconds"),
    Copy("vllm:e2e_request_latency_seconds", "llm_request_duration_seconds"),
    Copy("vllm:request_queue_time_seconds", "llm_request_queue_seconds"),
    Copy("vllm:request_prefill_time_seconds", "llm_request_prefill_seconds"),
    Copy("vllm:request_decode_time_seconds", "llm_request_decode_seconds"),
)


class WithCopies(Collector):
    """The families of `source`, if `native`, and vLLM's copies of them, read once for both."""

    def __init__(self, source: Collector, *, native: bool) -> None:
        self._source = source
        self._native = native

    def collect(self) -> Iterator[Metric]:
        families = list(self._source.collect())
        if self._native:
            yield from families
        yield from copies(families)

    def encode(self, accept: str) -> tuple[bytes, str]:
        content_type, openmetrics = chosen(accept)
        families = encode(self.collect(), openmetrics=openmetrics)
        return body([families], openmetrics=openmetrics), content_type


def copies(families: Iterable[Metric]) -> Iterator[Metric]:
    """A copy of what is not there is not there either."""
    there = {family.name: family for family in families}
    for copy in COPIES:
        if (family := there.get(copy.of)) is not None:
            yield copied(copy, family)


def copied(copy: Copy, family: Metric) -> Metric:
    summed: defaultdict[tuple[str, Labels], float] = defaultdict(float)
    for sample in family.samples:
        if all(sample.labels.get(label) == value for label, value in copy.only.items()):
            suffix = sample.name.removeprefix(family.name)
            summed[copy.name + suffix, labels_of(copy, sample)] += sample.value
    metric = Metric(copy.name, f"{family.documentation} A copy of {copy.of}.", family.type)
    for (name, labels), value in summed.items():
        metric.add_sample(name, dict(labels), value)
    return metric


def labels_of(copy: Copy, sample: Sample) -> Labels:
    labels = {"model_name": sample.labels.get("model", ""), "engine": ENGINE}
    for ours, (theirs, values) in copy.keep.items():
        labels[theirs] = values[sample.labels[ours]]
    if "le" in sample.labels:
        labels["le"] = sample.labels["le"]
    return tuple(labels.items())
