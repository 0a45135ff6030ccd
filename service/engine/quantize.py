"""`python -m service.engine.quantize IN.gguf OUT.gguf TYPE`: llama.cpp's own quantization, no other.

A process of its own, since llama.cpp aborts where it cannot go on.
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp


def quantize(source: str, destination: str, ftype: str) -> int:
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{ftype}")
    result = llama_cpp.llama_model_quantize(
        source.encode(), destination.encode(), ctypes.byref(params)
    )
    return int(result)


if __name__ == "__main__":
    sys.exit(quantize(*sys.argv[1:4]))
