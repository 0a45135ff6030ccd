"""How long models stay that nobody asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class KeepAlive:
    """One clock for each model, begun anew whenever it becomes idle; `expire` is called with the
    key of one whose time is over."""

    def __init__(self, default: float, expire: Callable[[str], None]) -> None:
        # Of models of which nobody said how long; those that wait already go on waiting as they do.
        self.default = default
        self._expire = expire
        # Where a request said how long.
        self._seconds: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def seconds(self, key: str) -> float:
        """Negative: for ever."""
        return self._seconds.get(key, self.default)

    def said(self, key: str) -> float | None:
        """What a request said of it."""
        return self._seconds.get(key)

    def keep(self, key: str, seconds: float) -> None:
        """From the next time on that it is idle; the last who says it counts."""
        self._seconds[key] = seconds

    def expires(self, key: str) -> float | None:
        """In monotonic seconds; None where no clock runs."""
        timer = self._timers.get(key)
        return timer.when() if timer is not None else None

    def begin(self, key: str) -> None:
        self.stop(key)
        if (seconds := self.seconds(key)) >= 0:
            loop = asyncio.get_running_loop()
            self._timers[key] = loop.call_later(seconds, self._over, key)

    def stop(self, key: str) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()

    def forget(self, key: str) -> None:
        self.stop(key)
        self._seconds.pop(key, None)

    def _over(self, key: str) -> None:
        del self._timers[key]
        self._expire(key)
