"""What the service promises while engines die and clients misbehave."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil

from service.errors import Draining, ModelUnavailable, Overloaded
from service.events import Finished, FinishReason
from service.serving.runtime import Generation, Runtime
from tests.fleet.fakes import (
    QUICK,
    Seen,
    answer,
    chat,
    lives,
    outcome,
    rest,
    running_runtime,
    texts,
    until,
    write_script,
)
from tests.full_size import FULL_SIZE


def engine(runtime: Runtime, model: int = 0) -> psutil.Process:
    pid = runtime.models()[model].pid
    assert pid is not None
    return psutil.Process(pid)


def fds() -> int:
    return psutil.Process().num_fds()


async def first_batch(generation: Generation) -> None:
    """Reads until the first token, and leaves the rest to come."""
    batches = generation.batches()
    await anext(aiter(batches))


async def test_r1_a_killed_engine_costs_the_running_streams_an_error_and_the_queued_nothing(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, delay=0.005, tokens=200)
    seen = Seen()
    async with running_runtime(path, observer=seen, parallel_slots=8) as runtime:
        streaming = [await runtime.admit(chat()) for _ in range(8)]
        await asyncio.gather(*map(first_batch, streaming))
        queued = [await runtime.admit(chat(tokens=3)) for _ in range(8)]
        begun = asyncio.gather(*map(rest, streaming))
        waiting = asyncio.gather(*map(rest, queued))
        await asyncio.sleep(0.05)

        engine(runtime).kill()
        ends = [end for _, (end,) in await begun]
        answers = await waiting

        assert [(end.reason, end.code) for end in ends] == [
            (FinishReason.ERROR, "engine_crashed")
        ] * 8
        assert [text for text, _ in answers] == ["t0 t1 t2 "] * 8
        assert runtime.models()[0].running == runtime.models()[0].waiting == 0
        assert sorted(stats.reason for stats in seen.finishes) == sorted(
            [FinishReason.ERROR] * 8 + [FinishReason.STOP] * 8
        )


async def test_a_killed_engine_is_noticed_by_its_end_and_not_by_looking_now_and_then(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, delay=0.001, tokens=100_000)
    noticed = []
    async with running_runtime(path) as runtime:
        for _ in range(5):
            generation = await runtime.admit(chat())
            await first_batch(generation)
            killed = time.monotonic()
            engine(runtime).kill()
            await rest(generation)
            noticed.append(time.monotonic() - killed)
            await until(lambda: runtime.ready)

    # Whoever looks looks once a second, or less often: half of that on average.
    assert median(noticed) < 0.25


async def test_r3_clients_that_leave_at_any_moment_leave_nothing_behind(tmp_path: Path) -> None:
    clients, requests = (64, 50) if FULL_SIZE else (24, 12)
    path = write_script(tmp_path, delay=0.001, tokens=6, prefill_steps=2)
    seen = Seen()
    rng = random.Random(3)
    outcomes: list[object] = []
    limits = replace(QUICK, queue=128)
    async with running_runtime(path, observer=seen, limits=limits) as runtime:
        await rest(await runtime.admit(chat()))
        before = fds()

        async def client() -> None:
            for _ in range(requests):
                request = asyncio.create_task(answer(runtime, chat()))
                if rng.random() < 0.2:
                    await asyncio.sleep(rng.random() * 0.15)
                    request.cancel()
                await asyncio.wait({request})
                if not request.cancelled():
                    outcomes.append(request.exception() or request.result()[1][0].reason)

        await asyncio.gather(*(client() for _ in range(clients)))
        settled = await until(
            lambda: (seen.steps[-1].running, seen.steps[-1].kv_tokens) == (0, 0), within=2.0
        )
        status = runtime.models()[0]

        assert settled < 2.0
        assert (status.running, status.waiting, status.deaths) == (0, 0, 0)
        assert set(outcomes) == {FinishReason.STOP}
        assert len(outcomes) > clients * requests * 0.7
        assert fds() == before


async def test_r4_of_500_at_once_68_are_accepted_and_the_others_told_so_at_once(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, delay=0.02, tokens=4)
    limits = replace(QUICK, queue=64)
    async with running_runtime(path, limits=limits, parallel_slots=4) as runtime:
        await rest(await runtime.admit(chat()))
        process = psutil.Process()
        before = process.memory_info().rss
        hints: list[float | None] = []

        async def client() -> str:
            try:
                generation = await runtime.admit(chat())
            except Overloaded as error:
                hints.append(error.retry_after)
                return "refused"
            return (await rest(generation))[0]

        results = await asyncio.gather(*(client() for _ in range(500)))

        assert results.count("t0 t1 t2 t3 ") == 68
        assert results.count("refused") == 432
        assert all(hint is not None and hint >= 1 for hint in hints)
        assert process.memory_info().rss - before < 50 << 20


async def test_r5_readers_that_stop_are_cancelled_and_the_others_go_on(tmp_path: Path) -> None:
    patience = 30.0 if FULL_SIZE else 1.0
    # Slow enough that what waits for a reader grows old before it is too much.
    path = write_script(tmp_path, delay=patience / 500, tokens=1_000_000)
    limits = replace(QUICK, queue=64, reader_timeout=patience, queue_timeout=60)
    async with running_runtime(path, limits=limits, parallel_slots=60) as runtime:
        good = await runtime.admit(chat())
        stalled = [await runtime.admit(chat()) for _ in range(50)]
        before = psutil.Process().memory_info().rss
        gaps: list[float] = []

        async def read() -> None:
            async with aclosing(good):
                last = time.monotonic()
                async for _ in good.batches():
                    now = time.monotonic()
                    gaps.append(now - last)
                    last = now

        reading = asyncio.create_task(read())
        await until(lambda: runtime.models()[0].running == 51)
        cut = await until(lambda: runtime.models()[0].running == 1, within=patience + 6)
        grown = psutil.Process().memory_info().rss - before
        reading.cancel()
        ends = [(await rest(generation))[1][0] for generation in stalled]

        assert patience <= cut <= patience + 5
        assert {(end.reason, end.code) for end in ends} == {(FinishReason.ERROR, "slow_reader")}
        assert grown < 64 << 20
        assert median(gaps) < 0.1


async def test_r8_draining_lets_answers_finish_and_ends_the_rest_with_an_error(
    tmp_path: Path,
) -> None:
    path = write_script(tmp_path, delay=0.01, tokens=40)
    async with running_runtime(path, parallel_slots=16) as runtime:
        running = [await runtime.admit(chat()) for _ in range(12)]
        endless = await runtime.admit(chat(tokens=1_000_000))
        answers = asyncio.gather(*map(rest, running))
        cut = asyncio.create_task(rest(endless))
        await asyncio.sleep(0.05)

        began = time.monotonic()
        draining = asyncio.create_task(runtime.drain(1.5))
        await asyncio.sleep(0)
        assert not runtime.ready
        assert isinstance(await outcome(runtime.admit(chat())), Draining)
        finished = {end.reason for _, (end,) in await answers}
        assert not draining.done()
        await draining
        _, (end,) = await cut

        assert 1.5 <= time.monotonic() - began < 2.5
        assert finished == {FinishReason.STOP}
        assert (end.reason, end.code) == (FinishReason.ERROR, "draining")


async def test_draining_with_nothing_to_do_takes_no_time(tmp_path: Path) -> None:
    async with running_runtime(write_script(tmp_path)) as runtime:
        await answer(runtime, chat())
        began = time.monotonic()
        await runtime.drain(60.0)

        assert time.monotonic() - began < 0.1


async def test_r12_a_frozen_engine_is_killed_and_replaced(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.01, tokens=30)
    step_timeout = 1.0
    limits = replace(QUICK, step_timeout=step_timeout)
    async with running_runtime(path, limits=limits, parallel_slots=2) as runtime:
        streaming = [await runtime.admit(chat(tokens=100_000)) for _ in range(2)]
        await asyncio.gather(*map(first_batch, streaming))
        queued = [await runtime.admit(chat()) for _ in range(2)]
        pid = engine(runtime).pid
        frozen = time.monotonic()
        os.kill(pid, signal.SIGSTOP)

        ends = [end for _, (end,) in await asyncio.gather(*map(rest, streaming))]
        killed = time.monotonic() - frozen
        answers = await asyncio.gather(*map(rest, queued))

        assert step_timeout <= killed <= step_timeout + 1
        assert {end.code for end in ends} == {"engine_crashed"}
        assert {end.reason for _, (end,) in answers} == {FinishReason.STOP}
        assert not psutil.pid_exists(pid)
        assert lives(path) == 2


async def test_r13_a_model_that_dies_on_load_fails_alone(tmp_path: Path) -> None:
    bad = write_script(tmp_path, "bad", load="crash", stderr="GGML_ASSERT(n_layer > 0) failed\n")
    good = write_script(tmp_path, "good", delay=0.002, tokens=20)
    async with running_runtime(good, bad, default_model="good") as runtime:
        trying = asyncio.create_task(outcome(runtime.admit(chat("bad"))))
        while runtime.models()[1].state != "failed":
            _, (end,) = await answer(runtime, chat("good"))
            assert end.reason is FinishReason.STOP
        refusal = await outcome(runtime.admit(chat("bad")))

        assert isinstance(await trying, ModelUnavailable)
        assert isinstance(refusal, ModelUnavailable)
        assert refusal.retry_after is not None
        assert 590 < refusal.retry_after <= 600
        assert lives(bad) == 6
        assert lives(good) == 1
        assert runtime.models()[1].reason == (
            "its engine died too often, last of: SIGABRT, assertion failed"
        )
        assert runtime.ready


PARENT = """
import asyncio, sys, time
from pathlib import Path
from tests.fleet.fakes import answer, chat, running_runtime

async def main():
    async with running_runtime(Path(sys.argv[1])) as runtime:
        generation = await runtime.admit(chat(tokens=1_000_000))
        print(runtime.models()[0].pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_r14_an_engine_does_not_outlive_the_service(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.01)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
        killed = time.monotonic()
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() - killed < 2
            time.sleep(0.005)


async def test_after_any_number_of_crashes_no_descriptor_is_left(tmp_path: Path) -> None:
    path = write_script(tmp_path, delay=0.002)
    async with running_runtime(path) as runtime:
        await answer(runtime, chat())
        before = fds()
        for _ in range(4):
            _, (end,) = await answer(runtime, chat(crash_at=1))
            assert end.code == "engine_crashed"
            await until(lambda: runtime.ready)

        assert fds() == before


async def test_counts_and_times_of_an_answer_never_run_backwards(tmp_path: Path) -> None:
    seen = Seen()
    async with running_runtime(write_script(tmp_path, delay=0.001), observer=seen) as runtime:
        generation = await runtime.admit(chat())
        async with aclosing(generation):
            events = [event async for event in generation]
    (stats,) = seen.finishes
    end = events[-1]
    assert isinstance(end, Finished)
    assert texts(events)[1] == [end]
    times = stats.timings
    assert times is not None
    stamps = [
        stats.arrived,
        times.queued,
        times.scheduled,
        times.first_token,
        times.last_token,
        times.finished,
        stats.ended,
    ]

    assert stamps == sorted(stamp for stamp in stamps if stamp is not None)
