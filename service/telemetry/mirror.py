"""Gauges that mirror a state: built afresh for each scrape, so that what is gone has no series.

The snapshot is taken on the event loop, the samples are made from it on a worker thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.telemetry.snapshot import (
    Samples,
    Snapshot,
    buffer_bytes,
    by_api,
    context_tokens,
    discovered,
    kv_bytes,
    of_engines,
    of_facts,
    of_models,
    of_sums,
    up,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mirror:
    """One family: its name, help and labels, and where its samples come from. A name that ends in
    _total is a counter's."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Snapshot], Samples]

    def family(self, snapshot: Snapshot) -> Metric:
        make = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        family = make(self.name, self.help, labels=self.labels)
        for labels, value in self.samples(snapshot):
            family.add_metric(labels, value)
        return family


# An engine that is down keeps nobody waiting; what it last said of its cells is not true any more.
MIRRORS: Final = (
    Mirror(
        "llm_ready",
        "1 while some model can serve and the service is not shutting down.",
        (),
        lambda snapshot: [((), float(snapshot.ready))],
    ),
    Mirror(
        "llm_active_requests",
        "Requests running or waiting, of all models.",
        (),
        lambda snapshot: [((), sum(m.running + m.waiting for m in snapshot.models))],
    ),
    Mirror(
        "llm_requests_running",
        "Requests that hold an engine slot.",
        ("api", "model"),
        by_api(lambda running, waiting: running),
    ),
    Mirror(
        "llm_requests_waiting",
        "Requests admitted that have no engine slot yet.",
        ("api", "model"),
        by_api(lambda running, waiting: waiting),
    ),
    Mirror(
        "llm_queue_capacity_requests",
        "Requests that may run or wait before more are refused.",
        ("model",),
        of_models(lambda status: status.queue_capacity if status.state != "unloaded" else None),
    ),
    Mirror(
        "llm_engine_up", "1 while the model's engine process serves.", ("model",), of_models(up)
    ),
    Mirror(
        "llm_engine_deaths_total",
        "Times that the model's engine process ended by itself, since the model was first loaded.",
        ("model",),
        of_models(lambda status: status.deaths),
    ),
    Mirror(
        "llm_model_loaded",
        "1 for a model that is loaded, 0 for one that is known and is not.",
        ("model",),
        of_models(lambda status: float(status.state == "ready")),
    ),
    Mirror(
        "llm_engine_slots",
        "Sequences that the engine can compute at the same time.",
        ("model",),
        of_facts(lambda facts: facts.n_seq),
    ),
    Mirror(
        "llm_engine_slots_busy",
        "Slots in use after the last step.",
        ("model",),
        of_engines(lambda step, facts: step.running),
    ),
    Mirror(
        "llm_engine_batch_occupancy_ratio",
        "Slots in use after the last step, of all slots.",
        ("model",),
        of_engines(lambda step, facts: step.running / facts.n_seq if facts.n_seq else None),
    ),
    Mirror(
        "llm_kv_cache_tokens",
        "KV cells in use, kept prefixes included.",
        ("model",),
        of_engines(lambda step, facts: step.kv_tokens),
    ),
    Mirror(
        "llm_kv_cache_capacity_tokens",
        "KV cells that there are.",
        ("model",),
        of_facts(lambda facts: facts.n_ctx),
    ),
    Mirror(
        "llm_kv_cache_usage_ratio",
        "KV cells in use, of all.",
        ("model",),
        of_engines(lambda step, facts: step.kv_tokens / facts.n_ctx if facts.n_ctx else None),
    ),
    Mirror(
        "llm_model_size_bytes",
        "Size of the model's files.",
        ("model",),
        of_models(lambda status: status.card.size_bytes),
    ),
    Mirror(
        "llm_model_parameters",
        "Weights that the model has.",
        ("model",),
        of_models(lambda status: status.card.parameter_count),
    ),
    Mirror(
        "llm_model_context_tokens",
        "Context length: what the model was trained for, what its context holds, what one "
        "sequence may have of it.",
        ("model", "kind"),
        context_tokens,
    ),
    Mirror(
        "llm_model_memory_bytes",
        "GPU memory of the model's engine: all of it, by the driver; in a container, where the driver "
        "does not know the engine, what llama.cpp says that it took.",
        ("model", "device"),
        lambda snapshot: snapshot.gpu_memory.items(),
    ),
    Mirror(
        "llm_model_buffer_bytes",
        "Memory that llama.cpp took for the model, as it says: by device and by what it is for.",
        ("model", "device", "kind"),
        buffer_bytes,
    ),
    Mirror(
        "llm_kv_cache_bytes",
        "Of that, what keeps sequences: KV cells, and the states of recurrent layers.",
        ("model", "device"),
        kv_bytes,
    ),
    Mirror(
        "llm_model_gpu_layers",
        "Layers of a loaded model that are on GPUs, the output counted as one.",
        ("model",),
        of_facts(lambda facts: facts.gpu_layers),
    ),
    Mirror(
        "llm_model_energy_joules_total",
        "Energy of the GPUs that the model is on, shared by computing time with others on them.",
        ("model",),
        of_sums(lambda snapshot: snapshot.joules),
    ),
    Mirror(
        "llm_model_energy_cost_total",
        "What that energy cost at the price of its time, in the currency of price_per_kwh.",
        ("model",),
        of_sums(lambda snapshot: snapshot.cost),
    ),
    Mirror(
        "llm_model_layers",
        "Layers of a loaded model, the output counted as one.",
        ("model",),
        of_facts(lambda facts: facts.n_layer + 1),
    ),
    Mirror(
        "llm_model_last_used_timestamp_seconds",
        "When an answer of this model last ended, in Unix seconds.",
        ("model",),
        lambda snapshot: [
            ((m.card.name,), snapshot.last_used[m.card.name])
            for m in snapshot.models
            if m.card.name in snapshot.last_used
        ],
    ),
    Mirror(
        "llm_models_discovered",
        "Models found, by where and by size (7, 30 and 70 thousand million weights divide them).",
        ("source", "size_class"),
        discovered,
    ),
)


class StateCollector(Collector):
    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None

    def take(self, read: Callable[[], Snapshot]) -> None:
        """On the event loop: nothing there changes meanwhile."""
        try:
            self._snapshot = read()
        except Exception:
            self._snapshot = None
            logger.exception("The state of the models could not be read")

    def is_engine(self, pid: int) -> bool:
        """Whether it was the process of an engine when the snapshot was taken."""
        return self._snapshot is not None and any(m.pid == pid for m in self._snapshot.models)

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        if snapshot is None:
            raise LookupError("no snapshot was taken")
        for mirror in MIRRORS:
            yield mirror.family(snapshot)
        yield model_info(snapshot)
        yield engine_info(snapshot)


def model_info(snapshot: Snapshot) -> Metric:
    family = InfoMetricFamily("llm_model", "What a model is.", labels=("model",))
    for status in snapshot.models:
        card = status.card
        known = {
            "architecture": card.architecture,
            "quantization": card.quantization,
            "parameter_size": parameter_size(card.parameter_count),
        }
        family.add_metric((card.name,), {key: value or "" for key, value in known.items()})
    return family


def engine_info(snapshot: Snapshot) -> Metric:
    family = InfoMetricFamily("llm_engine", "What computes a loaded model.", labels=("model",))
    for status in snapshot.models:
        if status.facts is not None:
            family.add_metric((status.card.name,), {"llama_cpp": status.facts.engine_version})
    return family


def parameter_size(count: int | None) -> str | None:
    if count is None:
        return None
    if count >= 1e9:
        return f"{count / 1e9:.1f}B"
    return f"{count / 1e6:.1f}M"
