"""Which sequences compute what in the next step. Pure: no clock, no llama.cpp, no threads.

`schedule()` decides and says so in a Plan: moves of cells between slots, then rows of tokens. The
engine carries it out and reports back with `computed()`. Decode rows come first, then prompts in
order of arrival, in chunks under a budget, so that a long prompt does not stall running streams.

A prompt whose beginning another sequence is computing right now waits for it, and then takes it
over, instead of computing it again: with eight clients behind one system prompt this is the
difference between one prefill and eight. It is also how `n` answers share one prefill.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from service.engine.cells import SharedCells
from service.engine.pacing import PrefillPacer, Stretch
from service.engine.prefix_cache import PrefixCache, common_prefix
from service.engine.recurrence import Recurrence
from service.engine.sequence import Sequence
from service.engine.snapshots import Snapshot
from service.engine.turns import Turns
from service.generation import Selection

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
# So many may be taken before one that came earlier and is less urgent; then it is its turn.
MOST_OVERTAKING = 64


class Forget(NamedTuple):
    """Drop the slot's cells from position `start` on."""

    slot: int
    start: int


class Copy(NamedTuple):
    """Make `target`, whatever it held, hold the first `length` cells of `source`."""

    source: int
    target: int
    length: int


class Swap(NamedTuple):
    a: int
    b: int


class Restore(NamedTuple):
    """Make the slot, which holds more, hold so many tokens: what a snapshot was taken after."""

    slot: int
    snapshot: Snapshot


Move = Forget | Copy | Swap | Restore


class Row(NamedTuple):
    """The next `length` uncomputed tokens of a sequence; `samples` when they are the last known."""

    sequence: Sequence
    length: int
    samples: bool


@dataclass(slots=True)
class Plan:
    moves: list[Move] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    # Of all rows.
    adapters: Selection = ()
    evictions: int = 0
    # Rows of one sampled token each, and the prompt tokens of all other rows.
    decode_rows: int = 0
    prefill_tokens: int = 0
    # The tokens before each of the prompt tokens, summed up.
    prefill_depth: float = 0.0
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0
    prefix_reusable_tokens: int = 0
    waiting_for_prefix: int = 0


class Scheduler:
    """`pacer` bounds the prompt tokens of a step.

    `split`: each slot has cells of its own, and rows of a batch must stand in ascending slot
    order without gaps, or llama.cpp reads the weights once more for every gap: where slots can be
    swapped (`swaps`) gaps are closed. Otherwise the slots share cells, any sequence can take all that
    are free, and running out is possible.
    `output_rows` bounds the rows of a step that ask for logits, `batch_rows` all of them.
    """

    def __init__(
        self,
        prefixes: PrefixCache,
        pacer: PrefillPacer,
        *,
        split: bool,
        swaps: bool = True,
        output_rows: int,
        batch_rows: int,
    ) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.prefixes = prefixes
        self._pacer = pacer
        self._split = split
        self._closes_gaps = split and swaps
        self._output_rows = output_rows
        self._batch_rows = batch_rows
        self._shared = None if split else SharedCells(prefixes.size)
        # After a preemption nobody is admitted until somebody ends, or the two would take the
        # last cells from each other for ever.
        self._full = False
        self._turns = Turns()
        self._recurrence = Recurrence()
        # Whether the set of active slots is another than when gaps were last closed.
        self._changed = False

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    @property
    def kv_tokens(self) -> int:
        return self.prefixes.held_tokens() if self._shared is None else self._shared.used

    def add(self, sequence: Sequence) -> None:
        """Behind all that are as urgent, and those that were overtaken often enough."""
        at = len(self.waiting)
        while at and _may_overtake(sequence, self.waiting[at - 1]):
            at -= 1
        for later in islice(self.waiting, at, None):
            later.overtaken += 1
        self.waiting.insert(at, sequence)

    def of_request(self, request: int) -> list[Sequence]:
        return [s for s in (*self.running, *self.waiting) if s.request == request]

    def remove(self, sequence: Sequence) -> Forget | None:
        """The sequence ended, for whatever reason. What it computed may serve others; where it may
        not, returns what to forget, since nothing else remembers those cells."""
        if sequence.slot < 0:
            self.waiting.remove(sequence)
            return None
        slot = sequence.slot
        self.running.remove(sequence)
        self.prefixes.leave(sequence)
        self._full = False
        self._changed = True
        if self.prefixes.enabled:
            return None
        self._truncate(slot, 0)
        return Forget(slot, 0)

    def schedule(self) -> Plan:
        plan = Plan()
        if self.waiting and not self._full:
            self._admit(plan)
        if self._closes_gaps and self._changed:
            self._close_gaps(plan)
        self._fill(plan)
        return plan

    def computed(self, plan: Plan) -> list[Sequence]:
        """The plan's rows are in the KV cache now. Returns those whose state is to be kept."""
        marked = []
        for sequence, length, _ in plan.rows:
            sequence.n_past += length
            if self._shared is not None:
                self._shared.extend(sequence.slot, length)
            if sequence.n_past in sequence.marks:
                marked.append(sequence)
        return marked

    def keep(self, sequence: Sequence, state: Any) -> None:
        self.prefixes.snapshots.add(sequence.slot, Snapshot(sequence.n_past, state))

    def reclaim(self) -> tuple[Move, Sequence | None] | None:
        """The cache had no room for the plan: give up the prefix that was unused longest, or, if
        none is left, the youngest of the least urgent sequences, which starts over when there is
        room.

        Returns what to forget and who was preempted; None if a lone sequence does not fit.
        """
        slot = self.prefixes.oldest_kept()
        if slot is not None:
            self.prefixes.empty(slot)
            self._truncate(slot, 0)
            return Forget(slot, 0), None
        if len(self.running) < 2:
            return None
        victim = max(reversed(self.running), key=_priority)
        self.running.remove(victim)
        slot = victim.slot
        self.prefixes.leave(victim)
        self.prefixes.empty(slot)
        self._truncate(slot, 0)
        victim.start_over()
        self.waiting.appendleft(victim)
        self._full = True
        return Forget(slot, 0), victim

    def _admit(self, plan: Plan) -> None:
        kept_waiting: list[Sequence] = []
        while self.waiting and self.prefixes.has_free:
            sequence = self.waiting.popleft()
            if self._place(sequence, plan):
                self.running.append(sequence)
                plan.admitted.append(sequence)
            else:
                kept_waiting.append(sequence)
        self.waiting.extendleft(reversed(kept_waiting))
        plan.waiting_for_prefix = len(kept_waiting)

    def _place(self, sequence: Sequence, plan: Plan) -> bool:
        """Give the sequence a slot and the longest prefix there is; False: better to wait."""
        prefixes = self.prefixes
        tokens = sequence.tokens[: sequence.n_tokens]
        source, length = (
            (-1, 0) if sequence.scores_prompt else prefixes.longest(tokens, sequence.basis)
        )
        if not sequence.scores_prompt and prefixes.enabled:
            if self._is_in_flight(sequence, length + WORTH_WAITING):
                return False
            sequence.marks = self._marks(sequence, length)
        target = self._target(source, length)
        snapshot = prefixes.cut(source, length) if length else None
        if target == source:
            if snapshot is not None:
                plan.moves.append(Restore(target, snapshot))
                self._truncate(target, length)
            elif length < len(prefixes.resident(target)):
                self._forget(target, length, plan)
        else:
            if len(prefixes.resident(target)):
                plan.evictions += 1
                self._forget(target, 0, plan)
            if length >= WORTH_COPYING:
                plan.moves.append(Copy(source, target, length))
                if self._shared is not None:
                    self._shared.share(source, target, length)
                prefixes.snapshots.copy(source, target, length)
                if snapshot is not None:
                    plan.moves.append(Restore(target, snapshot))
            else:
                length = 0
        if snapshot is not None:
            prefixes.snapshots.use(snapshot)
        prefixes.snapshots.truncate(target, length)
        prefixes.take(target, sequence)
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

    def _is_in_flight(self, sequence: Sequence, worth: int) -> bool:
        """Whether somebody is computing a prefix of at least that length, and will have it."""
        tokens = sequence.tokens[: sequence.n_tokens]
        rolls_back = self.prefixes.can_rollback
        for running in self.running:
            if running.pending <= 1 or running.basis != sequence.basis:
                continue
            common = common_prefix(running.tokens[: running.n_tokens], tokens)
            length = min(common, len(tokens) - 1)
            if length < worth or (not rolls_back and running.n_past >= length):
                continue
            if not rolls_back and not any(length - ENDING <= m <= length for m in running.marks):
                running.marks.add(length)
            return True
        return False

    def _marks(self, sequence: Sequence, found: int) -> set[int]:
        """Where to keep its state, of a model that cannot be cut back."""
        if self.prefixes.can_rollback:
            return set()
        tokens = sequence.tokens[: sequence.n_tokens]
        parted = min(self.prefixes.common(tokens, sequence.basis), len(tokens) - 1)
        wanted = (parted, len(tokens) - ENDING)
        return {mark for mark in wanted if mark >= found + WORTH_KEEPING}

    def _target(self, source: int, length: int) -> int:
        """The slot to compute in: the prefix's own where most of it is used, else the one that
        will be missed least."""
        free = self.prefixes.free
        if source >= 0 and self.prefixes.is_free(source):
            others = [slot for slot in free if slot != source]
            if not others or 2 * length >= len(self.prefixes.resident(source)):
                return source
            return others[0]
        return free[0]

    def _forget(self, slot: int, start: int, plan: Plan) -> None:
        plan.moves.append(Forget(slot, start))
        self._truncate(slot, start)

    def _truncate(self, slot: int, start: int) -> None:
        if self._shared is not None:
            self._shared.truncate(slot, start)

    def _close_gaps(self, plan: Plan) -> None:
        self._changed = False
        active = sorted(sequence.slot for sequence in self.running)
        count = len(active)
        if not count or active[-1] - active[0] + 1 == count:
            return
        # The window that most of them stand in already needs the fewest moves.
        starts = range(self.prefixes.size - count + 1)
        first = max(starts, key=lambda start: sum(start <= s < start + count for s in active))
        window = range(first, first + count)
        gaps = [slot for slot in window if slot not in active]
        for slot in (slot for slot in active if slot not in window):
            sequence = self.prefixes.owners[slot]
            assert sequence is not None
            if sequence.limit - sequence.n_tokens >= WORTH_MOVING:
                gap = gaps.pop()
                plan.moves.append(Swap(slot, gap))
                self.prefixes.swap(slot, gap)

    def _fill(self, plan: Plan) -> None:
        if not self.running:
            return
        rows = plan.rows
        prompts = []
        plan.adapters = self._turns.next(sequence.adapters for sequence in self.running)
        for sequence in self.running:
            if sequence.adapters != plan.adapters:
                continue
            if sequence.n_tokens - sequence.n_past > 1:
                prompts.append(sequence)
            elif len(rows) < self._batch_rows:
                rows.append(Row(sequence, 1, True))
        plan.decode_rows = len(rows)
        if prompts:
            self._fill_prompts(prompts, plan)
        if self._split:
            rows.sort(key=_slot)

    def _fill_prompts(self, prompts: list[Sequence], plan: Plan) -> None:
        budget = min(self._budget(prompts[0], plan), self._batch_rows - len(plan.rows))
        outputs = self._output_rows - len(self.running)
        for sequence in prompts:
            pending = sequence.pending
            length = min(pending, budget)
            if sequence.scores_prompt:
                length = min(length, outputs)
                outputs -= length
            ahead = [mark - sequence.n_past for mark in sequence.marks if mark > sequence.n_past]
            length = min(length, *ahead) if ahead else length
            if length > 0:
                budget -= length
                plan.prefill_tokens += length
                plan.prefill_depth += length * (sequence.n_past + length / 2)
                plan.rows.append(Row(sequence, length, length == pending))

    def _budget(self, first: Sequence, plan: Plan) -> int:
        """Prompt tokens, of the first prompt and those behind it."""
        if not plan.rows:
            return self._pacer.alone(first.n_past)
        return self._pacer.beside(Stretch(first.n_found, first.n_past, first.n_tokens))


def _may_overtake(sequence: Sequence, other: Sequence) -> bool:
    if other.preempted or other.overtaken >= MOST_OVERTAKING:
        return False
    return sequence.priority < other.priority


def _priority(sequence: Sequence) -> int:
    return sequence.priority


def _slot(row: Row) -> int:
    return row.sequence.slot
