"""Texts become vectors, one batch beside each step of the generating sequences.

A batch lasts as long as `pacing` lets it; only an input that cannot be split may take longer. The
service is then told that the computation goes on, as often as llama.cpp says so: an engine that
hangs says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from service.engine.embedding import EmbeddingJob, EmbeddingQueue, Part, Vector, can_split
from service.engine.model import Model
from service.engine.pacing import BatchPacer, PrefillPacer
from service.engine.stopwatch import Stopwatch
from service.engine.wire import Computing, Output
from service.events import FinishReason

SIGN_SECONDS: Final = 1.0


class Embedded(NamedTuple):
    """What a batch brought, of how many tokens, and the seconds that it took. progress: (request, its
    tokens so far) where an input is not whole yet."""

    outputs: Sequence[Output] = ()
    tokens: int = 0
    seconds: float = 0.0
    progress: tuple[tuple[int, int], ...] = ()


NOTHING: Final = Embedded()


class Embedder:
    """`tell` sends a sign of life; `python` stands still while llama.cpp computes. Belongs to the
    engine's thread."""

    def __init__(
        self,
        model: Model,
        tell: Callable[[Computing], None],
        clock: Callable[[], float],
        python: Stopwatch,
    ) -> None:
        facts = model.facts
        self._model = model
        self._tell = tell
        self._clock = clock
        self._python = python
        self._pacer = BatchPacer(facts.n_embed_input)
        self._queue = EmbeddingQueue(model.embed_inputs, split=can_split(facts))

    def __len__(self) -> int:
        """Requests, running and waiting."""
        return len(self._queue)

    @property
    def running(self) -> int:
        return self._queue.running

    def add(self, job: EmbeddingJob) -> None:
        self._queue.add(job)

    def cancel(self, request: int) -> list[Output]:
        job = self._queue.remove(request)
        return [] if job is None else [self._end(job, FinishReason.CANCELLED)]

    def step(self, beside: PrefillPacer | None) -> Embedded:
        """One batch. beside: the pacer of those that generate, if any do."""
        pacer = self._pacer
        budget = pacer.alone if beside is None else pacer.beside(beside.decode_seconds)
        batch = self._queue.next_batch(budget)
        job, _, start, _ = batch[0]
        tokens = sum(part.end - part.start for part in batch)
        began = self._clock()
        alive = self._signs_of_life(batch, began) if tokens > budget else None
        self._python.pause()
        try:
            vectors = self._model.embed([part.ids for part in batch], job.adapters, start, alive)
        except RuntimeError as error:
            return Embedded(self._give_up(batch, str(error)))
        finally:
            self._python.start()
        now = self._clock()
        pacer.observe(tokens, now - began)
        outputs: list[Output] = []
        for part, vector in zip(batch, vectors, strict=True):
            part.job.scheduled = part.job.scheduled or began
            if part.ends:
                outputs += _outputs(part, vector, now)
        last = batch[-1]
        progress = () if last.ends else ((last.job.request, _reached(last)),)
        return Embedded(outputs, tokens, now - began, progress)

    def _give_up(self, batch: list[Part], error: str) -> list[Output]:
        """The batch could not be computed: all whose inputs were in it end."""
        jobs = {part.job.request: part.job for part in batch}
        for request in jobs:
            self._queue.remove(request)
        return [self._end(job, FinishReason.ERROR, error) for job in jobs.values()]

    def _end(self, job: EmbeddingJob, reason: FinishReason, error: str | None = None) -> Output:
        return job.request, job.finished(reason, self._clock(), error)

    def _signs_of_life(self, batch: list[Part], began: float) -> Callable[[], None]:
        """To be called as often as one likes: one in SIGN_SECONDS is told."""
        requests = tuple({part.job.request for part in batch})
        told = began

        def alive() -> None:
            nonlocal told
            now = self._clock()
            if now - told >= SIGN_SECONDS:
                told = now
                self._tell(Computing(requests))

        return alive


def _outputs(part: Part, vector: Vector, now: float) -> list[Output]:
    job = part.job
    job.first = job.first or now
    job.last = now
    outputs: list[Output] = [(job.request, job.embedding(part.number, vector))]
    if part.number + 1 == len(job.inputs):
        outputs.append((job.request, job.finished(FinishReason.STOP, now)))
    return outputs


def _reached(part: Part) -> int:
    """Tokens of the whole request."""
    return sum(map(len, part.job.inputs[: part.number])) + part.end
