"""The settings in force, as gauges: dashboards show them beside what they lead to.

What is left to the engine has no series; what it chose then is among the families of each model.
`models` gives single models values of their own, which are not shown here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from service.control.config import fingerprint
from service.settings import Settings

GAUGES: Final = {
    "gpu_layers": "Layers to place on GPUs, the output counted as one.",
    "context_tokens": "Context of a model, shared by all its sequences.",
    "batch_tokens": "Most tokens computed in one step.",
    "threads": "Threads that compute, in steps of prompts as of answers.",
    "parallel_slots": "Sequences that one model computes at the same time.",
    "queue_requests": "Requests that may wait for one model.",
    "loaded_models": "Models that may be in memory at the same time.",
    "request_timeout_seconds": "Time that a request may take in all.",
    "queue_timeout_seconds": "Time that a request may wait for its turn.",
    "keep_alive_seconds": "Time that an idle model stays loaded; +Inf: for ever.",
}

# Where a service is, and where its files are: what services of one pool need not agree about.
OF_ONE_PLACE: Final = frozenset(
    {"config", "host", "port", "listeners", "allowed_hosts", "insecure_no_auth", "grafana_url"}
    | {"api_keys_file", "model_dir", "state_dir", "store_dir", "presets_file"}
)

SOURCES: Final = ("api", "file", "preset", "recommendation")
RESULTS: Final = ("applied", "invalid", "refused", "not_written", "failed")


class InForce(Protocol):
    """What is in force, and what came of changes: (source, result) → how many. `changed_at`, of the
    last one that is in force, in seconds of the epoch. `successful` False: what lies on disk could
    not be put in force, and what was before is."""

    @property
    def outcomes(self) -> Mapping[tuple[str, str], int]: ...
    @property
    def changed_at(self) -> float: ...
    @property
    def successful(self) -> bool: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def pending(self) -> Sized: ...
    @property
    def preset(self) -> str: ...
    @property
    def number(self) -> int: ...


class Gpu(Protocol):
    @property
    def index(self) -> int: ...


class Configuration(Collector):
    """`shown`: the GPUs that engines see, in the order that shares are counted in; None: nobody
    has looked. Any thread may ask."""

    def __init__(
        self, in_force: InForce, shown: Callable[[], Sequence[Gpu] | None] = lambda: None
    ) -> None:
        self._in_force = in_force
        self._shown = shown

    def collect(self) -> Iterator[Metric]:
        settings = self._in_force.settings
        values = gauges(settings)
        for name, help in GAUGES.items():
            family = GaugeMetricFamily(f"llm_config_{name}", help)
            if (value := values[name]) is not None:
                family.add_metric((), value)
            yield family
        yield split(settings.tensor_split, self._shown())
        yield info(self._in_force)
        yield from changes(self._in_force)


def split(shares: Sequence[float], shown: Sequence[Gpu] | None) -> Metric:
    """By the index that a GPU has in all other families. A share without a GPU is of nothing."""
    family = GaugeMetricFamily(
        "llm_config_tensor_split_ratio", "Share of each GPU, of 1.", labels=("gpu",)
    )
    indexes = range(len(shares)) if shown is None else [gpu.index for gpu in shown]
    for index, share in zip(indexes, shares, strict=False):
        family.add_metric((str(index),), share / sum(shares))
    return family


def changes(in_force: InForce) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "llm_config_changes",
        "Changes of settings that were asked for.",
        labels=("source", "result"),
    )
    for source in SOURCES:
        for result in RESULTS:
            family.add_metric((source, result), in_force.outcomes.get((source, result), 0))
    yield family
    for name, help, value in (
        (
            "last_reload_successful",
            "Whether the settings on disk are in force; 0: those before them are.",
            float(in_force.successful),
        ),
        (
            "last_reload_timestamp_seconds",
            "When settings were last put in force.",
            in_force.changed_at,
        ),
        ("version", "Number of the version of the settings that is in force.", in_force.number),
        (
            "pending_settings",
            "Settings that were changed and wait for the next start.",
            len(in_force.pending),
        ),
    ):
        gauge = GaugeMetricFamily(f"llm_config_{name}", help)
        gauge.add_metric((), value)
        yield gauge


def gauges(settings: Settings) -> dict[str, float | None]:
    return {
        "gpu_layers": settings.gpu_layers,
        "context_tokens": settings.default_context_size,
        "batch_tokens": settings.batch_size,
        "threads": settings.threads,
        "parallel_slots": settings.parallel_slots,
        "queue_requests": settings.queue_limit,
        "loaded_models": settings.max_loaded_models,
        "request_timeout_seconds": settings.request_timeout,
        "queue_timeout_seconds": settings.queue_timeout,
        "keep_alive_seconds": math.inf if settings.keep_alive < 0 else settings.keep_alive,
    }


def info(in_force: InForce) -> Metric:
    settings = in_force.settings
    family = InfoMetricFamily(
        "llm_config",
        "Settings that are no numbers; a hash of all that are in force, and one without what is of one place.",
    )
    words = {
        "preset": in_force.preset,
        "split_mode": settings.split_mode or "auto",
        "cache_type_k": settings.cache_type_k,
        "cache_type_v": settings.cache_type_v,
        "flash_attention": settings.flash_attention,
        "kv_cache": settings.kv_cache,
        # That of a version is of what is wanted, which can wait for a restart.
        "hash_in_force": fingerprint(settings),
        "hash_shared": fingerprint(settings, without=OF_ONE_PLACE),
    }
    family.add_metric((), words)
    return family
