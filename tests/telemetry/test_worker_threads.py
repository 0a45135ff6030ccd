from __future__ import annotations

import asyncio
import threading

import pytest

from service.telemetry.worker_threads import WorkerThreads


def counts(workers: WorkerThreads) -> dict[str, float]:
    samples = (sample for family in workers.collect() for sample in family.samples)
    return {sample.name.removeprefix("llm_threadpool_"): sample.value for sample in samples}


async def test_work_is_counted_while_it_waits_and_while_it_runs() -> None:
    workers = WorkerThreads(size=1)
    asyncio.get_running_loop().set_default_executor(workers.executor())
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def work() -> int:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(10)
        return 7

    both = [asyncio.create_task(asyncio.to_thread(work)) for _ in range(2)]
    await begun.wait()

    assert counts(workers) == {"size": 1, "busy": 1, "waiting": 1}
    go_on.set()
    assert await asyncio.gather(*both) == [7, 7]
    assert counts(workers) == {"size": 1, "busy": 0, "waiting": 0}


def test_work_that_is_called_off_does_not_wait_any_more() -> None:
    workers = WorkerThreads(size=1)
    go_on = threading.Event()
    with workers.executor() as executor:
        running = executor.submit(go_on.wait, 10)
        called_off = executor.submit(int)
        assert called_off.cancel()
        assert workers.waiting <= 1
        go_on.set()
        assert running.result(10)

    assert (workers.busy, workers.waiting) == (0, 0)


def test_work_that_fails_is_over_too() -> None:
    workers = WorkerThreads()
    with workers.executor() as executor:
        failing = executor.submit(int, "no number")
        with pytest.raises(ValueError, match="no number"):
            failing.result(10)

    assert (workers.busy, workers.waiting) == (0, 0)
