"""Ollama's `think`: whether the model is told to, and where its thoughts are shown. Pure.

    think          a thinking model                              another model
    true, a level  told to think; thoughts in `thinking`         refused
    false          told not to; if it does, tags in the text     -
    not said       told to think; see `preserve`                 -

Today's Ollama splits thoughts off where `think` was not said; older clients, who know nothing of
`thinking`, read `<think>` tags in the text. `preserve_think_tags` chooses between the two where the
text has no format to keep to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from service.catalog.card import ModelCard
from service.dialects.ollama.request import Think
from service.errors import InvalidRequest

# Its template knows no harder thinking than "high".
GPT_OSS: Final = frozenset({"gpt-oss", "gptoss"})


@dataclass(frozen=True)
class Thinking:
    """enable, effort: for the template. inline: thoughts in the text, between tags."""

    enable: bool | None = None
    effort: str | None = None
    inline: bool = False


def decide(think: Think, model: str, card: ModelCard, able: bool, preserve: bool) -> Thinking:
    """`able`: the model can think. `model`: what the client calls it."""
    if not able:
        if think:
            raise InvalidRequest(f'"{model}" does not support thinking', param="think")
        return Thinking(inline=True)
    if think is False:
        return Thinking(enable=False, inline=True)
    if think is None:
        return Thinking(enable=True, inline=preserve)
    effort = think if isinstance(think, str) else None
    if effort == "max" and card.architecture in GPT_OSS:
        effort = "high"
    return Thinking(enable=True, effort=effort)
