"""Whose turn it is, where sequences want different adapters. Pure.

llama.cpp applies adapters to a whole batch, so a step computes sequences of one selection only.
A change of adapters makes llama.cpp plan its memory and its graph anew, so a selection keeps its
turn for some steps, while others wait for theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from service.generation import Selection

# Steps of a turn where others wait: the change then costs each step a quarter of itself.
TURN_STEPS: Final = 4


class Turns:
    """A selection that is there is served again within (selections - 1) * TURN_STEPS steps."""

    def __init__(self) -> None:
        # Longest unserved first; the one whose turn it is keeps its place until the turn ends.
        self._order: dict[Selection, None] = {}
        self._current: Selection | None = None
        self._left = 0

    def next(self, present: Iterable[Selection]) -> Selection:
        """Of the selections that have something to compute, at least one."""
        there = dict.fromkeys(present)
        if len(there) == 1:
            (only,) = there
            self._order, self._current, self._left = there, only, TURN_STEPS - 1
            return only
        current = self._current
        order = {each: None for each in self._order if each in there} | there
        if self._left and current in there:
            self._left -= 1
        else:
            if current in there:
                # Behind all that wait.
                order[current] = order.pop(current)
            current = next(iter(order))
            self._left = TURN_STEPS - 1
        self._order, self._current = order, current
        return current
