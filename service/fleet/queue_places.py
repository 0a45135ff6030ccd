"""How many answers may be in one engine's hands at once. Pure: the time is an argument."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

# Finished answers that the drain rate is measured on, and how old the oldest may be.
REMEMBERED: Final = 64
RECENT_SECONDS: Final = 120.0
# What a client is told while nothing has finished yet, and the bounds of what it is ever told.
UNKNOWN_RETRY_SECONDS: Final = 5.0
SHORTEST_RETRY_SECONDS: Final = 1.0
LONGEST_RETRY_SECONDS: Final = 60.0


class Places:
    """Slots and queue of one model, counted together: in whatever stage an answer is, from
    waiting for the load to the last token, it has one place.

    A request for `n` answers takes `n`, since each is a sequence with a slot of its own.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.taken = 0
        self._finished: deque[float] = deque(maxlen=REMEMBERED)

    def take(self, n: int) -> bool:
        """False, and nothing taken, where there is no room."""
        if self.taken + n > self.capacity:
            return False
        self.taken += n
        return True

    def give_back(self, n: int, now: float) -> None:
        self.taken -= n
        self._finished.extend([now] * n)

    def retry_after(self, now: float) -> float:
        """Seconds until half of what is here now is done, at the rate of late.

        Half, since the clients sent away come back together: after the whole queue they would
        find slots that had stood empty, after one place nearly all would be sent away again.
        """
        recent = [at for at in self._finished if at > now - RECENT_SECONDS]
        if not recent or now <= recent[0]:
            return UNKNOWN_RETRY_SECONDS
        rate = len(recent) / (now - recent[0])
        seconds = math.ceil(self.taken / 2 / rate)
        return min(max(seconds, SHORTEST_RETRY_SECONDS), LONGEST_RETRY_SECONDS)
