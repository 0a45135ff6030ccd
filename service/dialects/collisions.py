"""Paths of the root that several dialects have: what is in the body says which one is meant.

/tokenize      inputs: TGI      prompt, messages: vLLM      content: llama-server
/detokenize    tokens: the same request for all, and an answer that each can read
/invocations   inputs: TGI      anything else: vLLM, in the shapes of the plain /v1
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.dialects.admission import read_fields
from service.dialects.llama_server import tokens as llama_server_tokens
from service.dialects.manner import OPENAI
from service.dialects.respond import json
from service.dialects.state import State
from service.dialects.tgi.generate import compat
from service.dialects.tgi.tokenize import tokenize_inputs
from service.dialects.vllm import routes as vllm
from service.dialects.vllm import tokens as vllm_tokens
from service.errors import InvalidRequest
from service.telemetry.http import exchange_of

TOKENIZERS: Final = {
    "inputs": ("tgi", tokenize_inputs),
    "prompt": ("vllm", vllm_tokens.tokenize_prompt),
    "messages": ("vllm", vllm_tokens.tokenize_prompt),
    "content": ("llama-server", llama_server_tokens.tokenize),
}


async def tokenize(request: Request[State]) -> Response:
    fields = await read_fields(request, "vllm")
    given = [key for key in TOKENIZERS if key in fields]
    if len(given) != 1:
        raise InvalidRequest(
            f"/tokenize takes one of {', '.join(TOKENIZERS)}, not {' and '.join(given) or 'none'}"
        )
    name, endpoint = TOKENIZERS[given[0]]
    exchange_of(request.scope).api = name
    return await endpoint(request, fields)


async def detokenize(request: Request[State]) -> Response:
    text = await vllm_tokens.detokenized(request, await read_fields(request, "vllm"))
    return json({"prompt": text, "content": text, "text": text})


async def invocations(request: Request[State]) -> Response:
    fields = await read_fields(request, "openai")
    if "inputs" not in fields:
        return await vllm.invoked(request, fields, OPENAI)
    exchange_of(request.scope).api = "tgi"
    return await compat(request, fields)


at_root: Final = [
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
    Route("/invocations", invocations, methods=["POST"]),
]
