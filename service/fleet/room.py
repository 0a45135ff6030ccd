"""Who has to go so that a model can come. Pure: the time is an argument.

Where more models are asked for than there is room for, they take turns. One that is loaded keeps
its place for a turn at least, so that the time spent on loading stays a small part of the whole;
one that nobody asks for at the moment gives its place up at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

# A turn is as long as this many loads of the model whose turn it is, within these bounds.
LOADS_A_TURN: Final = 3.0
SHORTEST_TURN_SECONDS: Final = 1.0
LONGEST_TURN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Resident:
    """`used` is when it was last asked for, `turn_ends` None while it loads: its turn has not
    begun. Times are in monotonic seconds."""

    key: str
    idle: bool
    used: float
    turn_ends: float | None
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Come:
    """There is room once these are gone, busy ones when they have finished what they have."""

    leaving: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again at this time, or when something changes."""

    until: float | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """Not even without all those that may go."""


def turn_seconds(load_seconds: float) -> float:
    return min(max(LOADS_A_TURN * load_seconds, SHORTEST_TURN_SECONDS), LONGEST_TURN_SECONDS)


def make_room(
    fits: Callable[[Collection[str]], bool], residents: Sequence[Resident], now: float
) -> Come | Wait | Never:
    """`fits` tells whether the model that wants to come has room without those in its argument.

    (1) The idle go before the busy, those used longest ago before the others, and no more than
    have to. (2) A busy one stays until its turn is over.
    """
    if fits(()):
        return Come()
    movable = [resident for resident in residents if not resident.pinned]
    if not fits([resident.key for resident in movable]):
        return Never()
    ends = [r.turn_ends for r in movable if not r.idle and r.turn_ends is not None]
    ready = [r for r in movable if r.idle or (r.turn_ends is not None and r.turn_ends <= now)]
    leaving = [r.key for r in sorted(ready, key=lambda r: (not r.idle, r.used))]  # (1)
    if not fits(leaving):
        return Wait(min((end for end in ends if end > now), default=None))  # (2)
    for key in reversed(leaving.copy()):
        without = [other for other in leaving if other != key]
        if fits(without):
            leaving = without
    return Come(tuple(leaving))
