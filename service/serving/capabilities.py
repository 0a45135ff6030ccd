"""What a model can do, in Ollama's words. Pure."""

from __future__ import annotations

from service.catalog.card import ModelCard
from service.facts import ModelFacts
from service.text.reasoning import NONE, reasoning_format
from service.text.tool_calls import tool_format


def capabilities(card: ModelCard, facts: ModelFacts | None) -> frozenset[str]:
    """What only the loaded model knows ("insert") is told once it is."""
    able = set()
    if card.can_generate:
        able.add("completion")
        template = card.chat_template or ""
        if tool_format(template) is not None:
            able.add("tools")
        if reasoning_format(template) is not NONE:
            able.add("thinking")
        if card.can_infill or (facts is not None and facts.infill is not None):
            able.add("insert")
    if card.pooling == "rank":
        able.add("rerank")
    elif card.pooling is not None or not card.can_generate:
        able.add("embedding")
    return frozenset(able)
