"""What an engine is asked beside generating, and what is known of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from service.events import FinishReason, Usage
from service.fleet.stream import EngineStream
from service.generation import EmbeddingRequest, Text
from service.serving.runtime import Runtime
from tests.fleet.fakes import Seen, running_runtime, until, write_script


def streams(runtime: Runtime) -> list[EngineStream]:
    return [stream for host in runtime._residency.hosts for stream in host.streams]


async def test_an_embedding_whose_client_has_gone_is_counted(tmp_path: Path) -> None:
    seen = Seen()
    request = EmbeddingRequest(
        "e", "", (Text("one two"),), time.monotonic(), "openai", "/v1/embeddings"
    )
    async with running_runtime(write_script(tmp_path, embeds=False), observer=seen) as runtime:
        asked = asyncio.create_task(runtime.embed(request))
        await until(lambda: any(stream.on_settled for stream in streams(runtime)))
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
        assert asked.cancelled()

    (stats,) = seen.finishes
    assert (stats.reason, stats.error) == (FinishReason.CANCELLED, "cancelled")
    assert stats.usage == Usage(prompt_tokens=2)
