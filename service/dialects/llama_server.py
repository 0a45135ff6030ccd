"""The native API of llama-server: completions, infilling, templates, vectors, tokens.

What clients made for llama.cpp ask for by these paths. Its /v1 is the superset's, as everywhere;
models and slots are in `llama_server_models`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.dialects import openai
from service.dialects.answers import collect
from service.dialects.dialect import Dialect
from service.dialects.fields import Fields
from service.dialects.llama_server_encode import CompletionChunks, Envelope, encode_completion
from service.dialects.llama_server_models import model_routes
from service.dialects.llama_server_request import (
    HARMLESS,
    Options,
    Prompt,
    parse_completion,
    parse_element,
    parse_infill,
    parse_prompts,
    skip_idle,
)
from service.dialects.llama_server_shapes import encode_piece, worded
from service.dialects.openai_chat_request import HARMLESS as CHAT_HARMLESS
from service.dialects.openai_chat_request import parse_chat
from service.dialects.openai_completions_request import parse_prompts as parse_inputs
from service.dialects.openai_embeddings import MAX_INPUTS, floats, parse_truncation
from service.dialects.respond import (
    Answers,
    State,
    Stream,
    admitted,
    embedded,
    gathered,
    identity,
    json,
    read_fields,
    tell_cut,
    tell_ignored,
    tokenized,
    unless_gone,
)
from service.dialects.several import Several
from service.generation import Chat, EmbeddingRequest, GenerationRequest, Infill, Text, Tokens
from service.telemetry.http import exchange_of

if TYPE_CHECKING:
    from service.runtime import Generation

NAME: Final = "llama-server"


async def completion(request: Request[State]) -> Response:
    fields = await read_fields(request, NAME)
    prompts = parse_prompts(fields)
    wanted, options = parse_completion(fields, prompts, **identity(request))
    skip_idle(fields)
    tell_ignored(request, fields, HARMLESS)
    wanted = await biased(request, wanted, options)
    inputs = [await joined(request, wanted.model, prompt) for prompt in prompts]
    return await answered(request, wanted, inputs, options)


async def infill(request: Request[State]) -> Response:
    fields = await read_fields(request, NAME)
    prefix, suffix, extra, begun = parse_infill(fields)
    wanted, options = parse_completion(fields, (), **identity(request))
    skip_idle(fields)
    tell_ignored(request, fields, HARMLESS)
    wanted = await biased(request, wanted, options)
    # The order of the three parts is the model's; what it makes of them can be looked at.
    found = await tokenized(request, wanted.model, Infill(prefix, suffix))
    return await answered(request, wanted, [Text(extra + found.prompt + begun)], options)


async def answered(
    request: Request[State],
    wanted: GenerationRequest,
    inputs: list[Text | Tokens],
    options: Options,
) -> Response:
    requests = [
        replace(wanted, id=f"{wanted.id}-{number}" if number else wanted.id, input=input)
        for number, input in enumerate(inputs)
    ]
    answers: Answers
    if len(requests) == 1:
        answers = first = await admitted(request, requests[0])
    else:
        window = request.state["settings"].parallel_slots
        answers = several = Several(requests, lambda each: admitted(request, each), window)
        first = await several.start()
    envelopes = [
        envelope_of(each, first, await shown(request, each), index)
        for index, each in enumerate(requests)
    ]
    if wanted.stream:
        return Stream(answers, CompletionChunks(envelopes[0], options), request)
    events = await gathered(request, answers)
    bodies = [
        encode_completion(envelopes[answer.index], answer, options) for answer in collect(events)
    ]
    return json(bodies if options.several else bodies[0], events)


def envelope_of(
    wanted: GenerationRequest, generation: Generation, prompt: str, index: int
) -> Envelope:
    return Envelope(
        model=wanted.model or generation.model,
        prompt=prompt,
        prompt_tokens=generation.prompt_tokens,
        sampling=wanted.sampling,
        index=index,
        stream=wanted.stream,
    )


async def shown(request: Request[State], wanted: GenerationRequest) -> str:
    """The prompt as text."""
    match wanted.input:
        case Text(prompt=prompt):
            return prompt
        case Tokens(ids=ids):
            return await request.state["runtime"].detokenize(wanted.model, ids)
    raise AssertionError(wanted.input)


async def joined(request: Request[State], model: str, prompt: Prompt) -> Text | Tokens:
    """The parts of a prompt in a row: only the first of them begins a text."""
    if len(prompt) == 1 and isinstance(prompt[0], str):
        return Text(prompt[0])
    ids: list[int] = []
    for number, part in enumerate(prompt):
        if isinstance(part, str):
            found = await tokenized(request, model, Text(part, add_special_tokens=number == 0))
            ids += found.tokens
        else:
            ids += part
    return Tokens(tuple(ids))


async def biased(
    request: Request[State], wanted: GenerationRequest, options: Options
) -> GenerationRequest:
    """With the biases of words, which are those of each of their tokens."""
    if not options.word_biases:
        return wanted
    biases: dict[int, float] = {}
    for word, bias in options.word_biases:
        found = await tokenized(request, wanted.model, Text(word, add_special_tokens=False))
        biases |= dict.fromkeys(found.tokens, bias)
    sampling = replace(wanted.sampling, logit_bias=biases | wanted.sampling.logit_bias)
    return replace(wanted, sampling=sampling)


async def apply_template(request: Request[State]) -> Response:
    fields = await read_fields(request, NAME)
    wanted = parse_chat(fields, **identity(request))
    tell_ignored(request, fields, CHAT_HARMLESS)
    assert isinstance(wanted.input, Chat)
    runtime = request.state["runtime"]
    exchange_of(request.scope).model = runtime.resolve(wanted.model or None).name
    rendered = runtime.render(wanted.model, wanted.input)
    return json({"prompt": await unless_gone(request.receive, rendered)})


async def embeddings(request: Request[State]) -> Response:
    """Each input's vector in a list of its own, where a model without pooling has one a token."""
    fields = await read_fields(request, NAME)
    key = "content" if "content" in fields else "input"
    special = fields.flag("add_special_tokens", True)
    inputs = parse_inputs(fields, key, MAX_INPUTS)
    normalize = fields.integer("embd_normalize")
    if normalize not in (None, -1, 2):
        raise fields.bad("embd_normalize", "must be 2 (to length 1) or -1 (as they are)")
    wanted = EmbeddingRequest(
        model=fields.text("model", longest=512) or "",
        inputs=tuple(Text(each, special) if isinstance(each, str) else each for each in inputs),
        dialect=NAME,
        normalize=normalize != -1,
        truncation=parse_truncation(fields),
        **identity(request),
    )
    tell_ignored(request, fields, ())
    made = await embedded(request, wanted)
    body = [
        {"index": index, "embedding": [floats(vector)]} for index, vector in enumerate(made.vectors)
    ]
    return tell_cut(json(body), made.cut_tokens)


async def tokenize(request: Request[State], fields: Fields) -> Response:
    """The endpoint at the root has other claimants: it comes here by `content`."""
    exchange_of(request.scope).api = NAME
    if "content" not in fields:
        raise fields.bad("content", "is missing")
    prompt = parse_element(fields, "content", fields.get("content"))
    special, with_pieces = fields.flag("add_special"), fields.flag("with_pieces")
    model = fields.text("model", longest=512) or ""
    if fields.claim("parse_special") is True:
        # Control tokens in a text are always read as such.
        fields.skip(("parse_special",))
    ignored = ["parse_special"] if fields.flag("parse_special", True) is False else []
    tell_ignored(request, fields, ())
    exchange_of(request.scope).ignored += ignored
    tokens: list[Any] = []
    for number, part in enumerate(prompt):
        if isinstance(part, str):
            text = Text(part, add_special_tokens=special and number == 0)
            found = await tokenized(request, model, text)
            pairs = zip(found.tokens, found.pieces, strict=True)
            tokens += [encode_piece(*pair) for pair in pairs] if with_pieces else found.tokens
        elif with_pieces:
            texts = [await request.state["runtime"].detokenize(model, (id,)) for id in part]
            tokens += [encode_piece(*p) for p in zip(part, map(str.encode, texts), strict=True)]
        else:
            tokens += part
    return json({"tokens": tokens})


async def tokenize_content(request: Request[State]) -> Response:
    return await tokenize(request, await read_fields(request, NAME))


async def detokenize(request: Request[State]) -> Response:
    fields = await read_fields(request, NAME)
    tokens = fields.integers("tokens", longest=1_000_000)
    model = fields.text("model", longest=512) or ""
    tell_ignored(request, fields, ())
    runtime = request.state["runtime"]
    exchange_of(request.scope).model = runtime.resolve(model or None).name
    text = await unless_gone(request.receive, runtime.detokenize(model, tokens))
    return json({"content": text})


at_root: Final = [
    Route("/completion", completion, methods=["POST"]),
    Route("/infill", infill, methods=["POST"]),
    Route("/apply-template", apply_template, methods=["POST"]),
    Route("/embedding", embeddings, methods=["POST"]),
    Route("/embeddings", embeddings, methods=["POST"]),
    *model_routes,
]

# Who words what fails there. /api/models/unload is worded by who else is below /api.
ROOT_PATHS: Final = (
    "/completion",
    "/infill",
    "/apply-template",
    "/embedding",
    "/props",
    "/slots",
    "/lora-adapters",
    "/models",
    "/running",
)

DIALECT: Final = Dialect(
    NAME,
    [
        *at_root,
        Route("/completions", completion, methods=["POST"]),
        Route("/tokenize", tokenize_content, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        *openai.DIALECT.routes,
    ],
    worded,
)
