"""Texts that are to become vectors: their queue, and what goes into one batch. Pure.

An embedding has no second token: a batch is computed, read and forgotten. It takes turns with the
steps of generating sequences, one batch beside each step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.engine.model import Ids
from service.events import Embedding, Finished, FinishReason, Timings, Usage
from service.generation import Selection

Vector = NDArray[np.float32]


@dataclass(slots=True)
class EmbeddingJob:
    """One request. `queued`, `scheduled` and `first` are monotonic seconds."""

    request: int
    inputs: Sequence[Ids]
    normalize: bool
    dimensions: int | None
    queued: float
    adapters: Selection = ()
    scheduled: float | None = None
    first: float | None = None
    last: float | None = None
    # Inputs that are in a batch or have been.
    begun: int = 0
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


class EmbeddingQueue:
    """First come, first served. A batch has at most so many tokens, and so many inputs."""

    def __init__(self, most_tokens: int, most_inputs: int) -> None:
        self._most_tokens = most_tokens
        self._most_inputs = most_inputs
        self._jobs: deque[EmbeddingJob] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def running(self) -> int:
        return sum(job.begun > 0 for job in self._jobs)

    def add(self, job: EmbeddingJob) -> None:
        self._jobs.append(job)

    def remove(self, request: int) -> EmbeddingJob | None:
        found = next((job for job in self._jobs if job.request == request), None)
        if found is not None:
            self._jobs.remove(found)
        return found

    def next_batch(self) -> list[tuple[EmbeddingJob, int]]:
        """The next inputs, of several jobs where they fit together and want the same adapters. A job
        leaves with its last."""
        batch: list[tuple[EmbeddingJob, int]] = []
        tokens = 0
        while self._jobs and len(batch) < self._most_inputs:
            job = self._jobs[0]
            tokens += len(job.inputs[job.begun])
            if batch and (tokens > self._most_tokens or job.adapters != batch[0][0].adapters):
                break
            batch.append((job, job.begun))
            job.begun += 1
            if job.begun == len(job.inputs):
                self._jobs.popleft()
        return batch
