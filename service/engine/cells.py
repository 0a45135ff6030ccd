"""Counts the KV cells in use where slots share them (unified layout): llama.cpp no longer says.

A cell is one token of one or more slots. Each slot has the list of its cells' numbers by position;
a prefix that is taken over shares the numbers, and a cell is in use while any slot lists it.
"""

from __future__ import annotations

from collections import Counter


class SharedCells:
    def __init__(self, slots: int) -> None:
        self._cells: list[list[int]] = [[] for _ in range(slots)]
        self._sharers: Counter[int] = Counter()
        self._next = 0

    @property
    def used(self) -> int:
        return len(self._sharers)

    def extend(self, slot: int, count: int) -> None:
        new = range(self._next, self._next + count)
        self._next += count
        self._cells[slot].extend(new)
        self._sharers.update(new)

    def truncate(self, slot: int, start: int) -> None:
        for cell in self._cells[slot][start:]:
            if self._sharers[cell] == 1:
                del self._sharers[cell]
            else:
                self._sharers[cell] -= 1
        del self._cells[slot][start:]

    def share(self, source: int, target: int, length: int) -> None:
        """`target`, which holds nothing, now also has the first `length` cells of `source`."""
        shared = self._cells[source][:length]
        self._cells[target] = list(shared)
        self._sharers.update(shared)
