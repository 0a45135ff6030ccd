"""The threads that do what would hold up the event loop, and how many of them are at it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

P = ParamSpec("P")
T = TypeVar("T")

NAME: Final = "worker"
# As many as asyncio's own pool has: most of them wait for a disk.
SIZE: Final = min(32, (os.cpu_count() or 1) + 4)


class WorkerThreads(Collector):
    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.busy = 0
        self.waiting = 0
        self._lock = threading.Lock()

    def executor(self) -> ThreadPoolExecutor:
        """For `loop.set_default_executor`, which shuts it down with the loop."""
        return Counted(self)

    def change(self, *, waiting: int = 0, busy: int = 0) -> None:
        with self._lock:
            self.waiting += waiting
            self.busy += busy

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            busy, waiting = self.busy, self.waiting
        yield gauge("size", "Threads that there may be.", self.size)
        yield gauge("busy", "Threads at work.", busy)
        yield gauge("waiting", "Pieces of work that no thread has begun.", waiting)


class Counted(ThreadPoolExecutor):
    def __init__(self, counts: WorkerThreads) -> None:
        super().__init__(counts.size, thread_name_prefix=NAME)
        self._counts = counts

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        change = self._counts.change

        def work() -> T:
            change(waiting=-1, busy=1)
            try:
                return fn(*args, **kwargs)
            finally:
                change(busy=-1)

        def skip(future: Future[Any]) -> None:
            if future.cancelled():
                change(waiting=-1)

        change(waiting=1)
        future = super().submit(work)
        future.add_done_callback(skip)
        return future


def gauge(name: str, help: str, value: float) -> Metric:
    family = GaugeMetricFamily(f"llm_threadpool_{name}", help, labels=("pool",))
    family.add_metric((NAME,), value)
    return family
