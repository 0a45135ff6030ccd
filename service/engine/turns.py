"""Engines that compute on the same processors take turns, a step or a few at a time.

Two engines with a thread for every core each are not two halves: at every barrier of one, of which
a step has hundreds, it waits for a thread that the kernel has set aside for the other. One after
the other they compute as fast as each alone, and what one does in Python costs nothing while the
other computes. A turn lasts at least one step, and while there is work up to `TURN_SECONDS`, so
that a small model is not held to one token for each step of a large one.

The turn is a record lock on a file that the service gave to all: the kernel passes it on when its
holder dies. Nobody waits longer than `PATIENCE_SECONDS`, and then computes beside the other: an
engine that hangs must not take the rest with it.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from typing import Final

TURN_SECONDS: Final = 0.05
PATIENCE_SECONDS: Final = 1.0
POLL_SECONDS: Final = 0.0005

Attempt = Callable[[], bool]


class Turns:
    """`attempt` tries to get the turn at once, `release` gives it back."""

    def __init__(
        self,
        attempt: Attempt,
        release: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._attempt = attempt
        self._release = release
        self._clock = clock
        self._sleep = sleep
        # When the turn at hand began; None while it is another's.
        self._since: float | None = None

    def take(self) -> None:
        """Before a step. Comes back with the turn, or out of patience."""
        if self._since is not None:
            return
        until = self._clock() + PATIENCE_SECONDS
        while not self._attempt():
            if self._clock() >= until:
                return
            self._sleep(POLL_SECONDS)
        self._since = self._clock()

    def step_done(self) -> None:
        """After a step: passes the turn on if it has lasted long enough."""
        if self._since is not None and self._clock() - self._since >= TURN_SECONDS:
            self.pass_on()

    def pass_on(self) -> None:
        if self._since is not None:
            self._since = None
            self._release()


def alone() -> Turns:
    """Of an engine that has the processors to itself, or does not compute on them."""
    return Turns(lambda: True, lambda: None)


def shared(fd: int) -> Turns:
    """`fd` is of a file that all engines have open."""

    def attempt() -> bool:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    return Turns(attempt, lambda: fcntl.lockf(fd, fcntl.LOCK_UN))
