"""What it costs to be observed: a scrape of a large server, and telemetry on against off."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from time import clock_gettime, perf_counter
from typing import Final
from urllib.request import Request, urlopen

from bench.client import Target, exchange
from bench.contest import Bar, Contest
from bench.deaf_service import tell
from bench.exposition import quantile, scrape
from bench.load import Figures, closed_loop, figures, run
from bench.paths import BUILD, ROOT
from bench.servers import OURS, Server, Setup, free_port, ours, started
from bench.turns import DEMO
from bench.workloads import Closed, Distinct

ENGINES: Final = 20
GPUS: Final = 16
SCRAPES: Final = 20
TURNS: Final = 60
# As Prometheus asks.
ASKED: Final = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
    "Accept-Encoding": "gzip",
}
# One route of each dialect, with the body that its request has.
ROUTES: Final = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
    "/api/generate": {"prompt": "hi", "stream": False, "options": {"num_predict": 4}},
    "/vllm/v1/completions": {"prompt": "hi", "max_tokens": 4},
    "/tgi/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4},
    "/completion": {"prompt": "hi", "n_predict": 4},
}


@asynccontextmanager
async def scrapes(setup: Setup) -> AsyncIterator[list[Contest]]:
    """Twenty loaded models, sixteen GPUs of a driver that tests have."""
    folder = BUILD / "models" / "observed"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(ENGINES):
        file = folder / f"model-{number:02}.gguf"
        if not file.exists():
            file.write_bytes(DEMO.read_bytes())
    settings = {"LLM_MAX_LOADED_MODELS": str(ENGINES), **sixteen_gpus()}
    async with ours(Setup(1, 2, 2048), folder, settings) as server:
        await ask_all(server)
        yield [
            Contest(
                f"a scrape of {ENGINES} models and {GPUS} GPUs",
                {
                    "nobody asks": partial(scraped, server, 0),
                    "8 streams": partial(scraped, server, 8),
                },
                ("nobody asks", "8 streams"),
                (
                    Bar("ms per scrape", at_most=50),
                    Bar("event-loop lag p99 ms", at_most=20),
                ),
            )
        ]


def sixteen_gpus() -> Mapping[str, str]:
    folder = BUILD / "nvml"
    folder.mkdir(parents=True, exist_ok=True)
    library, control = folder / "libnvidia-ml.so.1", folder / "control"
    source = ROOT / "tests" / "fakenvml" / "nvml.c"
    subprocess.run(
        ["cc", "-std=gnu11", "-O1", "-fPIC", "-shared", "-o", library, source], check=True
    )
    control.write_text(f"order = {' '.join(str(number) for number in range(GPUS))}\n")
    return {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(control), "LLM_GPU_LAYERS": "0"}


async def ask_all(server: Server) -> None:
    """Every dialect of every model: some series are there only once something was counted."""
    for model in server.models:
        for route, body in ROUTES.items():
            async with exchange(server.target.url, "POST", route, {"model": model, **body}) as got:
                async for _ in got:
                    pass


async def scraped(server: Server, clients: int, round_number: int) -> Figures:
    work = [
        asyncio.create_task(
            endless(Target(OURS, server.target.url, model), f"{model} {round_number}")
        )
        for model in server.models[:clients]
    ]
    before = await scrape(server.target.url)
    took, size = [], 0
    for _ in range(SCRAPES):
        await asyncio.sleep(0.5)
        seconds, size = await asyncio.to_thread(one_scrape, server.target.url)
        took.append(1000 * seconds)
    lag = quantile(before, await scrape(server.target.url), "llm_event_loop_lag_seconds", 0.99)
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    return {
        "ms per scrape": median(took),
        "slowest scrape ms": max(took),
        "event-loop lag p99 ms": 1000 * lag,
        "gzipped KiB": size / 1024,
    }


def one_scrape(url: str) -> tuple[float, int]:
    begin = perf_counter()
    with urlopen(Request(url + "/metrics", headers=ASKED), timeout=10) as answer:
        size = len(answer.read())
    return perf_counter() - begin, size


async def endless(target: Target, seed: str) -> None:
    for number in range(1000):
        await run(
            target, f"{seed} {number}", Distinct(Closed(1), 1, prompt_words=16, max_tokens=64)
        )


@asynccontextmanager
async def telemetry(setup: Setup) -> AsyncIterator[list[Contest]]:
    """One service, whose observers hear at times; on the demo model, where it has most of the
    work."""
    async with sometimes_deaf(setup) as server:
        yield [
            Contest(
                "demo model, 8 streams, telemetry on against off",
                {
                    "off": partial(throughput, server, True),
                    "on": partial(throughput, server, False),
                },
                ("on",),
                (Bar("tokens/s", at_least=0.99, against="off"),),
                "off",
                turns=TURNS,
            )
        ]


@asynccontextmanager
async def sometimes_deaf(setup: Setup) -> AsyncIterator[Server]:
    port = free_port()
    environment = {
        "LLM_THREADS": str(setup.threads),
        "LLM_PARALLEL_SLOTS": str(setup.slots),
        "LLM_DEFAULT_CONTEXT_SIZE": str(setup.context),
        "LLM_KV_CACHE": os.environ.get("LLM_KV_CACHE", "split"),
        "LLM_KEEP_ALIVE": "-1",
        "LLM_STATE_DIR": str(BUILD / "state-deaf"),
        "LLM_DISCOVER_MODELS": "false",
        "LLM_QUEUE_SIZE": "64",
    }
    command: Sequence[str] = [sys.executable, "-m", "bench.deaf_service", "serve"]
    command = [*command, "--host", "127.0.0.1", "--port", str(port)]
    command = [*command, "--model-dir", str(BUILD / "no-models")]
    async with started("sometimes deaf", command, port, environment) as server:
        yield server


async def throughput(server: Server, deaf: bool, round_number: int) -> Figures:
    """Half a second each: what comes and goes on the machine meets both. The service's processor
    time says how much of a difference can be its own."""
    tell(server.pid, deaf=deaf)
    workload = Distinct(Closed(8), 8, prompt_words=16, max_tokens=128)
    before, begin = processor_time(server.pid), perf_counter()
    answers = await closed_loop(server.target, workload.plan(f"telemetry {round_number}"), 8)
    seconds, computed = perf_counter() - begin, processor_time(server.pid) - before
    tokens = sum(answer.completion_tokens for answer in answers)
    return {
        "tokens/s": tokens / seconds,
        "service us per token": 1e6 * computed / tokens,
    } | figures(answers)


def processor_time(pid: int) -> float:
    """Seconds of all its threads: by the clock that clock_getcpuclockid(3) names on Linux, since
    /proc counts in hundredths of a second."""
    return clock_gettime(~pid << 3 | 2)
