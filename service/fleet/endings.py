"""The ways in which the service ends a request that an engine did not finish.

Each is one thing in two forms: an error, while the request was not admitted yet, and after that
the code and words of a `Finished`.
"""

from __future__ import annotations

from typing import Final

from service.engine.wire import Refused
from service.errors import (
    Cancelled,
    ContextOverflow,
    Draining,
    EngineFailed,
    InvalidRequest,
    ModelUnavailable,
    OutOfTime,
    QueueTimeout,
    ServiceError,
)
from service.events import FinishReason
from service.fleet.stream import Ending, EngineStream

# Deaths that a request may see: the engine's that had it, or while it waited for the load.
DEATHS: Final = 2


def after_death(stream: EngineStream, model: str) -> Ending | None:
    """What has begun is over. (1) What DEATHS engines died with is over. (2) What waited through
    as many is told so. The rest goes to the next engine."""
    if stream.answered:
        return crashed()
    if stream.deaths < DEATHS:
        return None
    return poisonous() if stream.sent is not None else unavailable(model)  # (1, 2)


def cancelled() -> Ending:
    error = Cancelled()
    return Ending(FinishReason.CANCELLED, error.code, error)


def failed(error: ServiceError) -> Ending:
    return Ending(FinishReason.ERROR, error.code, error)


def refused(report: Refused, max_tokens: int | None) -> Ending:
    """By the engine, as it looked at the prompt."""
    if report.overflow is not None:
        prompt_tokens, longest = report.overflow
        return failed(ContextOverflow(prompt_tokens, longest, max_tokens))
    return failed(InvalidRequest(report.message, param=report.param))


def crashed() -> Ending:
    error = EngineFailed("The engine stopped while it worked on this request.")
    return Ending(FinishReason.ERROR, "engine_crashed", error)


def poisonous() -> Ending:
    error = EngineFailed(
        "The engine stopped twice while it had this request. It is not tried again."
    )
    return Ending(FinishReason.ERROR, "engine_crashed", error)


def unavailable(model: str) -> Ending:
    error = ModelUnavailable(
        f"The model `{model}` is not available: its engine keeps stopping.", retry_after=10.0
    )
    return Ending(FinishReason.ERROR, "engine_crashed", error)


def unloaded(model: str) -> Ending:
    error = ModelUnavailable(f"The model `{model}` was unloaded.", retry_after=1.0)
    return Ending(FinishReason.ERROR, "unloaded", error)


def out_of_time(seconds: float) -> Ending:
    error = OutOfTime(f"The request took longer than {seconds:.3g} seconds.")
    return Ending(FinishReason.TIMEOUT, "timeout", error)


def out_of_patience(seconds: float, retry_after: float) -> Ending:
    error = QueueTimeout(
        f"The request did not get its turn within {seconds:g} seconds.", retry_after=retry_after
    )
    return Ending(FinishReason.TIMEOUT, error.code, error)


def slow_reader() -> Ending:
    error = EngineFailed("The client read too slowly for the answer to be kept for it.")
    return Ending(FinishReason.ERROR, "slow_reader", error)


def draining() -> Ending:
    error = Draining("The service is shutting down.", retry_after=5.0)
    return Ending(FinishReason.ERROR, "draining", error)
