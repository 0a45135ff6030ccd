"""What the service is told of each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from service.engine.embedder import NOTHING, Embedded, Embedder
from service.engine.plan import Plan
from service.engine.scheduler import Scheduler
from service.engine.sequence import Sequence
from service.engine.stopwatch import Stopwatch
from service.engine.wire import Output, Report, Step
from service.events import FinishReason
from service.stats import StepStats

Phase = Literal["prefill", "decode", "mixed", "idle"]


@dataclass(slots=True)
class Tally:
    """What one step brought, gathered while it is worked off. began: monotonic seconds."""

    began: float = 0.0
    outputs: list[Output] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    finished: list[tuple[Sequence, FinishReason]] = field(default_factory=list)
    preemptions: int = 0
    embedded: Embedded = NOTHING


class Reporter:
    """Numbers the steps, and sends one frame for each. python: what is outside llama.cpp."""

    def __init__(
        self,
        scheduler: Scheduler,
        embedder: Embedder,
        send: Callable[[Report], None],
        clock: Callable[[], float],
        python: Stopwatch,
    ) -> None:
        self._scheduler = scheduler
        self._embedder = embedder
        self._send = send
        self._clock = clock
        self._python = python
        self._steps = 0
        self._told_idle = True

    def idle(self) -> None:
        """Nothing is left to do: said once, so that no gauge keeps its last busy value."""
        if not self._told_idle:
            self.report(Plan(), Tally(), "idle", 0.0)

    def report(self, plan: Plan, tally: Tally, phase: Phase, decode_seconds: float) -> None:
        scheduler, embeddings = self._scheduler, len(self._embedder)
        embedding = self._embedder.running if embeddings else 0
        computed = phase != "idle"
        self._steps += computed
        self._told_idle = not computed and scheduler.idle and not embeddings
        prefill_tokens = plan.prefill_tokens + tally.embedded.tokens
        progress = tally.embedded.progress
        if computed and plan.prefill_tokens:
            prompts = (row.sequence for row in plan.rows if row.length > 1)
            progress += tuple((sequence.request, sequence.n_past) for sequence in prompts)
        stats = StepStats(
            self._steps,
            phase,
            decode_seconds + tally.embedded.seconds,
            self._python.lap(),
            prefill_tokens if computed else 0,
            plan.decode_rows if computed else 0,
            len(scheduler.running) + embedding,
            len(scheduler.waiting) + embeddings - embedding,
            scheduler.slots.kv_tokens,
            tuple(tally.gaps),
            plan.prefix_queried_tokens,
            plan.prefix_hit_tokens,
            plan.evictions,
            tally.preemptions,
            progress,
            self._clock() - tally.began if computed else 0.0,
            plan.prefix_reusable_tokens,
            plan.waiting_for_prefix,
        )
        self._send(Step(stats, tally.outputs))
        # Sending counts with the next step, which can still report it.
        self._python.pause()


def phase_of(plan: Plan, tally: Tally) -> Phase:
    """Of a step that was computed."""
    if not plan.prefill_tokens and not tally.embedded.tokens:
        return "decode"
    return "mixed" if plan.decode_rows else "prefill"
