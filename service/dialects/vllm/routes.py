"""vLLM's dialect: OpenAI's endpoints in vLLM's own shapes, and what it has beside them.

The parameters of its requests are honoured on the plain /v1 as well. Under /vllm the answers are
stricter: thoughts under one name, errors with a number for their code, ids as vLLM makes them.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.dialects.adapters import listed
from service.dialects.admission import admitted, read_fields
from service.dialects.answers import collect, total_usage
from service.dialects.anthropic import routes as anthropic
from service.dialects.dialect import Dialect
from service.dialects.failures import Failure
from service.dialects.fields import Fields
from service.dialects.framing import encode_json, sse
from service.dialects.manner import Manner, identified
from service.dialects.model_defaults import defaults_for
from service.dialects.openai.chat_encode import ChatChunks, encode_chat, shown
from service.dialects.openai.chat_request import HARMLESS, parse_chat, parse_options
from service.dialects.openai.completions_encode import CompletionChunks
from service.dialects.openai.embeddings import embed
from service.dialects.openai.routes import chat, complete, envelope_of
from service.dialects.openai.shapes import encode_usage
from service.dialects.respond import gathered, json, tell_ignored
from service.dialects.responses import routes as responses
from service.dialects.several import Several
from service.dialects.state import State
from service.dialects.vllm import cohere as vllm_cohere
from service.dialects.vllm import control as vllm_control
from service.dialects.vllm import rank as vllm_rank
from service.dialects.vllm import tokens as vllm_tokens
from service.dialects.vllm.shapes import as_vllms, encode_model, tool_id, worded
from service.errors import InvalidRequest
from service.events import Finished, ToolCallDelta
from service.telemetry.http import exchange_of

MAX_CONVERSATIONS: Final = 128


class VllmChatChunks(ChatChunks):
    def fail(self, failure: Failure) -> bytes:
        self._ends.clear()
        return sse(encode_json(worded(failure)[1]))

    def _call(self, event: ToolCallDelta) -> dict[str, Any]:
        return super()._call(event if event.id is None else replace(event, id=tool_id(event.id)))

    def _ending(self, end: Finished) -> dict[str, Any]:
        return {"stop_reason": None} | super()._ending(end)


class VllmCompletionChunks(CompletionChunks):
    def fail(self, failure: Failure) -> bytes:
        self._ends.clear()
        return sse(encode_json(worded(failure)[1]))

    def _ending(self, end: Finished) -> dict[str, Any]:
        return {"stop_reason": None} | super()._ending(end)


VLLM: Final = Manner("vllm", VllmChatChunks, VllmCompletionChunks, "reasoning", as_vllms)


async def read(request: Request[State]) -> Fields:
    """vLLM takes a body for JSON only where the client says that it is."""
    exchange_of(request.scope).api = "vllm"
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise InvalidRequest("Unsupported Media Type: Only 'application/json' is allowed")
    fields = await read_fields(request, "vllm")
    if "x-vllm-priority" in request.headers:
        fields.values["priority"] = priority_of(request.headers["x-vllm-priority"])
    return fields


def priority_of(value: str) -> int:
    """The header's, which comes before the body's."""
    try:
        return int(value)
    except ValueError:
        raise InvalidRequest("X-Vllm-Priority must be an integer") from None


async def chat_completions(request: Request[State]) -> Response:
    return await chat(request, await read(request), VLLM)


async def completions(request: Request[State]) -> Response:
    return await complete(request, await read(request), VLLM)


async def embeddings(request: Request[State]) -> Response:
    return await embed(request, await read(request), "vllm")


async def respond(request: Request[State]) -> Response:
    return await responses.respond(request, await read(request), "vllm")


async def batch(request: Request[State]) -> Response:
    """Several conversations in one request: a choice for each, in their order."""
    fields = await read_fields(request, "vllm")
    conversations = fields.list("messages", longest=MAX_CONVERSATIONS)
    if not conversations:
        raise fields.bad("messages", "must have at least one conversation")
    for key in ("stream", "tools", "functions"):
        if fields.get(key):
            raise fields.bad(key, "is not for batches")
    if (fields.integer("n") or 1) != 1:
        raise fields.bad("n", "must be 1: there is one choice for each conversation")
    options = parse_options(fields, "reasoning")
    given, defaults = identified(request, fields), defaults_for(request, fields)
    wanted = []
    for number, messages in enumerate(conversations):
        if not isinstance(messages, list):
            raise fields.bad(f"messages.{number}", "must be an array of messages")
        one = fields.altered({**fields.values, "messages": messages})
        id = f"{given['id']}-{number}" if number else given["id"]
        wanted.append(parse_chat(one, **{**given, "id": id}, dialect="vllm", defaults=defaults))
    tell_ignored(request, fields, HARMLESS)
    window = request.state["settings"].parallel_slots
    several = Several(wanted, lambda each: admitted(request, each), window)
    first = await several.start()
    events = await gathered(request, several)
    answers = collect(shown(events, options))
    body = encode_chat(envelope_of("chatcmpl", wanted[0], first), answers, options)
    ends = [answer.finished for answer in answers if answer.finished is not None]
    body["usage"] = encode_usage(total_usage(ends))
    return json(as_vllms(body, answers), events)


async def invocations(request: Request[State]) -> Response:
    """SageMaker's one path for everything: what is meant is seen by what is in it."""
    return await invoked(request, await read(request), VLLM)


async def invoked(request: Request[State], fields: Fields, manner: Manner) -> Response:
    if "messages" in fields:
        return await chat(request, fields, manner)
    if "prompt" in fields:
        return await complete(request, fields, manner)
    if "input" in fields:
        return await embed(request, fields, manner.name)
    exchange_of(request.scope).api = "vllm"
    if "query" in fields:
        return await vllm_rank.reranked(request, fields)
    if any(all(name in fields for name in sides) for sides in vllm_rank.SIDES):
        return await vllm_rank.scored(request, fields)
    raise fields.bad("messages", "is missing, and there is neither a prompt nor an input")


async def list_models(request: Request[State]) -> Response:
    models = [
        entry
        for status in request.state["runtime"].models()
        if status.card.problem is None
        for entry in listed(status, encode_model(status))
    ]
    return json({"object": "list", "data": models})


_RANKING: Final = [
    Route(path, vllm_rank.rerank, methods=["POST"])
    for path in ("/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking")
] + [Route(path, vllm_rank.score, methods=["POST"]) for path in ("/score", "/v1/score")]

_FURTHER: Final = [
    Route("/v2/embed", vllm_cohere.embed, methods=["POST"]),
    Route("/tokenizer_info", vllm_tokens.tokenizer_info),
]

_BATCH: Final = Route("/v1/chat/completions/batch", batch, methods=["POST"])

DIALECT: Final = Dialect(
    "vllm",
    [
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        _BATCH,
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/v1/responses", respond, methods=["POST"]),
        *responses.of_stored,
        *anthropic.at_root,
        Route("/v1/models", list_models),
        Route("/tokenize", vllm_tokens.tokenize, methods=["POST"]),
        Route("/detokenize", vllm_tokens.detokenize, methods=["POST"]),
        Route("/invocations", invocations, methods=["POST"]),
        *_RANKING,
        *_FURTHER,
        *vllm_control.OWN,
    ],
    worded,
)

at_root: Final = [_BATCH, *_RANKING, *_FURTHER, *vllm_control.SHARED]
ROOT_PATHS: Final = (
    "/score",
    "/rerank",
    "/reranking",
    "/tokenize",
    "/detokenize",
    "/tokenizer_info",
    "/v2/",
    "/pooling",
    "/classify",
    "/load",
    "/sleep",
    "/wake_up",
    "/is_sleeping",
    "/abort_requests",
    "/reset_prefix_cache",
    "/pause",
    "/resume",
    "/server_info",
)
