"""Which of a machine's GPUs an engine is shown, and in what order: the one that shares are counted in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Identified(Protocol):
    @property
    def uuid(self) -> str: ...


G = TypeVar("G", bound=Identified)


def visible(found: Sequence[G], said: str | None) -> tuple[G, ...]:
    """As CUDA_VISIBLE_DEVICES has them: numbers or the beginnings of UUIDs, up to the first that
    means none. `found`: all that there are, in the order of the bus."""
    if said is None:
        return tuple(found)
    chosen = []
    for word in filter(None, (part.strip() for part in said.split(","))):
        matching = [
            gpu
            for place, gpu in enumerate(found)
            if (word.isdigit() and place == int(word))
            or (word.startswith("GPU-") and gpu.uuid.startswith(word))
        ]
        if len(matching) != 1:
            break
        chosen.append(matching[0])
    return tuple(chosen)
