"""vLLM's /tokenize and /detokenize: what benchmarks align their prompts with."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from service.dialects.admission import identity, read_fields, tokenized
from service.dialects.fields import Fields
from service.dialects.gone import unless_gone
from service.dialects.openai.chat_request import HARMLESS, parse_chat
from service.dialects.respond import json, tell_ignored
from service.dialects.state import State
from service.generation import Chat, Text
from service.telemetry.http import exchange_of

MAX_TOKENS: Final = 1_000_000


async def tokenize(request: Request[State]) -> Response:
    return await tokenize_prompt(request, await read_fields(request, "vllm"))


async def tokenize_prompt(request: Request[State], fields: Fields) -> Response:
    with_pieces = fields.flag("return_token_strs")
    given: Text | Chat
    if "messages" in fields:
        wanted = parse_chat(fields, **identity(request), dialect="vllm")
        assert isinstance(wanted.input, Chat)
        given, model = wanted.input, wanted.model
    else:
        prompt = fields.text("prompt")
        if prompt is None:
            raise fields.bad("prompt", "is missing, and there are no messages")
        given = Text(prompt, fields.flag("add_special_tokens", True))
        model = fields.model()
    tell_ignored(request, fields, HARMLESS)
    found = await tokenized(request, model, given)
    pieces = [piece.decode("utf-8", "replace") for piece in found.pieces]
    return json(
        {
            "count": len(found.tokens),
            "max_model_len": found.facts.n_ctx_seq,
            "tokens": found.tokens,
            "token_strs": pieces if with_pieces else None,
        }
    )


async def tokenizer_info(request: Request[State]) -> Response:
    """What a tokenizer_config.json would say, as far as the model's file does. What only a loaded
    model knows is absent while it is not."""
    runtime = request.state["runtime"]
    status = runtime.status(request.query_params.get("model"))
    card, facts = status.card, status.facts
    said: dict[str, Any] = {
        # The class of another library, which no GGUF file names: this one reads it.
        "tokenizer_class": "llama.cpp",
        "chat_template": card.chat_template,
        "model_max_length": card.context_length,
    }
    if facts is not None:
        said |= {"bos_token": facts.bos, "eos_token": facts.eos, "vocab_size": facts.n_vocab}
    return json({key: value for key, value in said.items() if value is not None})


async def detokenize(request: Request[State]) -> Response:
    text = await detokenized(request, await read_fields(request, "vllm"))
    return json({"prompt": text})


async def detokenized(request: Request[State], fields: Fields) -> str:
    if fields.list("tokens") is None:
        raise fields.bad("tokens", "is missing")
    tokens = fields.integers("tokens", longest=MAX_TOKENS)
    model = fields.model()
    # vLLM's benchmark says it where it has no meaning.
    tell_ignored(request, fields, ("add_special_tokens",))
    runtime = request.state["runtime"]
    exchange_of(request.scope).model = runtime.resolve(model or None).name
    return await unless_gone(request.receive, runtime.detokenize(model, tokens))
