"""GPUs as placements see them, and where on them a model has its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from service.facts import SplitMode
from service.fleet.memory import ContextShape
from service.fleet.sums import Need

_GIB: Final = 1 << 30
# In bytes: of a GPU that any model fits on, on paper.
AMPLE: Final = 1 << 60

Limit = Literal["nothing", "gpu_memory", "host_memory", "wishes"]


@dataclass(frozen=True, slots=True)
class Gpu:
    """`index` is the driver's number; sizes in bytes. `reserve` of what is free is left alone:
    for the driver's own context, and whatever the estimate does not know."""

    index: int
    uuid: str
    name: str
    total: int
    free: int
    reserve: int = 0

    @property
    def usable(self) -> int:
        return max(0, self.free - self.reserve)


@dataclass(frozen=True, slots=True)
class Placement:
    """`gpus` are as they were given, `shares` what each of them gets, `host` what stays.

    gpu_layers and tensor_split as llama.cpp takes them. free_after: of each GPU, its reserve
    included; host_free_after: None where the host's memory is not known.
    """

    gpu_layers: int
    tensor_split: tuple[float, ...]
    main_gpu: int
    split_mode: SplitMode
    shape: ContextShape
    gpus: tuple[Gpu, ...]
    shares: tuple[Need, ...]
    host: Need
    host_free_after: int | None
    limited_by: Limit
    reasons: tuple[str, ...]

    @property
    def context(self) -> int:
        return self.shape.cells * self.shape.streams

    @property
    def free_after(self) -> tuple[int, ...]:
        pairs = zip(self.gpus, self.shares, strict=True)
        return tuple(gpu.free - share.total for gpu, share in pairs)


def readable(size: int) -> str:
    return f"{size / _GIB:.2f} GiB" if abs(size) >= _GIB else f"{size / (1 << 20):.1f} MiB"
