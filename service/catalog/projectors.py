"""Which multimodal projector (`mmproj*.gguf`) belongs to which model beside it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from service.catalog.index import File
from service.catalog.shards import quantized

_WORD: Final = re.compile(r"[-._]?mmproj[-._]?", re.IGNORECASE)
# Of several the one that converters make first; any of them would do.
_PREFERRED: Final = ("f16", "bf16", "q8_0", "f32")


def projector_for(stem: str, projectors: Sequence[File], stems: Iterable[str]) -> File | None:
    """The projector whose name begins as the model's does, or goes on where that ends.

    One without a name (`mmproj-F16.gguf`) belongs to the only model of its folder, in whichever
    quantizations that lies there: `stems` are those of all the models in it.
    """
    own = _base(stem)
    only = len({_base(other) for other in stems}) == 1
    rated: list[tuple[int, int, str, File]] = []
    for file in projectors:
        name = _base(_WORD.sub("-", file.path.stem, count=1).strip("-._"))
        if not name:
            if not only:
                continue
            alike = 0
        elif own.startswith(name) or name.startswith(own):
            alike = min(len(own), len(name))
        else:
            continue
        rated.append((-alike, _rank(file), file.path.name, file))
    return min(rated, key=lambda entry: entry[:3])[3] if rated else None


def _base(stem: str) -> str:
    """In lower case, without a quantization; "" where there is nothing else."""
    parts = _quantized(stem)
    return (parts[0].removeprefix("x") if parts else stem).strip("-._").lower()


def _rank(file: File) -> int:
    parts = _quantized(file.path.stem)
    kind = parts[1].lower() if parts else ""
    return _PREFERRED.index(kind) if kind in _PREFERRED else len(_PREFERRED)


def _quantized(stem: str) -> tuple[str, str] | None:
    """Also of a name that is a quantization and nothing else."""
    return quantized(f"x-{stem}")
