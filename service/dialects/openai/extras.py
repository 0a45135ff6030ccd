"""What clients of Ollama and llama-server add to OpenAI's requests, read under their names. Pure.

OpenAI's own names come first where both are there. What a model should be loaded with is compared
with how it is loaded, and reported where it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from service.dialects.fields import Fields
from service.dialects.ollama.durations import parse_keep_alive
from service.dialects.ollama.options import (
    INT32,
    LOADING,
    floats,
    integers,
    shares,
    stops,
    typed,
    unmet,
    wishes_of,
)
from service.dialects.ollama.request import parse_think
from service.dialects.sampling import BUDGETS
from service.facts import ModelFacts
from service.generation import Chat, LoadWishes

# How to load, beside `options`: what older clients say → what Ollama says.
NAMES: Final[Mapping[str, str]] = {
    "threads": "num_thread",
    "n_threads": "num_thread",
    "gpu_layers": "num_gpu",
    "n_gpu_layers": "num_gpu",
    "tensor_split": "tensor_split",
}


@dataclass(frozen=True)
class Extras:
    """`sampling` has only what was said. `loading` is what the model should be loaded with, under
    Ollama's names, and `said` the client's name of those that stand outside of `options`."""

    sampling: Mapping[str, Any] = field(default_factory=dict)
    loading: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    num_ctx: int | None = None
    keep_alive: float | None = None
    thinking: bool | None = None
    effort: str | None = None

    @property
    def load(self) -> LoadWishes:
        return wishes_of({**self.loading, **({"num_ctx": self.num_ctx} if self.num_ctx else {})})


def parse_extras(fields: Fields) -> Extras:
    thinking, effort = think_of(fields)
    sampling: dict[str, Any] = {}
    loading: dict[str, Any] = {}
    if (options := fields.object("options")) is not None:
        sampling = integers(options) | floats(options)
        if stop := stops(options):
            sampling["stop"] = stop
        loading = {
            key: typed(options, key, type) for key, type in LOADING.items() if key in options
        }
    beside, said = parse_loading(fields)
    limit = fields.integer("n_predict", low=-2, high=2**31 - 1)
    if limit is not None and limit > 0:
        sampling["max_tokens"] = limit
    return Extras(
        {key: value for key, value in sampling.items() if value is not None},
        loading | beside,
        said,
        fields.integer("num_ctx", low=1, high=2**31 - 1),
        parse_keep_alive(fields),
        thinking,
        effort,
    )


def parse_loading(fields: Fields) -> tuple[dict[str, Any], dict[str, str]]:
    """What stands beside `options` of how to load, under Ollama's names; and by the name that it
    would have there, the client's."""
    loading: dict[str, Any] = {}
    said: dict[str, str] = {}
    for key, name in NAMES.items():
        if key not in fields:
            continue
        if name == "tensor_split":
            value: Any = shares(fields.get(key))
            if value is None:
                raise fields.bad(key, "must be numbers that are not negative, or text of such")
        else:
            value = fields.integer(key, low=-INT32, high=INT32)
        loading[name], said[f"options.{name}"] = value, key
    return loading, said


def think_of(fields: Fields) -> tuple[bool | None, str | None]:
    """Ollama's `think`: whether, and how hard."""
    think = parse_think(fields)
    return (True, think) if isinstance(think, str) else (think, None)


def beyond(input: object, able: frozenset[str]) -> list[str]:
    """The names under which a chat asks for what the model has no words for. To demand a call of
    it is refused; to offer tools, or to ask for thoughts, changes nothing."""
    names: list[str] = []
    if not isinstance(input, Chat):
        return names
    if input.tools and input.tool_choice.mode != "none" and "tools" not in able:
        names += ("tools", "functions")
    if input.enable_thinking and "thinking" not in able:
        names += ("thinking", "think", "reasoning", "reasoning_effort")
    if input.continue_final_message or "thinking" not in able:
        names += BUDGETS
    return names


def without_effect(extras: Extras, facts: ModelFacts) -> list[str]:
    """A context of at least the size that was asked for has its effect."""
    small = extras.num_ctx is not None and extras.num_ctx > facts.n_ctx_seq
    own = ["num_ctx"] if small else []
    unused = (extras.said.get(name, name) for name in unmet(extras.loading, facts))
    return [*own, *unused]
