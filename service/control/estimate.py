"""What a configuration would do to the model in use, as the placement works it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from service.settings import Settings

if TYPE_CHECKING:
    from service.control.gathering import Status
    from service.control.hardware import Hardware


class Estimate(Struct, frozen=True, kw_only=True):
    """In bytes, of each GPU that an engine is shown, in its order. free_after: with the model there,
    and what others have of the card gone from it. gpu_layers are of `layers`, the output counted as
    one; shares: of the layers on GPUs, empty where one GPU has them all. host_free: None where it is
    not known. context: tokens of all slots together.
    """

    gpu_layers: int
    layers: int
    shares: tuple[float, ...]
    needed: tuple[int, ...]
    free_after: tuple[int, ...]
    host_free: int | None
    context: int
    # Why there is no such place, in words; the figures are of no meaning then.
    refused: str | None = None


class Candidate(Struct, frozen=True):
    """A model that is installed, and what it would take. needed: bytes of each GPU, then host."""

    name: str
    size_bytes: int
    estimate: Estimate


# Of the model in use. None: its header says too little.
Estimator = Callable[[Settings], Estimate | None]


@dataclass(frozen=True)
class Estimates:
    """estimator: for other settings. automatic: with nothing chosen but the context. predicted: bytes
    of each GPU, by its index, that the models that are loaded should take."""

    estimator: Estimator | None = None
    automatic: Estimate | None = None
    candidates: Sequence[Candidate] = ()
    predicted: Mapping[int, int] = field(default_factory=dict)


# Of the loaded models the first is the one in use; the others are what else is installed. Reads
# headers: not on the event loop.
Estimating = Callable[[Settings, "Hardware", "Sequence[Status]"], Estimates]
