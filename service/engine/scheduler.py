"""Which sequences compute what in the next step. Pure: no clock, no llama.cpp, no threads.

`schedule()` decides and says so in a Plan: moves of cells between slots, then rows of tokens. The
engine carries it out and reports back with `computed()`. Decode rows come first, then prompts in
order of arrival, in chunks under a budget, so that a long prompt does not stall running streams.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from operator import attrgetter
from typing import Final

from service.engine.pacing import PrefillPacer, Stretch
from service.engine.plan import Forget, Plan, Row
from service.engine.sequence import Sequence
from service.engine.slots import Slots
from service.engine.turns import Turns

# So many may be taken before one that came earlier and is less urgent; then it is its turn.
MOST_OVERTAKING = 64
_SLOT: Final = attrgetter("sequence.slot")
_ADAPTERS: Final = attrgetter("adapters")


class Scheduler:
    """`pacer` bounds the prompt tokens of a step, `output_rows` its rows that ask for logits, and
    `batch_rows` all of them. `ordered`: rows have to stand in ascending slot order."""

    def __init__(
        self,
        slots: Slots,
        pacer: PrefillPacer,
        *,
        ordered: bool,
        output_rows: int,
        batch_rows: int,
    ) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.slots = slots
        self._pacer = pacer
        self._ordered = ordered
        self._output_rows = output_rows
        self._batch_rows = batch_rows
        # After a preemption nobody is admitted until somebody ends, or the two would take the
        # last cells from each other for ever.
        self._full = False
        self._turns = Turns()

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

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
        """The sequence ended, for whatever reason. Returns what to forget of it at once."""
        if sequence.slot < 0:
            self.waiting.remove(sequence)
            return None
        self.running.remove(sequence)
        self._full = False
        return self.slots.leave(sequence)

    def schedule(self) -> Plan:
        plan = Plan()
        self.slots.moved()
        if self.waiting and not self._full:
            self._admit(plan)
        self.slots.close_gaps(self.running, plan)
        self._fill(plan)
        return plan

    def computed(self, plan: Plan) -> list[Sequence]:
        """The plan's rows are in the KV cache now. Returns those whose state is to be kept."""
        self.slots.extend(plan.rows)
        marked = []
        for sequence, length, _ in plan.rows:
            sequence.n_past += length
            if sequence.n_past in sequence.marks:
                marked.append(sequence)
        return marked

    def reclaim(self) -> tuple[Forget, Sequence | None] | None:
        """The cache had no room for the plan: give up the prefix that was unused longest, or, if
        none is left, the youngest of the least urgent sequences, which starts over when there is
        room.

        Returns what to forget and who was preempted; None if a lone sequence does not fit.
        """
        forget = self.slots.give_up_oldest()
        if forget is not None:
            return forget, None
        if len(self.running) < 2:
            return None
        victim = max(reversed(self.running), key=_priority)
        self.running.remove(victim)
        forget = self.slots.give_up(victim)
        victim.start_over()
        self.waiting.appendleft(victim)
        self._full = True
        return forget, victim

    def _admit(self, plan: Plan) -> None:
        kept_waiting: list[Sequence] = []
        while self.waiting and self.slots.has_free:
            sequence = self.waiting.popleft()
            if self.slots.place(sequence, self.running, plan):
                self.running.append(sequence)
                plan.admitted.append(sequence)
            else:
                kept_waiting.append(sequence)
        self.waiting.extendleft(reversed(kept_waiting))
        plan.waiting_for_prefix = len(kept_waiting)

    def _fill(self, plan: Plan) -> None:
        if not self.running:
            return
        rows = plan.rows
        prompts = []
        plan.adapters = self._turns.next(map(_ADAPTERS, self.running))
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
        if self._ordered:
            rows.sort(key=_SLOT)

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
