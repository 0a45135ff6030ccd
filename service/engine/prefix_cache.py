"""Which tokens each slot holds, and where a prompt's beginning has been computed before.

A slot that a sequence left keeps its cells, as a prefix for whoever comes next, until the slot is
needed: least recently used first. Looking a prompt up is one vectorised comparison for each slot;
with the 4 to 64 slots there are, that is a few microseconds and beats a trie kept in Python, which
would have to be told of every token of every step (docs/decisions/0004).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from service.engine.model import Ids
from service.engine.sequence import Basis, Sequence
from service.engine.snapshots import Snapshot, Snapshots

_EMPTY = np.empty(0, np.int32)
PLAIN: Final[Basis] = ("", ())


def common_prefix(a: Ids, b: Ids) -> int:
    """How many tokens `a` and `b` share from the start."""
    length = min(len(a), len(b))
    different = a[:length] != b[:length]
    first = int(different.argmax()) if length else 0
    return first if length and different[first] else length


class PrefixCache:
    """The slots. A slot is free, or owned by the running sequence whose cells it holds.

    `window`: tokens back that some layers see, 0 where all see all; `held_from` tells for a slot
    from which position on it has the cells of those layers, too."""

    def __init__(
        self,
        slots: int,
        *,
        can_rollback: bool,
        enabled: bool = True,
        window: int = 0,
        held_from: Callable[[int], int] = lambda slot: 0,
    ) -> None:
        self.size = slots
        self.can_rollback = can_rollback
        self.enabled = enabled
        self._window = window
        self._held_from = held_from
        # Of slots whose copy is planned and not carried out yet: what it will say of them.
        self._will_be_held_from: dict[int, int] = {}
        self.snapshots = Snapshots(slots)
        self.owners: list[Sequence | None] = [None] * slots
        self._kept: list[Ids] = [_EMPTY] * slots
        self._bases: list[Basis] = [PLAIN] * slots
        # The last is the most recently left.
        self._free = dict.fromkeys(range(slots))

    @property
    def free(self) -> list[int]:
        """Free slots, empty ones first, then least recently used first."""
        return sorted(self._free, key=lambda slot: len(self._kept[slot]) > 0)

    @property
    def has_free(self) -> bool:
        return bool(self._free)

    def is_free(self, slot: int) -> bool:
        return slot in self._free

    def resident(self, slot: int) -> Ids:
        owner = self.owners[slot]
        return self._kept[slot] if owner is None else owner.tokens[: owner.n_past]

    def reusable(self, slot: int, prompt: Ids) -> int:
        """How many of the prompt's tokens the slot's cells can serve for.

        At least one token is left to compute: its logits are what is sampled from. A model that
        cannot roll back needs the slot to hold a beginning of the prompt and nothing more, or a
        snapshot of one. Where layers see a window only, all that the next token sees of it has to be
        there still.
        """
        resident = self.resident(slot)
        length = min(common_prefix(resident, prompt), len(prompt) - 1)
        if length <= 0 or length == len(resident):
            return max(0, length)
        if not self.can_rollback:
            snapshot = self.snapshots.longest(slot, length)
            return snapshot.length if snapshot else 0
        return length if self._sees(slot, length) else 0

    def _sees(self, slot: int, length: int) -> bool:
        """Whether the slot has all that a token after so many looks back to."""
        return not self._window or 0 <= self._first(slot) <= max(0, length - self._window + 1)

    def _first(self, slot: int) -> int:
        return self._will_be_held_from.get(slot, self._held_from(slot))

    def copied(self, source: int, target: int) -> None:
        """A copy is planned."""
        self.snapshots.copy(source, target)
        if self._window:
            self._will_be_held_from[target] = self._first(source)

    def moved(self) -> None:
        """All that was planned is carried out."""
        self._will_be_held_from.clear()

    def cut(self, slot: int, length: int) -> Snapshot | None:
        """The snapshot that makes the slot hold so many tokens, where it holds more and needs one."""
        if self.can_rollback or length == len(self.resident(slot)):
            return None
        return self.snapshots.longest(slot, length)

    def common(self, prompt: Ids, basis: Basis = PLAIN) -> int:
        """How many of its tokens the prompt shares with what slots of that basis hold."""
        slots = (slot for slot in range(self.size) if self._bases[slot] == basis)
        return max((common_prefix(self.resident(slot), prompt) for slot in slots), default=0)

    def longest(self, prompt: Ids, basis: Basis = PLAIN) -> tuple[int, int]:
        """The slot with the longest reusable prefix of that basis, and its length; (-1, 0) if there
        is none."""
        best, length = -1, 0
        if self.enabled:
            for slot in range(self.size):
                if self._bases[slot] != basis:
                    continue
                reusable = self.reusable(slot, prompt)
                # Of equals a free slot is better: it can be taken over without copying.
                if reusable > length or (reusable == length > 0 and self.is_free(slot)):
                    best, length = slot, reusable
        return best, length

    def take(self, slot: int, sequence: Sequence) -> None:
        del self._free[slot]
        self.owners[slot] = sequence
        self._kept[slot] = _EMPTY
        self._bases[slot] = sequence.basis
        sequence.slot = slot

    def leave(self, sequence: Sequence) -> None:
        """The sequence's cells stay as a prefix, if they may be used again."""
        slot = sequence.slot
        self._kept[slot] = sequence.tokens[: sequence.n_past].copy() if self.enabled else _EMPTY
        self.owners[slot] = None
        self._free[slot] = None
        sequence.slot = -1

    def empty(self, slot: int) -> None:
        self._kept[slot] = _EMPTY
        self.snapshots.truncate(slot, 0)

    def oldest_kept(self) -> int | None:
        """The free slot whose cells have waited longest for a use."""
        return next((slot for slot in self._free if len(self._kept[slot])), None)

    def swap(self, active: int, free: int) -> None:
        """The sequence in `active` moves to `free`, whose kept cells move the other way."""
        sequence = self.owners[active]
        assert sequence is not None
        self.owners[free], self.owners[active] = sequence, None
        self._kept[active], self._kept[free] = self._kept[free], _EMPTY
        self._bases[active], self._bases[free] = self._bases[free], self._bases[active]
        self.snapshots.swap(active, free)
        # The order of use goes with the cells.
        self._free = {active if slot == free else slot: None for slot in self._free}
        sequence.slot = free

    def held_tokens(self) -> int:
        """Cells in use where no two slots share one (split layout)."""
        held = 0
        for owner, kept in zip(self.owners, self._kept, strict=True):
            held += len(kept) if owner is None else owner.n_past
        return held
