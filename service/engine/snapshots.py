"""States of slots that cannot be cut back, kept where a prompt may go another way. Pure.

A recurrent layer has one state for all that it read, not cells for each token: a prefix can be
taken up again only where somebody kept the state at its end. Such ends are (`scheduler.py`) where
two prompts were seen to part, and a little before the end of each prompt, since the next turn of a
conversation repeats all but the last tokens of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from service.context import SNAPSHOTS


class Snapshot(NamedTuple):
    """What the slot's recurrent layers held after `length` tokens; `data` is the model's."""

    length: int
    data: Any


class Snapshots:
    """So many as SNAPSHOTS for each slot, whoever they are of: those used longest ago go first."""

    def __init__(self, slots: int) -> None:
        self._most = SNAPSHOTS * slots
        self._of: list[list[Snapshot]] = [[] for _ in range(slots)]
        # Each once, whoever shares it; used longest ago first.
        self._used: dict[int, Snapshot] = {}

    def __len__(self) -> int:
        return len(self._used)

    def of(self, slot: int) -> tuple[Snapshot, ...]:
        return tuple(self._of[slot])

    def longest(self, slot: int, length: int) -> Snapshot | None:
        """The slot's last one of at most so many tokens."""
        fitting = (snapshot for snapshot in self._of[slot] if snapshot.length <= length)
        return max(fitting, key=_length, default=None)

    def add(self, slot: int, snapshot: Snapshot) -> None:
        self._of[slot].append(snapshot)
        self.use(snapshot)
        while len(self._used) > self._most:
            oldest = next(iter(self._used))
            del self._used[oldest]
            for slot, kept in enumerate(self._of):
                self._of[slot] = [one for one in kept if id(one) != oldest]

    def use(self, snapshot: Snapshot) -> None:
        self._used.pop(id(snapshot), None)
        self._used[id(snapshot)] = snapshot

    def truncate(self, slot: int, length: int) -> None:
        """The slot holds so many tokens from now on."""
        self._replace(slot, [one for one in self._of[slot] if one.length <= length])

    def copy(self, source: int, target: int) -> None:
        self._replace(target, list(self._of[source]))

    def swap(self, a: int, b: int) -> None:
        self._of[a], self._of[b] = self._of[b], self._of[a]

    def _replace(self, slot: int, kept: list[Snapshot]) -> None:
        dropped, self._of[slot] = self._of[slot], kept
        left = {id(one) for snapshots in self._of for one in snapshots}
        for one in dropped:
            if id(one) not in left:
                self._used.pop(id(one), None)


def _length(snapshot: Snapshot) -> int:
    return snapshot.length
