"""What finished requests measured, for comparing one configuration with the next.

Lives on the event loop, and costs a request a few microseconds.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from service.events import FinishReason
from service.stats import (
    ModelEvent,
    ModelLoadFailed,
    ModelUnloaded,
    Observer,
    Operation,
    RequestStats,
    StepStats,
)

# Of each load class, and load classes: 128 bytes a sample make 5 MiB at most.
KEPT: Final = 400
CLASSES: Final = 100
# Changes of how many requests there are, for a request's mean of them.
CHANGES: Final = 1024
# The dialect of requests that a trial makes: they are no user's, and count among no user's.
TRIAL: Final = "trial"


class LoadClass(NamedTuple):
    """What makes requests comparable. `prompt` and `concurrency` are numbers of buckets:
    prompts of less than 1, 4, 16, 64, ... tokens; 1, 2-3, 4-7, ... requests at the same time."""

    model: str
    operation: Operation
    stream: bool
    prompt: int
    concurrency: int


class Sample(Struct, frozen=True):
    """One request. `arrived` and `ended` in monotonic seconds; the times in seconds, None where the request
    never got that far, or failed. `per_token` is the mean gap between its tokens."""

    load: LoadClass
    version: int
    arrived: float
    ended: float
    outcome: FinishReason
    queue: float | None = None
    first_token: float | None = None
    per_token: float | None = None
    whole: float | None = None

    @property
    def failed(self) -> bool:
        return self.outcome in (FinishReason.ERROR, FinishReason.TIMEOUT)


# The families whose observations these are, one for each request, less being better.
METRICS: Final[dict[str, Callable[[Sample], float | None]]] = {
    "llm_time_per_output_token_seconds": lambda sample: sample.per_token,
    "llm_time_to_first_token_seconds": lambda sample: sample.first_token,
    "llm_request_duration_seconds": lambda sample: sample.whole,
    "llm_request_queue_seconds": lambda sample: sample.queue,
}


class Concurrency:
    """How many requests there were, of all models, and how many on average since a moment."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._models: dict[str, int] = {}
        self._total = 0
        # (since when, how many), oldest first.
        self._changes: deque[tuple[float, int]] = deque(maxlen=CHANGES)

    def set(self, model: str, requests: int) -> None:
        before = self._models.get(model, 0)
        if requests != before:
            self._models[model] = requests
            self._total += requests - before
            self._changes.append((self._clock(), self._total))

    def mean(self, since: float, until: float) -> float:
        """Where so much has changed since that the beginning is forgotten, of what is known."""
        total, end = 0.0, until
        for begun, requests in reversed(self._changes):
            start = max(begun, since)
            if start < end:
                total += requests * (end - start)
                end = start
            if begun <= since:
                break
        return total / (until - end) if until > end else 1.0


class Samples:
    """Implements `stats.Observer`. `on_sample` is called with each; `load_failures` counts models
    that could not be loaded, by reason."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.version = 0
        self.on_sample: Callable[[Sample], None] | None = None
        self.load_failures: Counter[str] = Counter()
        self._since = clock()
        self._clock = clock
        self._concurrency = Concurrency(clock)
        self._kept: OrderedDict[LoadClass, deque[Sample]] = OrderedDict()

    def change(self, version: int) -> None:
        """From now on requests run under this version of the configuration. One that has begun
        under another runs under both, and is no sample of either."""
        self.version = version
        self._since = self._clock()

    def of(self, version: int) -> Iterator[Sample]:
        for kept in self._kept.values():
            yield from (sample for sample in kept if sample.version == version)

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
        for stats in steps:
            self._concurrency.set(model, stats.running + stats.waiting)

    def on_model(self, event: ModelEvent) -> None:
        if isinstance(event, ModelUnloaded):
            self._concurrency.set(event.model, 0)
        elif isinstance(event, ModelLoadFailed):
            self.load_failures[event.reason] += 1

    def on_finish(self, stats: RequestStats) -> None:
        if stats.arrived < self._since or stats.reason is FinishReason.CANCELLED:
            return
        sample = self._sample(stats)
        kept = self._kept.get(sample.load)
        if kept is None:
            if len(self._kept) >= CLASSES:
                self._kept.popitem(last=False)
            kept = self._kept[sample.load] = deque(maxlen=KEPT)
        else:
            self._kept.move_to_end(sample.load)
        kept.append(sample)
        if self.on_sample is not None:
            self.on_sample(sample)

    def _sample(self, stats: RequestStats) -> Sample:
        prompt = stats.usage.prompt_tokens if stats.usage is not None else 0
        together = round(self._concurrency.mean(stats.arrived, stats.ended))
        load = LoadClass(
            stats.model,
            stats.operation,
            stats.stream,
            (prompt.bit_length() + 1) // 2,
            max(1, together).bit_length(),
        )
        if stats.reason in (FinishReason.ERROR, FinishReason.TIMEOUT):
            return Sample(load, self.version, stats.arrived, stats.ended, stats.reason)
        return Sample(load, self.version, stats.arrived, stats.ended, stats.reason, *times(stats))


def times(stats: RequestStats) -> tuple[float | None, float | None, float | None, float]:
    """Queue, first token, time per token, all of it; as the families of these names have them."""
    queue = first = per_token = None
    timings, usage = stats.timings, stats.usage
    if timings is not None and timings.scheduled is not None:
        queue = timings.scheduled - timings.queued
        if timings.first_token is not None:
            first = timings.first_token - stats.arrived
            if timings.last_token is not None and usage is not None and usage.generation_tokens > 1:
                decode = timings.last_token - timings.first_token
                per_token = decode / (usage.generation_tokens - 1)
    return queue, first, per_token, stats.ended - stats.arrived


class Sampled:
    """An observer, and the samples of what it observes. A trial's requests are told to neither:
    `on_trial` has them."""

    def __init__(self, observer: Observer, samples: Samples) -> None:
        self._observer = observer
        self._samples = samples
        self.on_trial: Callable[[RequestStats], None] | None = None

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
        self._observer.on_steps(model, steps)
        self._samples.on_steps(model, steps)

    def on_model(self, event: ModelEvent) -> None:
        self._observer.on_model(event)
        self._samples.on_model(event)

    def on_finish(self, stats: RequestStats) -> None:
        if stats.dialect == TRIAL:
            if self.on_trial is not None:
                self.on_trial(stats)
            return
        self._observer.on_finish(stats)
        self._samples.on_finish(stats)
