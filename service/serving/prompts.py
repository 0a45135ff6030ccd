"""Prompts for a loaded model, from the template that it came with."""

from __future__ import annotations

import asyncio
from typing import Final

from service.catalog.card import ModelCard
from service.facts import ModelFacts
from service.generation import Chat, EmbeddingRequest, GenerationRequest, Infill, Text, Tokens
from service.serving.preparation import (
    Prepared,
    infilling,
    introduced,
    prepare_chat,
    prepare_raw,
    rendered,
)
from service.text.template import ChatTemplate

# Templates render some MB/s: below this it takes less time than changing threads.
INLINE_CHARACTERS: Final = 64 * 1024


class Prompts:
    def __init__(self) -> None:
        # Being compiled, or compiled: many requests may want one before it is.
        self._templates: dict[tuple[str | None, str, str], asyncio.Task[ChatTemplate]] = {}

    async def text(self, input: Chat | Text | Infill, card: ModelCard, facts: ModelFacts) -> Text:
        if isinstance(input, Chat):
            return rendered(introduced(input, card), await self._template(facts), facts.bos)
        return infilling(input, facts) if isinstance(input, Infill) else input

    async def inputs(
        self, request: EmbeddingRequest, card: ModelCard, facts: ModelFacts
    ) -> tuple[Text | Tokens, ...]:
        """Those of the request, its conversations as text."""
        return tuple(
            [
                await self.text(each, card, facts) if isinstance(each, Chat) else each
                for each in request.inputs
            ]
        )

    async def prepare(
        self, request: GenerationRequest, card: ModelCard, facts: ModelFacts
    ) -> Prepared:
        chat = request.input
        if isinstance(chat, Infill):
            return prepare_raw(request, infilling(chat, facts))
        if not isinstance(chat, Chat):
            return prepare_raw(request, chat)
        chat = introduced(chat, card)
        template = await self._template(facts)
        if sum(len(message.content or "") for message in chat.messages) > INLINE_CHARACTERS:
            return await asyncio.to_thread(prepare_chat, request, chat, template, facts.bos)
        return prepare_chat(request, chat, template, facts.bos)

    async def _template(self, facts: ModelFacts) -> ChatTemplate:
        key = (facts.chat_template, facts.bos, facts.eos)
        if key not in self._templates:
            compiling = asyncio.to_thread(ChatTemplate, *key)
            self._templates[key] = asyncio.create_task(compiling)
        # One request's leaving must not cost the others their template.
        return await asyncio.shield(self._templates[key])
