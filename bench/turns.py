"""More models than there is room for: how often they are loaded, and whether anybody is sent away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from bench.client import Answer, RequestFailed, Target, ask
from bench.contest import Bar, Contest
from bench.exposition import scrape
from bench.load import Figures, figures
from bench.paths import BUILD, ROOT
from bench.servers import OURS, Server, Setup, ours
from bench.workloads import Closed, Distinct

MODELS: Final = ("one", "two", "three", "four")
ROOM: Final = 2
REQUESTS: Final = 300
CLIENTS: Final = 64
DEMO: Final = ROOT / "service" / "catalog" / "demo.gguf"


@asynccontextmanager
async def turns(setup: Setup) -> AsyncIterator[list[Contest]]:
    """Four copies of the bundled demo model, of which two may be loaded."""
    folder = BUILD / "models" / "turns"
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODELS:
        file = folder / f"{name}.gguf"
        if not file.exists():
            file.write_bytes(DEMO.read_bytes())
    settings = {
        "LLM_MAX_LOADED_MODELS": str(ROOM),
        "LLM_QUEUE_SIZE": str(CLIENTS),
        "LLM_QUEUE_TIMEOUT": "600",
        "LLM_KEEP_ALIVE": "300",
    }
    async with ours(replace(setup, context=8192), folder, settings) as server:
        yield [
            Contest(
                f"{CLIENTS} clients, {len(MODELS)} models, room for {ROOM}",
                {OURS: partial(trace, server)},
                (OURS,),
                (
                    Bar("requests that failed", at_most=0),
                    Bar("loads, of an LRU's", at_most=1),
                ),
            )
        ]


async def trace(server: Server, round_number: int) -> Figures:
    """Each request is for a model drawn anew; `LRU` is what would happen if they came one by one."""
    drawn = random.Random(f"turns {round_number}")
    names = [drawn.choice(MODELS) for _ in range(REQUESTS)]
    requests = Distinct(Closed(CLIENTS), REQUESTS, prompt_words=16, max_tokens=16).plan(
        f"turns {round_number}"
    )
    waiting = list(zip(names, requests, strict=True))[::-1]
    answers: list[Answer] = []
    failed = 0

    async def client() -> None:
        nonlocal failed
        while waiting:
            name, request = waiting.pop()
            target = Target(OURS, server.target.url, name)
            try:
                answers.append(await ask(target, request))
            except RequestFailed:
                failed += 1

    before = await scrape(server.target.url)
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
    after = await scrape(server.target.url)
    loads = after["llm_model_loads_total", ""] - before.get(("llm_model_loads_total", ""), 0.0)
    return {
        "requests that failed": failed,
        "loads": loads,
        "LRU's loads": loads_of_lru(names, ROOM),
        "loads, of an LRU's": loads / loads_of_lru(names, ROOM),
    } | figures(answers)


def loads_of_lru(names: Sequence[str], room: int) -> int:
    loaded: list[str] = []
    loads = 0
    for name in names:
        if name in loaded:
            loaded.remove(name)
        else:
            loads += 1
            del loaded[: max(0, len(loaded) - room + 1)]
        loaded.append(name)
    return loads
