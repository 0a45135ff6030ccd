"""Whether and when an engine that died is started again. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Again:
    """Start it once more, this many seconds from now."""

    after: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It dies too often: leave it until that time."""

    until: float


class Restarts:
    """0.5, 1, 2… seconds between restarts; the sixth death within ten minutes is one too many."""

    def __init__(
        self,
        *,
        first: float = 0.5,
        longest: float = 30.0,
        most: int = 5,
        window: float = 600.0,
        rest: float = 600.0,
    ) -> None:
        self._first = first
        self._longest = longest
        self._most = most
        self._window = window
        self._rest = rest
        self._deaths: deque[float] = deque()

    def died(self, now: float) -> Again | GiveUp:
        while self._deaths and self._deaths[0] <= now - self._window:
            self._deaths.popleft()
        self._deaths.append(now)
        recent = len(self._deaths)
        if recent > self._most:
            self._deaths.clear()
            return GiveUp(now + self._rest)
        return Again(min(self._first * 2.0 ** (recent - 1), self._longest))
