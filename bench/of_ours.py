"""The contests that only our service can enter: several engines, its own figures, its memory."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil

from bench.client import Answer, Target
from bench.contest import Bar, Contest
from bench.dialects import dialects
from bench.exposition import mean, quantile, scrape
from bench.load import Figures, closed_loop, figures
from bench.observed import scrapes, telemetry
from bench.paths import MODELS
from bench.servers import OURS, Server, Setup, ours
from bench.turns import turns
from bench.workloads import Closed, Distinct, Held

IN_FLIGHT = 500
MIB = 1024 * 1024


@asynccontextmanager
async def two_engines(setup: Setup, name: str, model: Path) -> AsyncIterator[list[Contest]]:
    """One service with the same model under two names, so that one can be held against both."""
    folder = MODELS / f"{name}-twice"
    folder.mkdir(exist_ok=True)
    for twin in ("left", "right"):
        link = folder / f"{twin}-{model.name}"
        link.unlink(missing_ok=True)
        os.link(model, link)
    async with ours(setup, folder) as server:
        one, both = server.models[:1], server.models[:2]
        yield [
            Contest(
                f"{name}, two engines, {streams} streams in all",
                {
                    "one engine": partial(spread_over, server, one, streams),
                    "one with half of them": partial(spread_over, server, one, streams // 2),
                    "two engines": partial(spread_over, server, both, streams),
                },
                ("two engines",),
                (
                    Bar("decode tokens/s", at_least=0.9, against="one engine"),
                    Bar("decode tokens/s", at_least=0.9, against="one with half of them"),
                ),
                "one engine",
            )
            for streams in (2, 8)
        ]


async def spread_over(
    server: Server, models: tuple[str, ...], streams: int, round_number: int
) -> Figures:
    each = streams // len(models)
    workload = Distinct(Closed(each), each)
    seeds = (f"left {round_number}", f"right {round_number}")
    answers = await asyncio.gather(
        *(
            closed_loop(replace(server.target, model=model), workload.plan(seed), each)
            for model, seed in zip(models, seeds, strict=False)
        )
    )
    return figures([answer for some in answers for answer in some])


@asynccontextmanager
async def overhead(setup: Setup, name: str, model: Path) -> AsyncIterator[list[Contest]]:
    async with ours(setup, model.parent) as server:
        yield [
            Contest(
                f"{name}, 8 sequences, the engine's own Python",
                {OURS: partial(overhead_per_step, server.target)},
                (OURS,),
                (Bar("us per step outside llama.cpp", at_most=300),),
            )
        ]


async def overhead_per_step(target: Target, round_number: int) -> Figures:
    workload = Distinct(Closed(8), 8)
    before = await scrape(target.url)
    answers = await closed_loop(target, workload.plan(f"overhead {round_number}"), 8)
    after = await scrape(target.url)
    seconds = mean(before, after, "llm_engine_overhead_seconds")
    return {"us per step outside llama.cpp": 1e6 * seconds} | figures(answers)


@asynccontextmanager
async def grammar(setup: Setup, name: str, model: Path) -> AsyncIterator[list[Contest]]:
    """What it costs to hold answers to a schema. The models say words, and no JSON of their own
    accord: so nearly every token outside of a text is one that the grammar refuses first."""
    async with ours(setup, model.parent) as server:
        yield [
            Contest(
                f"{name}, {clients} answers held to a schema of 20 fields",
                {
                    side: partial(step_time, server.target, Held(clients, side == "free"))
                    for side in ("free", "held")
                },
                ("held",),
                (Bar("ms per step", at_most=1.3, against="free"),),
                "free",
            )
            for clients in (1, 8)
        ]


async def step_time(target: Target, workload: Held, round_number: int) -> Figures:
    """A stream gets a token of each step: so its rate tells what a step takes, sampling and all."""
    plan = workload.plan(f"grammar {round_number}")
    answers = await closed_loop(target, plan, workload.clients)
    seconds = statistics.median(
        (answer.frames[-1] - answer.frames[0]) / (answer.completion_tokens - 1)
        for answer in answers
    )
    return {"ms per step": 1000 * seconds} | figures(answers)


@asynccontextmanager
async def in_flight(setup: Setup) -> AsyncIterator[list[Contest]]:
    """On the bundled demo model: it is so small that the service itself has most of the work."""
    settings = {"LLM_QUEUE_SIZE": str(2 * IN_FLIGHT), "LLM_QUEUE_TIMEOUT": "600"}
    async with ours(setup, None, settings) as server:
        process = psutil.Process(server.pid)
        yield [
            Contest(
                f"demo model, {IN_FLIGHT} requests in flight",
                {OURS: partial(crowd, server.target, process, process.memory_info().rss)},
                (OURS,),
                (
                    Bar("RSS growth MiB", at_most=60),
                    Bar("event-loop lag p99 ms", at_most=20),
                ),
            )
        ]


async def crowd(
    target: Target, process: psutil.Process, rss_at_start: int, round_number: int
) -> Figures:
    """Growth is since the start, so that what one round leaves behind counts in the next."""
    workload = Distinct(Closed(IN_FLIGHT), IN_FLIGHT, prompt_words=16, max_tokens=32)
    before = await scrape(target.url)
    peak, answers = await peak_rss(
        process, closed_loop(target, workload.plan(f"crowd {round_number}"), IN_FLIGHT)
    )
    lag = quantile(before, await scrape(target.url), "llm_event_loop_lag_seconds", 0.99)
    return {
        "RSS growth MiB": (peak - rss_at_start) / MIB,
        "event-loop lag p99 ms": 1000 * lag,
    } | figures(answers)


async def peak_rss(
    process: psutil.Process, work: Coroutine[None, None, list[Answer]]
) -> tuple[int, list[Answer]]:
    task, peak = asyncio.create_task(work), 0
    while not task.done():
        peak = max(peak, process.memory_info().rss)
        await asyncio.wait((task,), timeout=0.05)
    return peak, task.result()


WITH_MODEL: dict[str, Callable[[Setup, str, Path], AbstractAsyncContextManager[list[Contest]]]] = {
    "two_engines": two_engines,
    "overhead": overhead,
    "grammar": grammar,
}
# On the demo model, or its chat template alone.
WITHOUT: dict[str, Callable[[Setup], AbstractAsyncContextManager[list[Contest]]]] = {
    "in_flight": in_flight,
    "dialects": dialects,
    "turns": turns,
    "scrapes": scrapes,
    "telemetry": telemetry,
}
