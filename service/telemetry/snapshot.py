"""The state that gauges mirror, taken at one moment on the event loop, and its parts as samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from service.catalog.card import ModelCard
from service.facts import Buffer
from service.stats import StepStats

SIZE_CLASSES: Final = (("small", 7.0), ("medium", 30.0), ("large", 70.0))


class Facts(Protocol):
    """Of `facts.ModelFacts`, what is shown here."""

    @property
    def n_ctx(self) -> int: ...
    @property
    def n_ctx_seq(self) -> int: ...
    @property
    def n_ctx_train(self) -> int: ...
    @property
    def n_seq(self) -> int: ...
    @property
    def n_layer(self) -> int: ...
    @property
    def engine_version(self) -> str: ...
    @property
    def gpu_layers(self) -> int: ...
    @property
    def buffers(self) -> Sequence[Buffer]: ...


class Status(Protocol):
    """Of `model_status.ModelStatus`, what is shown here."""

    @property
    def card(self) -> ModelCard: ...
    @property
    def state(self) -> str: ...
    @property
    def facts(self) -> Facts | None: ...
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def by_api(self) -> Mapping[str, tuple[int, int]]: ...
    @property
    def queue_capacity(self) -> int: ...
    @property
    def deaths(self) -> int: ...
    @property
    def pid(self) -> int | None: ...


@dataclass(frozen=True)
class Snapshot:
    ready: bool = False
    models: Sequence[Status] = ()
    steps: Mapping[str, StepStats] = field(default_factory=dict)
    last_used: Mapping[str, float] = field(default_factory=dict)
    apis: Sequence[str] = ()
    # Bytes of the engines' memory by model and GPU.
    gpu_memory: Mapping[tuple[str, str], int] = field(default_factory=dict)
    joules: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


Samples = Iterable[tuple[tuple[str, ...], float]]


def of_models(read: Callable[[Status], float | None]) -> Callable[[Snapshot], Samples]:
    """One sample for each model of which `read` knows a value."""

    def samples(snapshot: Snapshot) -> Samples:
        for status in snapshot.models:
            if (value := read(status)) is not None:
                yield (status.card.name,), value

    return samples


def of_engines(read: Callable[[StepStats, Facts], float | None]) -> Callable[[Snapshot], Samples]:
    """The same, of the models whose engine is up and has made a step."""

    def samples(snapshot: Snapshot) -> Samples:
        for status in snapshot.models:
            step = snapshot.steps.get(status.card.name)
            if status.state == "ready" and status.facts is not None and step is not None:
                value = read(step, status.facts)
                if value is not None:
                    yield (status.card.name,), value

    return samples


def of_sums(read: Callable[[Snapshot], Mapping[str, float]]) -> Callable[[Snapshot], Samples]:
    """One sample for each model that was added up for, loaded or not."""
    return lambda snapshot: [((model,), value) for model, value in read(snapshot).items()]


def of_facts(read: Callable[[Facts], float]) -> Callable[[Snapshot], Samples]:
    return of_models(lambda status: None if status.facts is None else read(status.facts))


def by_api(read: Callable[[int, int], int]) -> Callable[[Snapshot], Samples]:
    """For each model that is loaded, or about to be, one sample of each dialect."""

    def samples(snapshot: Snapshot) -> Samples:
        for status in snapshot.models:
            if status.state != "unloaded":
                for api in snapshot.apis:
                    yield (api, status.card.name), read(*status.by_api.get(api, (0, 0)))

    return samples


def context_tokens(snapshot: Snapshot) -> Samples:
    for status in snapshot.models:
        facts = status.facts
        trained = facts.n_ctx_train if facts else status.card.context_length
        if trained is not None:
            yield (status.card.name, "trained"), trained
        if facts is not None:
            yield (status.card.name, "configured"), facts.n_ctx
            yield (status.card.name, "reported"), facts.n_ctx_seq


def buffer_bytes(snapshot: Snapshot) -> Samples:
    return summed(
        ((status.card.name, buffer.device, buffer.kind), buffer.bytes)
        for status, buffer in buffers(snapshot.models)
    )


def kv_bytes(snapshot: Snapshot) -> Samples:
    return summed(
        ((status.card.name, buffer.device), buffer.bytes)
        for status, buffer in buffers(snapshot.models)
        if buffer.kind in ("cells", "states")
    )


def buffers(models: Sequence[Status]) -> Iterator[tuple[Status, Buffer]]:
    for status in models:
        if status.facts is not None:
            yield from ((status, buffer) for buffer in status.facts.buffers)


def summed(samples: Samples) -> Samples:
    sums: dict[tuple[str, ...], float] = {}
    for labels, value in samples:
        sums[labels] = sums.get(labels, 0.0) + value
    return sums.items()


def discovered(snapshot: Snapshot) -> Samples:
    counts: dict[tuple[str, ...], int] = {}
    for status in snapshot.models:
        key = (status.card.source, size_class(status.card.parameter_count))
        counts[key] = counts.get(key, 0) + 1
    return counts.items()


def size_class(parameters: int | None) -> str:
    if parameters is None:
        return "unknown"
    billions = parameters / 1e9
    return next((n for n, most in SIZE_CLASSES if billions < most), "xlarge")


def up(status: Status) -> float | None:
    return {"ready": 1.0, "restarting": 0.0, "failed": 0.0}.get(status.state)
