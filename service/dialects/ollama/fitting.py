"""What is left of a prompt that is too long.

Ollama drops a chat's oldest messages, and of a single prompt that is too long keeps the first
`num_keep` tokens and about half of the rest; it says nothing of either. Here whole messages go
first too, then only as many tokens as it takes to leave room for an answer; or as many as Ollama
cuts, where the client (`truncate: true`) or the operator (`ollama_truncate: ollama`) wants that.
Either way the answer says how much is missing, and `truncate: false` is a refusal instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from service.dialects.ollama.request import Asked
from service.errors import ContextOverflow
from service.generation import Chat, GenerationRequest, Truncation
from service.serving.shortening import room_for

if TYPE_CHECKING:
    from service.serving.runtime import Generation


async def fitted(
    wanted: GenerationRequest,
    asked: Asked,
    as_ollama: bool,
    admit: Callable[[GenerationRequest], Awaitable[Generation]],
) -> Generation:
    """The admitted request, which knows how many of its prompt's tokens had to go."""
    if asked.truncate is False:
        return await admit(wanted)
    try:
        return await admit(replace(wanted, drop_messages=isinstance(wanted.input, Chat)))
    except ContextOverflow as overflow:
        # Not even its last message fits.
        whole = overflow.prompt_tokens
        length, keep = overflow.context_length, asked.options.num_keep
        generation = await admit(shortened(wanted, length, keep, as_ollama or bool(asked.truncate)))
        generation.cut_tokens = whole - generation.prompt_tokens
        return generation


def shortened(
    wanted: GenerationRequest, context_length: int, keep: int, as_ollama: bool
) -> GenerationRequest:
    """`keep` tokens at the beginning are never cut; negative: nothing but the end is."""
    limit = context_length - room_for(wanted.sampling.max_tokens, context_length)
    if as_ollama:
        limit = min(max(keep, 0), context_length // 2)
        limit += (context_length - limit) // 2
    limit = max(1, limit)
    side: Literal["left", "right"] = "left" if keep >= 0 else "right"
    return replace(
        wanted,
        input=essential(wanted.input) if isinstance(wanted.input, Chat) else wanted.input,
        truncation=Truncation(limit, min(max(keep, 0), limit - 1), side),
    )


def essential(chat: Chat) -> Chat:
    """What never goes whole: the system's messages and the last one."""
    *others, last = chat.messages
    system = [message for message in others if message.role == "system"]
    return replace(chat, messages=(*system, last))
