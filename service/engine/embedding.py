"""Texts that are to become vectors: their queue, and what goes into one batch. Pure.

An embedding has no second token: a batch is computed, read and forgotten. What attends only to what
came before it can be computed in parts, as prompts are; all else is one piece, however long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.engine.model import Ids
from service.engine.scheduler import MOST_OVERTAKING
from service.events import Embedding, Finished, FinishReason, Timings, Usage
from service.facts import ModelFacts
from service.generation import Selection

Vector = NDArray[np.float32]


@dataclass(slots=True)
class EmbeddingJob:
    """One request. `queued`, `scheduled` and `first` are monotonic seconds; of those that wait, the
    lowest `priority` is next."""

    request: int
    inputs: Sequence[Ids]
    normalize: bool
    dimensions: int | None
    queued: float
    adapters: Selection = ()
    priority: int = 0
    overtaken: int = 0
    scheduled: float | None = None
    first: float | None = None
    last: float | None = None
    # Inputs that are in a batch or have been, whole; and the tokens of the next one that have been.
    begun: int = 0
    computed: int = 0
    tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = sum(map(len, self.inputs))

    def finished(self, reason: FinishReason, now: float, error: str | None = None) -> Finished:
        timings = Timings(self.queued, self.scheduled, self.first, self.last, now)
        return Finished(0, reason, Usage(self.tokens), timings, error=error)

    def embedding(self, index: int, vector: Vector) -> Embedding:
        if self.dimensions is not None:
            vector = vector[: self.dimensions]
        if self.normalize:
            vector = normalized(vector)
        return Embedding(index, vector.astype("<f4").tobytes(), len(self.inputs[index]))


def normalized(vector: Vector) -> Vector:
    """Of length 1; a vector of nothing but zeros stays what it is."""
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length > 0 else vector


def can_split(facts: ModelFacts) -> bool:
    """Whether an input's vector is the same where it is computed in parts: where no token sees what
    comes after it, and the vector is made of the last."""
    return facts.can_generate and facts.pooling in ("none", "last", "rank")


class Part(NamedTuple):
    """Tokens `start` to `end` of the job's input of that number; those before have been computed."""

    job: EmbeddingJob
    number: int
    start: int
    end: int

    @property
    def ids(self) -> Ids:
        return self.job.inputs[self.number][self.start : self.end]

    @property
    def ends(self) -> bool:
        return self.end == len(self.job.inputs[self.number])


class EmbeddingQueue:
    """Of those that are as urgent, first come, first served. A batch has at most so many inputs."""

    def __init__(self, most_inputs: int, *, split: bool) -> None:
        self._most_inputs = most_inputs
        self._split = split
        self._jobs: deque[EmbeddingJob] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def running(self) -> int:
        return sum(job.begun > 0 or job.computed > 0 for job in self._jobs)

    def add(self, job: EmbeddingJob) -> None:
        """Behind all that are as urgent, that have begun, or that were overtaken often enough."""
        at = len(self._jobs)
        while at and _may_overtake(job, self._jobs[at - 1]):
            at -= 1
        for later in islice(self._jobs, at, None):
            later.overtaken += 1
        self._jobs.insert(at, job)

    def remove(self, request: int) -> EmbeddingJob | None:
        found = next((job for job in self._jobs if job.request == request), None)
        if found is not None:
            self._jobs.remove(found)
        return found

    def next_batch(self, most_tokens: int) -> list[Part]:
        """The next inputs, of several jobs where they fit together and want the same adapters. One
        that is longer than `most_tokens` is alone, in parts where that can be. A job leaves with its
        last input."""
        batch: list[Part] = []
        tokens = 0
        while self._jobs and len(batch) < self._most_inputs:
            job = self._jobs[0]
            start, end = job.computed, len(job.inputs[job.begun])
            tokens += end - start
            if batch and (tokens > most_tokens or job.adapters != batch[0].job.adapters):
                break
            if tokens > most_tokens and self._split:
                job.computed = start + most_tokens
                return [Part(job, job.begun, start, job.computed)]
            batch.append(Part(job, job.begun, start, end))
            job.begun += 1
            job.computed = 0
            if job.begun == len(job.inputs):
                self._jobs.popleft()
            if start:
                # The parts before it are where another input would begin.
                break
        return batch


def _may_overtake(job: EmbeddingJob, other: EmbeddingJob) -> bool:
    if other.begun or other.computed or other.overtaken >= MOST_OVERTAKING:
        return False
    return job.priority < other.priority
