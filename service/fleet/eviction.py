"""Room in memory for a model that is about to be loaded, where others have to go for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from service.engine.wire import EngineParams
from service.fleet.host import EngineHost
from service.fleet.placer import Attempt
from service.fleet.residents import Residents
from service.fleet.room import Come, Never, Wait, make_room
from service.fleet.vetting import Unloadable

POLL_SECONDS: Final = 0.1


async def placed_evicting(
    key: str, host: EngineHost, attempt: Callable[[], Awaitable[Attempt]], residents: Residents
) -> EngineParams | Unloadable:
    """Where the model of `host` goes, once those have gone that leave no room for it.

    (1) For all of it to be on GPUs, only those go that nobody asks for. (2) For it to be
    loaded at all, the others too, each after its turn; only these are waited for, since who goes
    while it loads waits for this load. (3) It may get the room that others leave of their own
    accord, or lose whoever wanted it. (4) One that goes itself, when it has been loaded for who
    waits for it, waits for no turn: others may wait for it to be gone.
    """
    while True:
        tried = await attempt()
        others = [r for r in residents.in_memory() if r.key != key]
        if isinstance(tried.answer, EngineParams):
            others = [r for r in others if r.idle]  # (1)
        if not tried.cramped or not others:
            return tried.answer
        now = time.monotonic()
        match make_room(lambda gone: len(gone) > 0, others, now):
            case Come(leaving):
                await asyncio.wait([residents.send_away(r, "evicted") for r in leaving])  # (2)
            case Wait():
                await asyncio.sleep(POLL_SECONDS)
                if residents.host(key) is not host:  # (4)
                    return tried.answer
                if host.idle:  # (3)
                    if isinstance(tried.answer, Unloadable) and key not in residents.pinned:
                        # Nobody waits, so nothing has failed: who comes later asks anew.
                        residents.send_away(key, "idle")
                        await asyncio.Future()
                    return tried.answer
            case Never():
                return tried.answer
