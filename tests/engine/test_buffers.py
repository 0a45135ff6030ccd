"""What llama.cpp says of the memory that it took."""

from __future__ import annotations

import pytest

from service.engine.buffers import buffers, flash_attention, tells
from service.facts import Buffer

MIB = 1 << 20
LOG = (
    "load_tensors:   CPU_Mapped model buffer size =   629.99 MiB\n",
    "load_tensors:        CUDA0 model buffer size =  4096.00 MiB\n",
    "llama_context:  CUDA_Host  output buffer size =     0.49 MiB\n",
    "llama_kv_cache:      CUDA0 KV buffer size =    88.00 MiB\n",
    "llama_memory_recurrent:      CUDA0 RS buffer size =    23.75 MiB\n",
    "sched_reserve:      CUDA0 compute buffer size =    53.01 MiB\n",
    "sched_reserve:        CPU compute buffer size =     0.00 MiB\n",
)


def test_each_buffer_has_its_device_and_its_kind() -> None:
    assert buffers(LOG) == (
        Buffer("CPU_Mapped", "weights", round(629.99 * MIB)),
        Buffer("CUDA0", "weights", 4096 * MIB),
        Buffer("CUDA_Host", "output", round(0.49 * MIB)),
        Buffer("CUDA0", "cells", 88 * MIB),
        Buffer("CUDA0", "states", round(23.75 * MIB)),
        Buffer("CUDA0", "compute", round(53.01 * MIB)),
    )
    assert all(tells(line) for line in LOG)


@pytest.mark.parametrize(
    ("asked", "line", "answer"),
    [
        ("on", "", True),
        ("off", "", False),
        ("auto", "", None),
        ("auto", "resolve_fused_ops: Flash Attention enabled\n", True),
        ("auto", "resolve_fused_ops: Flash Attention not supported, set to disabled\n", False),
        ("auto", "enabling flash_attn since it is required for quantized V cache\n", True),
        ("on", "flash_attn is not compatible with Grok - forcing off\n", False),
    ],
)
def test_flash_attention_is_what_llama_cpp_says(asked: str, line: str, answer: bool | None) -> None:
    assert flash_attention(asked, [line]) is answer
