"""A model's files, opened by llama.cpp; and what it says meanwhile, which it says nowhere else."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import llama_cpp as llama

from service.engine import buffers
from service.engine.llama_adapters import Adapters, BadAdapter
from service.engine.wire import EngineParams

_SPLIT = {
    "none": llama.LLAMA_SPLIT_MODE_NONE,
    "layer": llama.LLAMA_SPLIT_MODE_LAYER,
    "row": llama.LLAMA_SPLIT_MODE_ROW,
}
_LOG_WARN = 3
LoadKind = Literal["not_found", "out_of_memory", "bad_file", "unsupported"]


class LoadError(Exception):
    def __init__(self, kind: LoadKind, message: str) -> None:
        super().__init__(message)
        self.kind: LoadKind = kind


# The newest complaints of llama.cpp: its loader returns NULL and says why only here.
complaints: deque[str] = deque(maxlen=8)
# What it took and how it computes; this too is said here alone.
told: deque[str] = deque(maxlen=256)


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _log(level: int, text: bytes, _: Any) -> None:
    line = text.decode("utf-8", "replace")
    if buffers.tells(line):
        told.append(line)
    if level >= _LOG_WARN:
        complaints.append(line.strip())
        sys.stderr.write(line)


def start() -> None:
    """To be called before anything else: from then on what llama.cpp says is kept."""
    llama.llama_log_set(_log, None)
    llama.llama_backend_init()


def load_model(params: EngineParams, progress: Callable[[float], None]) -> Any:
    if not Path(params.path).is_file():
        raise LoadError("not_found", "the model file is gone")

    @llama.llama_progress_callback  # type: ignore[untyped-decorator]
    def report(fraction: float, _: Any) -> bool:
        progress(fraction)
        return True

    settings = llama.llama_model_default_params()
    settings.n_gpu_layers = -1 if params.gpu_layers is None else params.gpu_layers
    settings.split_mode = _SPLIT[params.split_mode or "layer"]
    settings.main_gpu = params.main_gpu or 0
    settings.progress_callback = report
    # The struct only borrows the array: it must outlive the call.
    shares = (ctypes.c_float * llama.llama_max_devices())(*params.tensor_split)
    if params.tensor_split:
        settings.tensor_split = shares
    modes = {
        (True, False): llama.LLAMA_LOAD_MODE_MMAP,
        (True, True): llama.LLAMA_LOAD_MODE_MMAP_MLOCK,
        (False, True): llama.LLAMA_LOAD_MODE_MLOCK,
        (False, False): llama.LLAMA_LOAD_MODE_NONE,
    }
    settings.load_mode = modes[params.use_mmap, params.use_mlock]
    return _loaded(params.path, settings)


def open_files(path: str) -> None:
    """All of a model but a context to compute in; raises LoadError."""
    start()
    if not Path(path).is_file():
        raise LoadError("not_found", "the model file is gone")
    settings = llama.llama_model_default_params()
    settings.n_gpu_layers = 0
    # Else weights are copied into an order that computes faster.
    settings.use_extra_bufts = False
    settings.load_mode = llama.LLAMA_LOAD_MODE_MMAP
    _loaded(path, settings)


def _loaded(path: str, settings: Any) -> Any:
    model = llama.llama_model_load_from_file(path.encode(), settings)
    if not model:
        complaint = last_complaint()
        kind: LoadKind = "unsupported" if "unknown model architecture" in complaint else "bad_file"
        raise LoadError(kind, complaint)
    return model


def load_adapters(model: Any, params: EngineParams) -> Adapters:
    complaints.clear()
    try:
        return Adapters(model, params.adapters)
    except BadAdapter as error:
        # llama.cpp says what was wrong before what came of it.
        said = [line.split(": ", 1)[-1] for line in complaints]
        raise LoadError("bad_file", f"the adapter {error}: {'; '.join(said)}") from None


def last_complaint() -> str:
    """llama.cpp's own words, without its function names: the most telling of the last lines."""
    lines = [line.split(": ", 1)[-1] for line in complaints if "error" in line]
    return (lines or list(complaints) or ["llama.cpp gave no reason"])[0]
