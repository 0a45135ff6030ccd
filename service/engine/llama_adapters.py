"""LoRA adapters of a loaded model, and which of them its contexts apply.

llama.cpp aborts over some files that are no adapters, such as one whose alpha is a text. The
service reads a file's header before it hands its path to an engine.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import llama_cpp as llama

from service.facts import Adapter, AdapterFacts
from service.generation import Selection


class BadAdapter(Exception):
    """llama.cpp does not take the file; its own words follow in its log."""


class Adapters:
    """They must be there before a context is: its graphs have room for those that it knows of."""

    def __init__(self, model: Any, adapters: Sequence[Adapter]) -> None:
        self._pointers: list[Any] = []
        facts = []
        for adapter in adapters:
            pointer = llama.llama_adapter_lora_init(model, adapter.path.encode())
            if not pointer:
                raise BadAdapter(adapter.name)
            alpha = _meta(pointer, "adapter.lora.alpha")
            if not math.isfinite(float(alpha or 0)):
                raise BadAdapter(f"{adapter.name}: its alpha is {alpha}")
            self._pointers.append(pointer)
            task = _meta(pointer, "adapter.lora.task_name")
            prefix = _meta(pointer, "adapter.lora.prompt_prefix")
            facts.append(AdapterFacts(adapter.name, task, prefix))
        self.facts = tuple(facts)

    def apply(self, context: Any, selection: Selection) -> None:
        """To whatever `context` computes from now on."""
        count = len(selection)
        pointers = (llama.llama_adapter_lora_p_ctypes * count)(
            *(self._pointers[number] for number, _ in selection)
        )
        scales = (ctypes.c_float * count)(*(scale for _, scale in selection))
        if status := llama.llama_set_adapters_lora(context, pointers, count, scales):
            raise RuntimeError(f"llama_set_adapters_lora: {status}")


def _meta(adapter: Any, key: str) -> str:
    buffer = ctypes.create_string_buffer(4096)
    size = llama.llama_adapter_meta_val_str(adapter, key.encode(), buffer, len(buffer))
    return "" if size < 0 else buffer.value.decode("utf-8", "replace")
