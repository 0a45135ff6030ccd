"""What a step costs outside of llama.cpp."""

from __future__ import annotations

from collections.abc import Callable


class Stopwatch:
    """Adds up the processor time that the step loop takes outside llama.cpp.

    Of the processor, not of the wall: on a busy machine the kernel gives the core away just when a
    frame wakes the service, and that is the service's time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sum = 0.0
        self._since: float | None = None

    def start(self) -> None:
        self._since = self._clock()

    def pause(self) -> None:
        if self._since is not None:
            self._sum += self._clock() - self._since
            self._since = None

    def lap(self) -> float:
        """The seconds since the last lap; it goes on. The clock is a system call: one is enough."""
        now = self._clock()
        if self._since is not None:
            self._sum += now - self._since
        lap, self._sum, self._since = self._sum, 0.0, now
        return lap
