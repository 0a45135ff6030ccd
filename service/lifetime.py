"""What lasts as long as the service does, and goes on beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from service.serving.runtime import Runtime

# The scan of a large or slow disk goes on behind an open port.
START_SECONDS: Final = 0.5


@asynccontextmanager
async def beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """What goes on beside the requests, for as long as there may be any."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@asynccontextmanager
async def starting(
    runtime: Runtime, on_failure: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """Raises what the start failed with at once; `on_failure` gets what it fails with later."""
    start = asyncio.create_task(runtime.start())
    await asyncio.wait({start}, timeout=START_SECONDS)
    if start.done():
        start.result()
    else:
        start.add_done_callback(partial(tell_if_failed, on_failure))
    try:
        yield
    finally:
        await asyncio.wait({start})


def tell_if_failed(on_failure: Callable[[BaseException], None], start: asyncio.Task[None]) -> None:
    if not start.cancelled() and (error := start.exception()) is not None:
        on_failure(error)
