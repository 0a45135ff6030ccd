"""The GPUs that an engine will see, with what is free on each, by NVML.

None without a llama.cpp that was built for them, without `pynvml`, or without a driver: a GPU that
the engine cannot use is no place for a model.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from typing import Any, Final

from service.catalog.architectures import installed
from service.fleet.placed import Gpu
from service.visible_gpus import visible

logger = logging.getLogger(__name__)

# Left alone on each GPU: the CUDA context and its libraries' workspaces take some 300 to 500 MiB
# before llama.cpp allocates anything, and are in no buffer of its own.
RESERVE: Final = 512 * 1024 * 1024
# llama.cpp's GPU code is a library beside its own, or there is none.
_BACKENDS: Final = ("ggml-cuda", "ggml-hip", "ggml-vulkan", "ggml-sycl")


def gpus(environment: Mapping[str, str] = os.environ) -> tuple[Gpu, ...]:
    """In the order in which CUDA counts them for an engine, which is told to go by the bus."""
    if not built_for_gpus() or importlib.util.find_spec("pynvml") is None:
        return ()
    import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]

    try:
        pynvml.nvmlInit()
        try:
            return visible(_read(pynvml), environment.get("CUDA_VISIBLE_DEVICES"))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        logger.warning("The GPUs cannot be asked for their memory: %s", error)
        return ()


def _read(nvml: Any) -> list[Gpu]:
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
        found.append(Gpu(index, uuid, name, memory.total, memory.free, RESERVE))
    return found


def built_for_gpus() -> bool:
    library = installed()
    if library is None:
        return False
    names = [path.name for path in library.parent.iterdir()]
    return any(backend in name for name in names for backend in _BACKENDS)
