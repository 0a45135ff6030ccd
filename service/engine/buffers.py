"""What llama.cpp says in its log of the memory that it took. Pure.

It has no function that tells: the sizes are in lines such as

    load_tensors:   CPU_Mapped model buffer size =   630.00 MiB
    llama_kv_cache:      CUDA0 KV buffer size =   512.00 MiB
    resolve_fused_ops: Flash Attention enabled
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from service.facts import Buffer, BufferKind

_SIZE: Final = re.compile(r"(\S+) +(model|LoRA|KV|RS|compute|output) buffer size = +([\d.]+) MiB")
_KINDS: Final[dict[str, BufferKind]] = {
    "model": "weights",
    "LoRA": "weights",
    "KV": "cells",
    "RS": "states",
    "compute": "compute",
    "output": "output",
}
_MIB: Final = 1 << 20


def tells(line: str) -> bool:
    """Whether the line is one of those to keep."""
    return "buffer size" in line or "Flash Attention" in line or "flash_attn" in line


def buffers(lines: Iterable[str]) -> tuple[Buffer, ...]:
    """In bytes, to a hundredth of a MiB as they are written."""
    found = (match for line in lines for match in _SIZE.finditer(line))
    return tuple(
        Buffer(device, _KINDS[kind], round(float(size) * _MIB))
        for device, kind, size in (match.groups() for match in found)
        if float(size)
    )


def flash_attention(asked: str, lines: Iterable[str]) -> bool | None:
    """Whether it computes with flash attention; None where it was to decide, and did not say."""
    answer = None if asked == "auto" else asked == "on"
    for line in lines:
        if "Flash Attention enabled" in line or "enabling flash_attn" in line:
            answer = True
        elif "Flash Attention not supported" in line or "forcing off" in line:
            answer = False
    return answer
