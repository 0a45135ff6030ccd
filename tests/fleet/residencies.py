"""A fleet of engines that follow scripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.events import Finished
from service.fleet.host import EngineHost
from service.fleet.limits import Limits
from service.fleet.residency import Residency
from service.settings import Settings
from tests.fleet.fakes import (
    FAKE,
    QUICK,
    Seen,
    enter,
    read,
    submitted,
)


@asynccontextmanager
async def residency(max_loaded: int = 3, limits: Limits = QUICK) -> AsyncIterator[Residency]:
    chosen = Settings(max_loaded_models=max_loaded)
    made = Residency(chosen, Seen(), command=FAKE, limits=limits)
    try:
        yield made
    finally:
        await made.close()


async def answer(host: EngineHost) -> tuple[str, list[Finished]]:
    return await read(await submitted(host))


async def load(host: EngineHost) -> None:
    stream = enter(host)
    await host.loaded(stream)
    host.cancel(stream)
