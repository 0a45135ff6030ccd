"""Starts the servers that are compared, on loopback, and ends them: ours and llama.cpp's.

Both get the same model, threads and context, and otherwise their defaults. Both may be up at
once: only one is asked at a time, and the other, idle, takes no processor time.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from bench.client import RequestFailed, Target, get
from bench.load import run
from bench.paths import BUILD, LOGS
from bench.reference import Programs
from bench.workloads import Closed, Distinct

OURS, LLAMA_SERVER = "ours", "llama-server"
START_SECONDS = 300.0  # a cold 0.7 GB model on a busy machine
STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Setup:
    """What must be the same for all. The context is of all slots together."""

    threads: int = 2
    slots: int = 8
    context: int = 16384


@dataclass(frozen=True)
class Server:
    """`target` is its first model."""

    target: Target
    models: tuple[str, ...]
    pid: int


@asynccontextmanager
async def ours(
    setup: Setup, models: Path | None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Server]:
    """The service on a folder of models, or on its bundled demo model only."""
    port = free_port()
    empty = BUILD / "no-models"
    empty.mkdir(parents=True, exist_ok=True)
    environment = {
        "LLM_THREADS": str(setup.threads),
        "LLM_PARALLEL_SLOTS": str(setup.slots),
        "LLM_DEFAULT_CONTEXT_SIZE": str(setup.context),
        "LLM_KV_CACHE": os.environ.get("LLM_KV_CACHE", "split"),
        "LLM_KEEP_ALIVE": "-1",
        "LLM_STATE_DIR": str(BUILD / "state"),
        "LLM_DISCOVER_MODELS": "false",
        **(settings or {}),
    }
    folder = models or empty
    command = [str(Path(sys.executable).parent / "llm-inference"), "serve"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--model-dir", str(folder)]
    # Beside what is in the folder it always has the demo model, which is not to be loaded too.
    names = tuple(sorted(path.stem for path in folder.glob("*.gguf")))
    async with started(OURS, command, port, environment, names) as server:
        yield server


@asynccontextmanager
async def llama_server(setup: Setup, programs: Programs, model: Path) -> AsyncIterator[Server]:
    port = free_port()
    command = [str(programs.server), "-m", str(model), "--port", str(port)]
    command += ["-t", str(setup.threads), "-np", str(setup.slots), "-c", str(setup.context)]
    async with started(LLAMA_SERVER, command, port, {}) as server:
        yield server


@asynccontextmanager
async def started(
    name: str,
    command: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    names: tuple[str, ...] = (),
) -> AsyncIterator[Server]:
    """With those of its models whose names begin so."""
    log = LOGS / f"{name}-{port}.log"
    with running(command, log, environment) as process:
        url = f"http://127.0.0.1:{port}"
        models = [
            model for model in await answering(url, process, log) if model.startswith(names or "")
        ]
        for model in models:
            await warm(Target(name, url, model))
        yield Server(Target(name, url, models[0]), tuple(models), process.pid)


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def answering(url: str, process: subprocess.Popen[bytes], log: Path) -> list[str]:
    """The names of its models, as soon as it says them."""
    deadline = monotonic() + START_SECONDS
    while monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{log.stem} ended with {process.returncode}, see {log}")
        try:
            return await model_names(url)
        except (OSError, RequestFailed, asyncio.IncompleteReadError):
            await asyncio.sleep(0.2)
    raise TimeoutError(f"{url} does not answer, see {log}")


async def model_names(url: str) -> list[str]:
    return [model["id"] for model in json.loads(await get(url, "/v1/models"))["data"]]


async def warm(target: Target) -> None:
    """Loads the model where that happens on demand, and lets every slot have worked once."""
    await run(target, "warm", Distinct(Closed(8), requests=8, prompt_words=16, max_tokens=8))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
