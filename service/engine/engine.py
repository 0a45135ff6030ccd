"""The step loop: take commands, schedule, decode, sample, send. One thread owns all of it.

    reading thread   socket → tokenize, check the length (`intake`) → Admitted or Refused → inbox
    engine thread    inbox → schedule → llama_decode → sample → one Step frame → socket

The reading thread only makes vocabulary calls, which are read-only, and the GIL is free while
llama.cpp computes; so a request is answered for while a step is running.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from service.context import output_rows
from service.engine.batch import Batch
from service.engine.embedder import Embedder
from service.engine.embedding import EmbeddingJob
from service.engine.intake import Prepared, prepare, prepare_embedding
from service.engine.model import Model
from service.engine.pacing import PrefillPacer
from service.engine.plan import Copy, Forget, Move, Plan, Restore, Row
from service.engine.prefix_cache import PrefixCache
from service.engine.reporting import Reporter, Tally, phase_of
from service.engine.scheduler import Scheduler
from service.engine.sequence import Sequence
from service.engine.slots import Slots
from service.engine.stopwatch import Stopwatch
from service.engine.token_cost import growth_of
from service.engine.wire import (
    Cancel,
    Embed,
    EngineParams,
    Refused,
    Report,
    SetThreads,
    Submit,
    ThreadsSet,
)
from service.events import FinishReason, PromptLogprobs

# Requests that arrive together on an idle engine share their first step.
GATHER_SECONDS = 0.0005

Send = Callable[[Report], None]
Work = list[Sequence] | EmbeddingJob | Cancel | SetThreads


class Engine:
    """`model` and everything in here belongs to the thread that calls `run`; all that
    puts something into the inbox may be called from one other."""

    def __init__(
        self,
        model: Model,
        params: EngineParams,
        send: Send,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        facts = model.facts
        split = facts.kv_layout == "split"
        self.model = model
        self._send = send
        self._clock = clock
        # llama.cpp may have made the batch smaller than was asked for: to the size of the context.
        step_tokens = min(facts.n_batch, params.n_ubatch)
        self._pacer = PrefillPacer(step_tokens, params.prefill_chunk, growth_of(facts))
        prefixes = PrefixCache(
            facts.n_seq,
            can_rollback=facts.can_rollback,
            enabled=params.prefix_cache,
            window=facts.window,
            held_from=model.held_from,
        )
        self._scheduler = Scheduler(
            Slots(prefixes, split=split, swaps=not facts.window),
            self._pacer,
            ordered=split,
            output_rows=output_rows(facts.n_seq),
            batch_rows=facts.n_batch,
        )
        self._batch = Batch(facts.n_batch)
        self._inbox: SimpleQueue[Work | None] = SimpleQueue()
        self._closed = False
        self._python = Stopwatch(cpu_clock)
        self._embedder = Embedder(model, send, clock, self._python)
        self._reporter = Reporter(self._scheduler, self._embedder, send, clock, self._python)

    def admit(self, submit: Submit) -> None:
        """Answer a Submit, and queue it if it can be run."""
        self._take_in(prepare(self.model, submit, self._clock()))

    def embed(self, embed: Embed) -> None:
        """Answer an Embed, and queue it if it can be run."""
        self._take_in(prepare_embedding(self.model, embed, self._clock()))

    def _take_in(self, prepared: Refused | Prepared) -> None:
        if isinstance(prepared, Refused):
            self._send(prepared)
            return
        admitted, work = prepared
        # Before the work is queued: its first Step must not overtake this.
        self._send(admitted)
        self._inbox.put(work)

    def cancel(self, command: Cancel) -> None:
        self._inbox.put(command)

    def set_threads(self, command: SetThreads) -> None:
        self._inbox.put(command)

    def close(self) -> None:
        self._inbox.put(None)

    @property
    def idle(self) -> bool:
        return self._scheduler.idle and not self._embedder and self._inbox.empty()

    def run(self) -> None:
        while not self._closed:
            if self.idle:
                self._reporter.idle()
                self._take(self._inbox.get(), Tally())
                time.sleep(GATHER_SECONDS)
            self.step()

    def step(self) -> None:
        """Work off the inbox, then one batch, if there is anything to compute."""
        tally = Tally(self._clock())
        self._python.start()
        self._take_commands(tally)
        if self._embedder:
            tally.embedded = self._embedder.step(self._pacer if self._scheduler.running else None)
            tally.outputs += tally.embedded.outputs
        plan = self._scheduler.schedule()
        if not plan.rows:
            if tally.embedded.tokens:
                self._reporter.report(plan, tally, "prefill", 0.0)
            elif tally.outputs:
                self._reporter.report(plan, tally, "idle", 0.0)
            return
        for sequence in plan.admitted:
            if sequence.scheduled is None:
                sequence.scheduled = tally.began
        if plan.moves:
            self._carry_out(plan.moves)
        first_rows = self._fill(plan)
        self._python.pause()
        before = self._clock()
        decoded = self.model.decode(self._batch)
        decoding = self._clock() - before
        self._python.start()
        if not decoded:
            self._make_room(plan, tally)
            return
        for sequence in self._scheduler.computed(plan):
            self._scheduler.slots.keep(sequence, self.model.state(sequence.slot))
        self._sample(plan, first_rows, tally)
        for sequence, reason in tally.finished:
            self._end(sequence, reason, tally)
        depth = plan.prefill_depth / max(1, plan.prefill_tokens)
        self._pacer.observe(plan.prefill_tokens, depth, plan.decode_rows, decoding)
        self._reporter.report(plan, tally, phase_of(plan, tally), decoding)

    def _take_commands(self, tally: Tally) -> None:
        while not self._inbox.empty():
            self._take(self._inbox.get(), tally)

    def _take(self, command: Work | None, tally: Tally) -> None:
        if command is None:
            self._closed = True
        elif isinstance(command, Cancel):
            for sequence in self._scheduler.of_request(command.id):
                self._end(sequence, FinishReason.CANCELLED, tally)
            tally.outputs += self._embedder.cancel(command.id)
        elif isinstance(command, SetThreads):
            self._send(ThreadsSet(self.model.set_threads(command.threads, command.engines)))
        elif isinstance(command, EmbeddingJob):
            self._embedder.add(command)
        else:
            for sequence in command:
                self._scheduler.add(sequence)

    def _carry_out(self, moves: list[Move]) -> None:
        self._python.pause()
        for move in moves:
            match move:
                case Forget(slot, start):
                    self.model.forget(slot, start)
                case Copy(source, target, length):
                    self.model.copy(source, target, length)
                case Restore(slot, snapshot):
                    self.model.restore(slot, snapshot.data, snapshot.length)
                case _:
                    self.model.swap(move.a, move.b)
        self._python.start()

    def _fill(self, plan: Plan) -> list[int]:
        batch = self._batch
        batch.clear(plan.adapters)
        first_rows = []
        for sequence, length, samples in plan.rows:
            start = sequence.n_past
            if length == 1 and samples:
                row = batch.add_token(int(sequence.tokens[start]), start, sequence.slot)
            else:
                tokens = sequence.tokens[start : start + length]
                every = sequence.scores_prompt
                row = batch.add_prompt(tokens, start, sequence.slot, last=samples, every=every)
            first_rows.append(row)
        return first_rows

    def _sample(self, plan: Plan, first_rows: list[int], tally: Tally) -> None:
        """Sample every row that asks for it."""
        sampling: list[tuple[Sequence, int]] = []
        for row, first in zip(plan.rows, first_rows, strict=True):
            sequence = row.sequence
            if sequence.scores_prompt:
                self._score_prompt(row, first, tally)
            if not row.samples:
                continue
            if sequence.n_tokens < sequence.limit:
                sampling.append((sequence, first + row.length - 1))
            else:
                # Nothing was asked for beyond the prompt (max_tokens 0: scoring).
                tally.finished.append((sequence, FinishReason.LENGTH))
        self._python.pause()
        tokens = [sequence.sampler.sample(at) for sequence, at in sampling]
        self._python.start()
        now = self._clock()
        for (sequence, at), token in zip(sampling, tokens, strict=True):
            sequence.append(token, now)
            if sequence.gap is not None:
                tally.gaps.append(sequence.gap)
            self._accept(sequence, token, at, tally)

    def _accept(self, sequence: Sequence, token: int, row: int, tally: Tally) -> None:
        model, sampling = self.model, sequence.sampling
        logprobs = None
        if sampling.logprobs is not None:
            logprobs = partial(model.logprobs, row, token, sampling.logprobs)
        event, reason = sequence.answer.feed(
            sequence.index,
            token,
            model.piece(token, special=not sampling.skip_special_tokens),
            logprobs,
            is_eog=model.is_eog(token),
            is_last=sequence.n_tokens >= sequence.limit,
        )
        if event is not None:
            tally.outputs.append((sequence.request, event))
        if reason is not None:
            tally.finished.append((sequence, reason))
        elif sequence.n_generated == sampling.min_tokens:
            sequence.sampler.allow_end()

    def _score_prompt(self, row: Row, first: int, tally: Tally) -> None:
        """Row i of the prompt gives the distribution of its token i + 1."""
        sequence = row.sequence
        scores = sequence.prompt_logprobs
        assert scores is not None
        top = sequence.sampling.prompt_logprobs or 0
        for at in range(row.length):
            if len(scores) < sequence.n_prompt:
                token = int(sequence.tokens[len(scores)])
                scores.append(self.model.logprobs(first + at, token, top))
        if len(scores) == sequence.n_prompt and row.samples:
            tally.outputs.append((sequence.request, PromptLogprobs(sequence.index, tuple(scores))))
            sequence.prompt_logprobs = None

    def _end(
        self, sequence: Sequence, reason: FinishReason, tally: Tally, error: str | None = None
    ) -> None:
        if (forget := self._scheduler.remove(sequence)) is not None:
            self._carry_out([forget])
        event = sequence.finished(reason, self._clock(), error=error)
        tally.outputs.append((sequence.request, event))
        sequence.sampler.free()

    def _make_room(self, plan: Plan, tally: Tally) -> None:
        """The cache is full. Nothing was computed; the next step plans anew with more room."""
        reclaimed = self._scheduler.reclaim()
        if reclaimed is None:
            # The limit of a sequence is the context's, so a lone one always fits unless cells
            # were lost; better to end it than to spin.
            for sequence in list(self._scheduler.running):
                self._end(sequence, FinishReason.ERROR, tally, error="the KV cache is full")
        else:
            move, victim = reclaimed
            self._carry_out([move])
            if victim is None:
                plan.evictions += 1
            else:
                tally.preemptions += 1
        self._reporter.report(plan, tally, "idle", 0.0)
