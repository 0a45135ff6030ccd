"""The ways in which the service ends a request that an engine did not finish.

Each is one thing in two forms: an error, while the request was not admitted yet, and after that
the code and words of a `Finished`.
"""

from __future__ import annotations

from service.errors import Draining, EngineFailed, ModelUnavailable, OutOfTime
from service.events import FinishReason
from service.fleet.stream import Ending

CANCELLED = Ending(
    FinishReason.CANCELLED, "cancelled", ModelUnavailable("The request was cancelled.")
)


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
    error = ModelUnavailable(
        f"The request did not get its turn within {seconds:g} seconds.", retry_after=retry_after
    )
    return Ending(FinishReason.TIMEOUT, "queue_timeout", error)


def slow_reader() -> Ending:
    error = EngineFailed("The client read too slowly for the answer to be kept for it.")
    return Ending(FinishReason.ERROR, "slow_reader", error)


def draining() -> Ending:
    error = Draining("The service is shutting down.", retry_after=5.0)
    return Ending(FinishReason.ERROR, "draining", error)
