"""Ollama's `options`: how to sample, and how the model is to be loaded. Pure.

Each has a type, and another one is refused in Ollama's words. An integer may be written as any
number, as Go reads it. A name that nobody knows is reported, not refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from service.dialects.fields import Fields
from service.errors import InvalidRequest
from service.facts import ModelFacts
from service.generation import LoadWishes, SamplingParams

MAX_STOPS: Final = 64
MAX_STOP_LENGTH: Final = 256
FLOAT32: Final = 3.4028234663852886e38
INT32: Final = 2**31 - 1
# As of the setting.
MAX_BATCH: Final = 65536

# What Ollama samples with where nothing is said.
DEFAULTS: Final[Mapping[str, Any]] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "repeat_last_n": 64,
}
DEFAULT_KEEP: Final = 4

SAMPLING_INTEGERS: Final = frozenset({"seed", "num_predict", "top_k", "repeat_last_n", "mirostat"})
# name → least and most that a sampler can make sense of; outside of it: refused, or see CLAMPED.
SAMPLING_FLOATS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0.0, 1000.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "repeat_penalty": (0.01, 100.0),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
    "mirostat_tau": (0.0, 100.0),
    "mirostat_eta": (0.0, 100.0),
}
# Beyond these bounds llama.cpp does what it does at them.
CLAMPED: Final = frozenset({"top_p", "min_p", "typical_p"})

# How to load: name → type. The last two are the names of an older service's clients.
LOADING: Final[Mapping[str, str]] = {
    "num_ctx": "integer",
    "num_batch": "integer",
    "num_gpu": "integer",
    "main_gpu": "integer",
    "num_thread": "integer",
    "use_mmap": "boolean",
    "use_mlock": "boolean",
    "num_gpu_layers": "integer",
    "tensor_split": "",
}
# Without effect, here as in today's Ollama: name → type, and what changes nothing.
OBSOLETE: Final[Mapping[str, tuple[str, Any]]] = {
    "draft_num_predict": ("integer", 0),
    "tfs_z": ("float32", 1.0),
    "penalize_newline": ("boolean", True),
    "numa": ("boolean", False),
    "low_vram": ("boolean", False),
    "f16_kv": ("boolean", True),
    "vocab_only": ("boolean", False),
    "embedding_only": ("boolean", False),
    "logits_all": ("boolean", False),
    "num_gqa": ("integer", 1),
    "rope_frequency_base": ("float32", 0.0),
    "rope_frequency_scale": ("float32", 0.0),
}


@dataclass(frozen=True)
class Options:
    """`num_keep`: the prompt's first tokens, never cut; negative: cut nothing but its end.

    `loading` is what the model should have been loaded with; `ignored` was read, and has no effect.
    """

    sampling: SamplingParams = SamplingParams(**DEFAULTS)
    num_keep: int = DEFAULT_KEEP
    loading: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def parse_options(fields: Fields, **given: Any) -> Options:
    """`given` are sampling parameters that stand outside of `options`, and the model's own defaults."""
    options = fields.object("options")
    if options is None:
        return Options(SamplingParams(**{**DEFAULTS, **given}))
    sampling = {**DEFAULTS, **given} | integers(options) | floats(options)
    if stop := stops(options):
        sampling["stop"] = stop
    keep = typed(options, "num_keep", "integer")
    loading = {key: typed(options, key, type) for key, type in LOADING.items() if key in options}
    idle = [
        options.name(key)
        for key, (type, neutral) in OBSOLETE.items()
        if typed(options, key, type) not in (None, neutral)
    ]
    return Options(
        SamplingParams(**sampling),
        DEFAULT_KEEP if keep is None else min(max(keep, -1), INT32),
        loading,
        tuple(idle),
    )


def typed(options: Fields, key: str, type: str) -> Any:
    """The value as Go would hold it, None where it is absent."""
    value = options.get(key)
    if value is None or not type:
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if type == "boolean" and isinstance(value, bool):
        return value
    if type == "integer" and is_number and abs(value) <= 2**63:
        return int(value)
    if type == "float32" and is_number and abs(value) <= FLOAT32:
        return float(value)
    raise bad(options, key, f"must be of type {type}")


def bad(options: Fields, key: str, message: str) -> InvalidRequest:
    return InvalidRequest(f'option "{key}" {message}', param=options.name(key))


def integers(options: Fields) -> dict[str, Any]:
    found = {key: typed(options, key, "integer") for key in SAMPLING_INTEGERS if key in options}
    sampling: dict[str, Any] = {}
    if (seed := found.get("seed")) is not None:
        sampling["seed"] = None if seed < 0 else min(seed, 2**63 - 1)
    if (limit := found.get("num_predict")) is not None:
        # -1 means no limit, -2 the rest of the context, which is where every answer ends; Go's
        # encoder leaves 0 out.
        sampling["max_tokens"] = min(limit, INT32) if limit > 0 else None
    if (top_k := found.get("top_k")) is not None:
        sampling["top_k"] = min(max(top_k, 0), INT32)
    if (window := found.get("repeat_last_n")) is not None:
        sampling["repeat_last_n"] = min(max(window, -1), INT32)
    if (mirostat := found.get("mirostat")) is not None:
        if mirostat not in (0, 1, 2):
            raise bad(options, "mirostat", "must be 0, 1 or 2")
        sampling["mirostat"] = mirostat
    return sampling


def floats(options: Fields) -> dict[str, float]:
    sampling = {}
    for key, (low, high) in SAMPLING_FLOATS.items():
        value = typed(options, key, "float32")
        if value is None:
            continue
        # llama.cpp takes every temperature below 0 for 0.
        if key in CLAMPED or (key == "temperature" and value < 0):
            value = min(max(value, low), high)
        if not low <= value <= high:
            raise bad(options, key, f"must be between {low:g} and {high:g}")
        sampling[key] = value
    return sampling


def stops(options: Fields) -> tuple[str, ...]:
    value = options.get("stop")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise bad(options, "stop", "must be of type array")
    if not all(isinstance(element, str) for element in value):
        raise bad(options, "stop", "must be of an array of strings")
    if len(value) > MAX_STOPS or any(len(element) > MAX_STOP_LENGTH for element in value):
        limits = f"at most {MAX_STOPS} strings of at most {MAX_STOP_LENGTH} characters"
        raise bad(options, "stop", f"must be {limits}")
    return tuple(stop for stop in value if stop)


def wishes_of(loading: Mapping[str, Any]) -> LoadWishes:
    """What the server is asked for; a number that leaves the choice to it asks for nothing."""
    layers = loading.get("num_gpu", loading.get("num_gpu_layers"))
    # More threads than processors only take them from each other.
    threads = positive(loading.get("num_thread"), most=os.cpu_count() or 1)
    return LoadWishes(
        n_ctx=positive(loading.get("num_ctx"), most=INT32),
        n_batch=positive(loading.get("num_batch"), most=MAX_BATCH),
        threads=threads,
        gpu_layers=layers if layers is not None and 0 <= layers <= INT32 else None,
        main_gpu=loading.get("main_gpu") or None,
        tensor_split=shares(loading.get("tensor_split")) or None,
        use_mmap=loading.get("use_mmap"),
        use_mlock=loading.get("use_mlock"),
    )


def positive(value: int | None, *, most: int) -> int | None:
    return value if value is not None and 0 < value <= most else None


def unmet(loading: Mapping[str, Any], facts: ModelFacts) -> list[str]:
    """The names of those that the model is not loaded with: a larger context than was asked for
    does, and so does any number of threads or layers that was left to the server."""
    met: Mapping[str, Callable[[Any], bool]] = {
        "num_ctx": lambda value: value <= facts.n_ctx_seq,
        "num_batch": lambda value: value == facts.n_batch,
        "num_gpu": lambda value: value < 0 or has_layers(value, facts),
        "num_gpu_layers": lambda value: value < 0 or has_layers(value, facts),
        "main_gpu": lambda value: value == facts.main_gpu,
        "num_thread": lambda value: value <= 0 or value == facts.threads,
        "use_mmap": lambda value: value is facts.mmap,
        "use_mlock": lambda value: value is facts.mlock,
        "tensor_split": lambda value: shares(value) == facts.tensor_split,
    }
    return [
        f"options.{key}"
        for key, value in loading.items()
        if value is not None and not met[key](value)
    ]


def has_layers(wanted: int, facts: ModelFacts) -> bool:
    """Any number that is more than there are means all; the output layer counts as one."""
    return min(wanted, facts.n_layer + 1) == facts.gpu_layers


def shares(value: Any) -> tuple[float, ...] | None:
    """A tensor split, as a list or as text with commas; None for anything else."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        split = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        return None
    sound = all(0 <= share < FLOAT32 for share in split) and (not split or sum(split) > 0)
    return split if sound else None
