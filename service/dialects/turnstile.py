"""Lets only so many requests begin in one turn of the event loop.

Five hundred requests that arrive together are each a third of a millisecond of parsing, rendering
and routing; done in one turn they would keep every stream, probe and scrape waiting for their sum.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

PER_TURN: Final = 8


class Turnstile:
    """First come, first served. Belongs to one event loop."""

    def __init__(self, per_turn: int = PER_TURN) -> None:
        self._per_turn = per_turn
        self._left = per_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turning = False

    async def turn(self) -> None:
        """Comes back in this turn of the loop if there is room in it, else in a later one."""
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._next)
        if self._left > 0 and not self._waiting:
            self._left -= 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _next(self) -> None:
        self._left = self._per_turn
        while self._left > 0 and self._waiting:
            waiter = self._waiting.popleft()
            # One that hung up while it waited takes nobody's place.
            if not waiter.done():
                waiter.set_result(None)
                self._left -= 1
        self._turning = bool(self._waiting) or self._left < self._per_turn
        if self._turning:
            asyncio.get_running_loop().call_soon(self._next)
