"""A clock that goes only while there is something to watch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

TICK_SECONDS: Final = 0.1


class Ticks:
    """`tick` is called once for each time that one was wanted, with the time in monotonic seconds
    and how late it is."""

    def __init__(self, tick: Callable[[float, float], None]) -> None:
        self._tick = tick
        self._handle: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        if self._handle is None:
            due = time.monotonic() + TICK_SECONDS
            self._handle = asyncio.get_running_loop().call_later(TICK_SECONDS, self._over, due)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _over(self, due: float) -> None:
        self._handle = None
        now = time.monotonic()
        self._tick(now, now - due)
