"""What was measured, minute by minute: of traffic the last 15 minutes that had any, of the machine
the last hour.

Lives on the event loop: a tick reads values that others have read before, and costs microseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct
from prometheus_client.registry import Collector

from exporters.readings import GpuReading, HostReading, Latest
from service.control.workload import Tally, Workload

TICK_SECONDS: Final = 5.0
INTERVAL_SECONDS: Final = 60.0
BUSY_SECONDS: Final = 900.0
RECENT_SECONDS: Final = 3600.0
THERMAL: Final = ("sw_thermal", "hw_thermal", "hw_slowdown", "hw_power_brake")
POWER_CAP: Final = "sw_power_cap"

# Cumulative: observations up to each bound.
Buckets = Mapping[float, float]


class GpuInterval(Struct, frozen=True):
    """Samples of each tick, in Celsius and watts; throttled by reason, in seconds."""

    temperatures: tuple[float, ...] = ()
    powers: tuple[float, ...] = ()
    throttled: Mapping[str, float] = {}


class Interval(Struct, frozen=True):
    """What changed within `seconds` that ended `at` (Unix seconds). None: nobody told.

    stalled: seconds in which some task waited for a processor. available: the least of memory.
    """

    at: float
    seconds: float
    work: Mapping[str, Tally]
    lag: Buckets
    stalled: float | None = None
    swapped_in: float | None = None
    major_faults: float | None = None
    oom_kills: float | None = None
    available: int | None = None
    loads: tuple[float, ...] = ()
    gpus: Mapping[str, GpuInterval] = {}

    @property
    def busy(self) -> bool:
        return any(tally.steps or tally.requests for tally in self.work.values())


class Intervals:
    """`lag` tells how often the event loop was how late, in all."""

    def __init__(
        self,
        latest: Latest,
        workload: Workload,
        lag: Callable[[], Buckets],
        monotonic: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.busy: tuple[Interval, ...] = ()
        self.recent: tuple[Interval, ...] = ()
        self._latest = latest
        self._workload = workload
        self._lag = lag
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._begin()

    def tick(self) -> None:
        """Every few seconds. A minute that is full is put with the others."""
        self._sample()
        if (seconds := self._monotonic() - self._began) >= INTERVAL_SECONDS:
            self.busy, self.recent = self._with(self._made(seconds))
            self._begin()

    def forget(self) -> None:
        """What was so under other settings is not so any more."""
        self.busy = self.recent = ()
        self._workload.forget()
        self._begin()

    def so_far(self) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
        """Those with traffic and those of late, the one that has not ended among them."""
        seconds = self._monotonic() - self._began
        if seconds <= 0:
            return self.busy, self.recent
        self._sample()
        return self._with(self._made(seconds))

    def _with(self, interval: Interval) -> tuple[tuple[Interval, ...], tuple[Interval, ...]]:
        busy = newest((*self.busy, interval), BUSY_SECONDS) if interval.busy else self.busy
        return busy, newest((*self.recent, interval), RECENT_SECONDS)

    def _begin(self) -> None:
        self._began = self._monotonic()
        self._workload.forget_peaks()
        self._work = self._workload.totals()
        self._lags = self._lag()
        self._host = self._latest.machine
        self._available: list[int] = []
        self._loads: list[float] = []
        self._gpus: dict[str, deque[GpuReading]] = {}
        self._sample()

    def _sample(self) -> None:
        host = self._latest.machine
        # The collectors may have read nothing yet when an interval begins.
        self._host = self._host or host
        if host is not None and host.memory_available is not None:
            self._available.append(host.memory_available)
        if host is not None and host.load is not None:
            self._loads.append(host.load[0])
        for gpu in self._latest.gpus.gpus if self._latest.gpus else ():
            if gpu.up:
                self._gpus.setdefault(gpu.uuid, deque(maxlen=64)).append(gpu)

    def _made(self, seconds: float) -> Interval:
        before, now = self._host or HostReading(), self._latest.machine or HostReading()
        stalled = ("cpu", "some")
        return Interval(
            at=self._wall_clock(),
            seconds=seconds,
            work={
                model: tally.since(self._work.get(model, Tally()))
                for model, tally in self._workload.totals().items()
            },
            lag={bound: count - self._lags.get(bound, 0.0) for bound, count in self._lag().items()},
            stalled=grown(before.pressure_seconds.get(stalled), now.pressure_seconds.get(stalled)),
            swapped_in=grown(before.swap_in, now.swap_in),
            major_faults=grown(before.major_faults, now.major_faults),
            oom_kills=grown(killed(before), killed(now)),
            available=min(self._available, default=None),
            loads=tuple(self._loads),
            gpus={uuid: gpu_interval(readings) for uuid, readings in self._gpus.items()},
        )


def gpu_interval(readings: Iterable[GpuReading]) -> GpuInterval:
    readings = list(readings)
    first, last = readings[0].throttle_seconds, readings[-1].throttle_seconds
    return GpuInterval(
        temperatures=tuple(g.temperature for g in readings if g.temperature is not None),
        powers=tuple(gpu.power for gpu in readings if gpu.power is not None),
        throttled={
            reason: max(0.0, seconds - first[reason])
            for reason, seconds in last.items()
            if reason in first
        },
    )


def killed(host: HostReading) -> float | None:
    """The machine's count has those of its control groups too."""
    return max(host.oom_kills.values(), default=None)


def grown(before: float | None, now: float | None) -> float | None:
    """A counter that began anew is not known to have grown."""
    return None if before is None or now is None else max(0.0, now - before)


def newest(intervals: tuple[Interval, ...], seconds: float) -> tuple[Interval, ...]:
    """The last of them that are no longer than this together; one at least."""
    total = 0.0
    for count, interval in enumerate(reversed(intervals), 1):
        total += interval.seconds
        if total >= seconds:
            return intervals[-count:]
    return intervals


def buckets_of(histogram: Collector) -> dict[float, float]:
    """Of a histogram without labels."""
    samples = (sample for metric in histogram.collect() for sample in metric.samples)
    return {float(s.labels["le"]): s.value for s in samples if s.name.endswith("_bucket")}
