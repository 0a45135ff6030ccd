"""The same promises with llama.cpp behind the socket, on the bundled model."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from service.catalog.catalog import Catalog
from service.catalog.demo import PATH
from service.errors import ContextOverflow, ModelLoadFailed, ModelUnavailable
from service.events import Finished, FinishReason, TextDelta
from service.generation import Chat, GenerationRequest, Message, SamplingParams, Text
from service.serving.runtime import Runtime
from service.settings import Settings
from tests.catalog.gguf_files import write
from tests.fleet.fakes import Seen, outcome, rest, texts, until


@asynccontextmanager
async def running(*roots: Path, observer: Any = None, **settings: Any) -> AsyncIterator[Runtime]:
    runtime = Runtime(Catalog(roots), Settings(**settings), observer or Seen())
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.close()


def request(
    text: str = "What is 2 + 3?", model: str = "demo", **sampling: Any
) -> GenerationRequest:
    return GenerationRequest(
        id=f"request-{time.monotonic_ns()}",
        model=model,
        input=Chat((Message("user", text),)),
        arrived=time.monotonic(),
        dialect="openai",
        endpoint="/v1/chat/completions",
        sampling=SamplingParams(**{"temperature": 0.0, **sampling}),
    )


def endless(tokens: int = 3000) -> GenerationRequest:
    return request(ignore_eos=True, max_tokens=tokens)


async def test_the_demo_model_answers() -> None:
    seen = Seen()
    async with running(observer=seen, parallel_slots=2) as runtime:
        text, (end,) = await rest(await runtime.admit(request(max_tokens=50)))
        again, _ = await rest(await runtime.admit(request(max_tokens=50)))

    assert text
    assert text == again
    assert end.reason in (FinishReason.STOP, FinishReason.LENGTH)
    assert end.usage.generation_tokens > 0
    assert len(seen.finishes) == 2


async def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers() -> None:
    async with running(default_context_size=512, parallel_slots=1) as runtime:
        error = await outcome(runtime.admit(request("word " * 2000)))

    assert isinstance(error, ContextOverflow)
    assert error.prompt_tokens > error.context_length


async def test_leaving_frees_the_slot() -> None:
    seen = Seen()
    async with running(observer=seen, parallel_slots=1) as runtime:
        generation = await runtime.admit(endless())
        async with aclosing(generation):
            async for _ in generation:
                break
        await until(lambda: seen.finishes, within=2)
        _, (end,) = await rest(await runtime.admit(request(max_tokens=5)))

    assert seen.finishes[0].reason is FinishReason.CANCELLED
    assert end.usage.generation_tokens == 5


async def test_r1_a_killed_engine_costs_the_running_streams_an_error_and_the_queued_nothing() -> (
    None
):
    async with running(parallel_slots=4) as runtime:
        streaming = [await runtime.admit(endless()) for _ in range(4)]
        for generation in streaming:
            await anext(aiter(generation.batches()))
        queued = [await runtime.admit(request(max_tokens=5)) for _ in range(4)]
        ends = asyncio.gather(*map(rest, streaming))
        answers = asyncio.gather(*map(rest, queued))
        pid = runtime.models()[0].pid
        assert pid is not None

        os.kill(pid, signal.SIGKILL)
        codes = {end.code for _, (end,) in await ends}

        assert codes == {"engine_crashed"}
        assert [end.usage.generation_tokens for _, (end,) in await answers] == [5] * 4


def with_a_token_twice(data: bytes) -> bytes:
    """A vocabulary in which two tokens read the same. llama.cpp asserts that there are none."""
    key = b"tokenizer.ggml.tokens"
    at = data.index(key) + len(key) + 16
    first: dict[int, bytes] = {}
    while True:
        length = int.from_bytes(data[at : at + 8], "little")
        text = data[at + 8 : at + 8 + length]
        if first.setdefault(length, text) != text:
            return data[: at + 8] + first[length] + data[at + 8 + length :]
        at += 8 + length


async def test_files_that_fail_or_kill_the_loader_leave_the_service_up(tmp_path: Path) -> None:
    """Headers that the scan accepts, and llama.cpp does not."""
    write(tmp_path / "hollow.gguf")
    (tmp_path / "deadly.gguf").write_bytes(with_a_token_twice(PATH.read_bytes()))
    async with running(tmp_path, default_model="demo") as runtime:
        for name in ("hollow", "deadly"):
            assert runtime.resolve(name).problem is None
        running_on = asyncio.create_task(rest(await runtime.admit(endless(400))))
        hollow = await outcome(runtime.admit(request(model="hollow")))
        deadly = await outcome(runtime.admit(request(model="deadly")))
        _, (end,) = await running_on

        assert isinstance(hollow, ModelLoadFailed)
        assert isinstance(deadly, ModelUnavailable)
        assert end.usage.generation_tokens == 400
        assert runtime.ready
        reasons = {status.card.name: status.reason for status in runtime.models()}
        assert "key not found in model" in str(reasons["hollow:latest"])
        assert reasons["deadly:latest"] == "its engine died: SIGABRT, assertion failed"


async def test_a_raw_prompt_is_continued() -> None:
    async with running() as runtime:
        raw = GenerationRequest(
            "raw", "", Text("Once"), time.monotonic(), "openai", "/v1/completions",
            sampling=SamplingParams(max_tokens=4, temperature=0.0, ignore_eos=True),
        )  # fmt: skip
        async with aclosing(await runtime.admit(raw)) as generation:
            events = [event async for event in generation]

    assert all(isinstance(event, TextDelta | Finished) for event in events)
    assert texts(events)[1][0].reason is FinishReason.LENGTH


PARENT = """
import asyncio
from tests.fleet.test_real_engine import endless, running

async def main():
    async with running() as runtime:
        generation = await runtime.admit(endless())
        print(runtime.models()[0].pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def test_r14_an_engine_does_not_outlive_the_service() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
        killed = time.monotonic()
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() - killed < 2
            time.sleep(0.005)
