"""Who computes in which slot, what is found there already, and what has to be moved for it. Pure.

A prompt whose beginning another sequence is computing right now waits for it, and then takes it
over, instead of computing it again: with eight clients behind one system prompt this is the
difference between one prefill and eight. It is also how `n` answers share one prefill.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.engine.cells import SharedCells
from service.engine.plan import Copy, Forget, Plan, Restore, Row, Swap
from service.engine.prefix_cache import PrefixCache, common_prefix
from service.engine.recurrence import Recurrence
from service.engine.sequence import Sequence
from service.engine.snapshots import Snapshot

# A prefix in flight is waited for, or a resident one copied, only if it saves this many tokens
# more than what can be had at once.
WORTH_WAITING = 16
WORTH_COPYING = 16
# A state is kept where it saves as many tokens at least, and so many before the prompt's end: the
# next turn's rendering begins an answer in another way than the prompt that asked for it ended.
WORTH_KEEPING = 64
ENDING = 4
# Closing a gap between active slots copies two sequences' cells: not for the last few tokens.
WORTH_MOVING = 8


class Slots:
    """`split`: each slot has cells of its own, and rows of a batch must stand in ascending slot
    order without gaps, or llama.cpp reads the weights once more for every gap: where slots can be
    swapped (`swaps`) gaps are closed. Otherwise the slots share cells, any sequence can take all that
    are free, and running out is possible.
    """

    def __init__(self, prefixes: PrefixCache, *, split: bool, swaps: bool) -> None:
        self._prefixes = prefixes
        self._closes_gaps = split and swaps
        self._shared = None if split else SharedCells(prefixes.size)
        self._recurrence = Recurrence()
        # Whether the set of active slots is another than when gaps were last closed.
        self._changed = False

    @property
    def has_free(self) -> bool:
        return self._prefixes.has_free

    @property
    def kv_tokens(self) -> int:
        return self._prefixes.held_tokens() if self._shared is None else self._shared.used

    def extend(self, rows: Iterable[Row]) -> None:
        """They were computed."""
        if self._shared is not None:
            for row in rows:
                self._shared.extend(row.sequence.slot, row.length)

    def moved(self) -> None:
        """The moves of all plans so far are carried out."""
        self._prefixes.moved()

    def keep(self, sequence: Sequence, state: Any) -> None:
        """What its slot's recurrent layers hold now."""
        self._prefixes.snapshots.add(sequence.slot, Snapshot(sequence.n_past, state))

    def leave(self, sequence: Sequence) -> Forget | None:
        """What it computed may serve others; where it may not, returns what to forget, since
        nothing else remembers those cells."""
        slot = sequence.slot
        self._prefixes.leave(sequence)
        self._changed = True
        if self._prefixes.enabled:
            return None
        self._truncate(slot, 0)
        return Forget(slot, 0)

    def give_up(self, sequence: Sequence) -> Forget:
        """It leaves, and what it computed is given up as well."""
        slot = sequence.slot
        self._prefixes.leave(sequence)
        return self._empty(slot)

    def give_up_oldest(self) -> Forget | None:
        """The prefix that was unused longest, if any is kept."""
        slot = self._prefixes.oldest_kept()
        return None if slot is None else self._empty(slot)

    def place(self, sequence: Sequence, running: Iterable[Sequence], plan: Plan) -> bool:
        """Give the sequence a slot and the longest prefix there is; False: better to wait."""
        prefixes = self._prefixes
        tokens = sequence.tokens[: sequence.n_tokens]
        source, length = (
            (-1, 0) if sequence.scores_prompt else prefixes.longest(tokens, sequence.basis)
        )
        if not sequence.scores_prompt and prefixes.enabled:
            if self._is_in_flight(sequence, running, length + WORTH_WAITING):
                return False
            sequence.marks = self._marks(sequence, length)
        length = self._prepare(sequence, source, length, plan)
        self._changed = True
        sequence.n_found = sequence.n_past = length
        if not sequence.preempted:
            sequence.cached_tokens = length
            plan.prefix_queried_tokens += len(tokens)
            plan.prefix_hit_tokens += length
            begun_before = self._recurrence.observe(tokens, sequence.basis, sequence.queued)
            # Where every row of it has to be computed, nothing could have been saved.
            plan.prefix_reusable_tokens += 0 if sequence.scores_prompt else begun_before
        return True

    def close_gaps(self, running: Iterable[Sequence], plan: Plan) -> None:
        """Move sequences, so that those that run stand side by side."""
        if not self._closes_gaps or not self._changed:
            return
        self._changed = False
        active = sorted(sequence.slot for sequence in running)
        count = len(active)
        if not count or active[-1] - active[0] + 1 == count:
            return
        # The window that most of them stand in already needs the fewest moves.
        starts = range(self._prefixes.size - count + 1)
        first = max(starts, key=lambda start: sum(start <= s < start + count for s in active))
        window = range(first, first + count)
        gaps = [slot for slot in window if slot not in active]
        for slot in (slot for slot in active if slot not in window):
            sequence = self._prefixes.owners[slot]
            assert sequence is not None
            if sequence.limit - sequence.n_tokens >= WORTH_MOVING:
                gap = gaps.pop()
                plan.moves.append(Swap(slot, gap))
                self._prefixes.swap(slot, gap)

    def _prepare(self, sequence: Sequence, source: int, length: int, plan: Plan) -> int:
        """A slot that holds so many tokens of the source's, and nothing else. Returns how many it
        holds: none, where they are not worth a copy."""
        prefixes = self._prefixes
        target = self._target(source, length)
        snapshot = prefixes.cut(source, length) if length else None
        if target == source:
            if snapshot is not None:
                self._truncate(target, length)
            elif length < len(prefixes.resident(target)):
                self._forget(target, length, plan)
        else:
            if len(prefixes.resident(target)):
                plan.evictions += 1
                self._forget(target, 0, plan)
            if length < WORTH_COPYING:
                length, snapshot = 0, None
            else:
                plan.moves.append(Copy(source, target, length))
                prefixes.copied(source, target)
                if self._shared is not None:
                    self._shared.share(source, target, length)
        if snapshot is not None:
            plan.moves.append(Restore(target, snapshot))
            prefixes.snapshots.use(snapshot)
        prefixes.snapshots.truncate(target, length)
        prefixes.take(target, sequence)
        return length

    def _is_in_flight(self, sequence: Sequence, running: Iterable[Sequence], worth: int) -> bool:
        """Whether somebody is computing a prefix of at least that length, and will have it."""
        tokens = sequence.tokens[: sequence.n_tokens]
        rolls_back = self._prefixes.can_rollback
        for other in running:
            if other.pending <= 1 or other.basis != sequence.basis:
                continue
            common = common_prefix(other.tokens[: other.n_tokens], tokens)
            length = min(common, len(tokens) - 1)
            if length < worth or other.n_past >= length:
                continue
            if not rolls_back and not any(length - ENDING <= m <= length for m in other.marks):
                other.marks.add(length)
            return True
        return False

    def _marks(self, sequence: Sequence, found: int) -> set[int]:
        """Where to keep its state, of a model that cannot be cut back."""
        if self._prefixes.can_rollback:
            return set()
        tokens = sequence.tokens[: sequence.n_tokens]
        parted = min(self._prefixes.common(tokens, sequence.basis), len(tokens) - 1)
        wanted = (parted, len(tokens) - ENDING)
        return {mark for mark in wanted if mark >= found + WORTH_KEEPING}

    def _target(self, source: int, length: int) -> int:
        """The slot to compute in: the prefix's own where most of it is used, else the one that
        will be missed least."""
        free = self._prefixes.free
        if source >= 0 and self._prefixes.is_free(source):
            others = [slot for slot in free if slot != source]
            if not others or 2 * length >= len(self._prefixes.resident(source)):
                return source
            return others[0]
        return free[0]

    def _forget(self, slot: int, start: int, plan: Plan) -> None:
        plan.moves.append(Forget(slot, start))
        self._truncate(slot, start)

    def _truncate(self, slot: int, start: int) -> None:
        if self._shared is not None:
            self._shared.truncate(slot, start)

    def _empty(self, slot: int) -> Forget:
        self._prefixes.empty(slot)
        self._truncate(slot, 0)
        return Forget(slot, 0)
