"""What requests and engines did, added up for the analysis. Lives on the event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import astuple, replace

from service.events import FinishReason
from service.stats import ModelEvent, ModelLoaded, Observer, RequestStats, StepStats

REMEMBERED_LENGTHS: Final = 512
REMEMBERED_EVENTS: Final = 4096


class Tally(Struct):
    """Of one model. Seconds and tokens add up; `peak`, the most slots in use at once, does not.

    starved: requests whose time was over before they were scheduled. The waiting_… are of steps
    after which somebody waited for a slot; who waits for a prefix that another request is computing
    leaves slots empty on purpose, and waits for none. request_waits, prefix_waits: seconds times
    requests that waited, and those of them that waited for a prefix.
    """

    requests: float = 0.0
    starved: float = 0.0
    queue_seconds: float = 0.0
    total_seconds: float = 0.0
    steps: float = 0.0
    step_seconds: float = 0.0
    prefill_seconds: float = 0.0
    busy_slot_seconds: float = 0.0
    waiting_seconds: float = 0.0
    waiting_busy_slot_seconds: float = 0.0
    request_waits: float = 0.0
    prefix_waits: float = 0.0
    prefix_queried: float = 0.0
    prefix_hit: float = 0.0
    prefix_reusable: float = 0.0
    evictions: float = 0.0
    preemptions: float = 0.0
    peak: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return replace(Tally(*map(sum, pairs)), peak=max(self.peak, other.peak))

    def since(self, before: Tally) -> Tally:
        pairs = zip(astuple(self), astuple(before), strict=True)
        return replace(Tally(*(now - then for now, then in pairs)), peak=self.peak)


class Occurrence(Struct, frozen=True):
    """Something that happens to a model at times. at: monotonic seconds."""

    at: float
    kind: str
    model: str


class Workload:
    """Implements `stats.Observer`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tallies: dict[str, Tally] = {}
        # Tokens of prompt and answer together, of each model's last requests.
        self._lengths: dict[str, deque[int]] = {}
        self._occurrences: deque[Occurrence] = deque(maxlen=REMEMBERED_EVENTS)

    def on_model(self, event: ModelEvent) -> None:
        kind = "loaded" if isinstance(event, ModelLoaded) else event.reason
        self._occurrences.append(Occurrence(self._clock(), kind, event.model))

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
        for stats in steps:
            if stats.phase != "idle":
                self._on_step(self._tally(model), stats)

    def _on_step(self, tally: Tally, stats: StepStats) -> None:
        # `running` is after the step: who ended with it had a slot in it.
        slots = max(stats.running, stats.decode_tokens + len(stats.prefill_progress))
        seconds, busy = stats.step_seconds, slots * stats.step_seconds
        tally.steps += 1
        tally.step_seconds += seconds
        tally.busy_slot_seconds += busy
        tally.peak = max(tally.peak, slots)
        if stats.prefill_tokens:
            tally.prefill_seconds += seconds
        tally.request_waits += stats.waiting * seconds
        tally.prefix_waits += stats.waiting_for_prefix * seconds
        if stats.waiting > stats.waiting_for_prefix:
            tally.waiting_seconds += seconds
            tally.waiting_busy_slot_seconds += busy
        tally.prefix_queried += stats.prefix_queried_tokens
        tally.prefix_hit += stats.prefix_hit_tokens
        tally.prefix_reusable += stats.prefix_reusable_tokens
        tally.evictions += stats.evictions
        tally.preemptions += stats.preemptions

    def on_finish(self, stats: RequestStats) -> None:
        """A request that never reached an engine says nothing of it."""
        if stats.timings is None:
            return
        tally, timings = self._tally(stats.model), stats.timings
        scheduled = timings.scheduled
        tally.requests += 1
        tally.total_seconds += max(0.0, stats.ended - timings.queued)
        waited = (stats.ended if scheduled is None else scheduled) - timings.queued
        tally.queue_seconds += max(0.0, waited)
        if scheduled is None and stats.reason is FinishReason.TIMEOUT:
            tally.starved += 1
        if stats.usage is not None and scheduled is not None:
            lengths = self._lengths.setdefault(stats.model, deque(maxlen=REMEMBERED_LENGTHS))
            lengths.append(stats.usage.prompt_tokens + stats.usage.generation_tokens)

    def forget(self) -> None:
        """What was so under other settings is not so any more."""
        self._lengths.clear()
        self._occurrences.clear()

    def totals(self) -> dict[str, Tally]:
        """Copies of this moment; each `peak` is since the last `forget_peaks`."""
        return {model: replace(tally) for model, tally in self._tallies.items()}

    def forget_peaks(self) -> None:
        for tally in self._tallies.values():
            tally.peak = 0.0

    def lengths(self) -> Mapping[str, tuple[int, ...]]:
        return {model: tuple(lengths) for model, lengths in self._lengths.items()}

    def occurred(self, seconds: float) -> Iterator[Occurrence]:
        """Within the last seconds, oldest first."""
        since = self._clock() - seconds
        return (event for event in list(self._occurrences) if event.at >= since)

    def _tally(self, model: str) -> Tally:
        tally = self._tallies.get(model)
        if tally is None:
            tally = self._tallies[model] = Tally()
        return tally


class Tallied:
    """An observer, and the workload of what it observes."""

    def __init__(self, observer: Observer, workload: Workload) -> None:
        self._observer = observer
        self._workload = workload

    def on_model(self, event: ModelEvent) -> None:
        self._observer.on_model(event)
        self._workload.on_model(event)

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
        self._observer.on_steps(model, steps)
        self._workload.on_steps(model, steps)

    def on_finish(self, stats: RequestStats) -> None:
        self._observer.on_finish(stats)
        self._workload.on_finish(stats)
