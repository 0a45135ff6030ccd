"""What engines report of themselves. Metrics, progress, logs and JSON all derive from these.

They are values, never calls sprinkled through the code; times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

from service.events import FinishReason, Timings, Usage
from service.generation import SamplingParams


class StepStats(Struct, frozen=True, array_like=True):
    """One `llama_decode` and what surrounds it; `running` and the KV figures are after the step.

    `decode_seconds` is that call; `overhead_seconds` the processor time of the step loop outside
    llama.cpp, the sending of the step before included.

    A step of phase `idle` computed nothing: it is sent once when work runs out (after a cancel,
    for one), so that no gauge keeps the last busy value.
    """

    number: int
    phase: Literal["prefill", "decode", "mixed", "idle"]
    decode_seconds: float
    overhead_seconds: float
    prefill_tokens: int
    decode_tokens: int
    running: int
    waiting: int
    kv_tokens: int
    # Gaps between a sequence's successive tokens that ended in this step.
    inter_token_seconds: tuple[float, ...] = ()
    # Prompt tokens looked up in, and taken from, the prefix cache by sequences scheduled now.
    prefix_queried_tokens: int = 0
    prefix_hit_tokens: int = 0
    evictions: int = 0
    preemptions: int = 0
    # (request, prompt tokens computed or reused so far) of each sequence in prefill.
    prefill_progress: tuple[tuple[int, int], ...] = ()
    # From the step's beginning to its report: the decode, the sampling and the rest.
    step_seconds: float = 0.0
    # Of the prompt tokens looked up, those that a prompt of the last ten minutes began with too.
    prefix_reusable_tokens: int = 0
    # Of `waiting`, sequences that a free slot would do nothing for: another computes their beginning
    # right now, and they take it over.
    waiting_for_prefix: int = 0


def idle_step(number: int) -> StepStats:
    """Of an engine that is gone: no gauge keeps its last busy value."""
    return StepStats(
        number=number,
        phase="idle",
        decode_seconds=0.0,
        overhead_seconds=0.0,
        prefill_tokens=0,
        decode_tokens=0,
        running=0,
        waiting=0,
        kv_tokens=0,
    )


Operation = Literal["chat", "text_completion", "embeddings"]


class RequestStats(Struct, frozen=True):
    """One request's whole life, all its answers together. `arrived` and `ended` are stamped by the service, the rest inside.

    `timings` is None where the request never reached an engine. asked: the model's name as the
    client has it. loading: from when until when it waited for its model to be loaded, where it did.
    error: the stable word of a reason ERROR, TIMEOUT or CANCELLED. operation: as OpenTelemetry's
    conventions for generative AI name it. cut_tokens: of the prompt, to make it fit.
    """

    id: str
    model: str
    dialect: str
    endpoint: str
    stream: bool
    reason: FinishReason
    arrived: float
    ended: float
    max_tokens: int | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    operation: Operation = "chat"
    asked: str = ""
    sampling: SamplingParams | None = None
    loading: tuple[float, float] | None = None
    error: str | None = None
    traceparent: str | None = None
    cut_tokens: int = 0


class ModelLoaded(Struct, frozen=True):
    """`seconds` from the start of its process until it could serve."""

    model: str
    seconds: float


LoadFailure = Literal["not_found", "out_of_memory", "bad_file", "unsupported", "timeout", "crash"]


class ModelLoadFailed(Struct, frozen=True):
    """`crash`: its process died of it."""

    model: str
    reason: LoadFailure


Unloading = Literal["idle", "evicted", "requested", "changed", "reload", "shutdown"]


class ModelUnloaded(Struct, frozen=True):
    """idle: its time was over. evicted: for another model. changed: for its file's new content.
    reload: to be loaded in another way."""

    model: str
    reason: Unloading


ModelEvent = ModelLoaded | ModelLoadFailed | ModelUnloaded


class Observer(Protocol):
    """All are called on the service's event loop."""

    def on_model(self, event: ModelEvent) -> None: ...

    def on_steps(self, model: str, steps: Sequence[StepStats]) -> None:
        """One or more, in order."""

    def on_finish(self, stats: RequestStats) -> None: ...
