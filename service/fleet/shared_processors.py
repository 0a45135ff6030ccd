"""Who computes at the same time on the same processors: each engine then takes its part of them.

A step has hundreds of barriers, and at each a thread that the kernel has set aside for another
engine's keeps its own waiting. Two engines with a thread each on two cores make half as many tokens
again as two with two threads each (docs/decisions/0005).
"""

from __future__ import annotations

from typing import Protocol


class Sharer(Protocol):
    def share(self, engines: int) -> None:
        """From its next step on it is one of so many."""


class SharedProcessors:
    """Those that have something to compute. Lives on the event loop."""

    def __init__(self) -> None:
        self._busy: dict[Sharer, None] = {}

    def join(self, engine: Sharer) -> None:
        if engine not in self._busy:
            self._busy[engine] = None
            self._tell()

    def leave(self, engine: Sharer) -> None:
        if engine in self._busy:
            del self._busy[engine]
            engine.share(1)
            self._tell()

    def _tell(self) -> None:
        for engine in self._busy:
            engine.share(len(self._busy))
