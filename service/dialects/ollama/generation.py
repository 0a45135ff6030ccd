"""POST /api/chat and /api/generate: from the request to its answer.

An empty prompt loads the model, and with keep_alive 0 unloads it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from service.catalog.card import ModelCard
from service.dialects.admission import admitted, identity, read_fields
from service.dialects.begun import begun
from service.dialects.deeds import Deed
from service.dialects.fields import Fields
from service.dialects.gone import unless_gone
from service.dialects.model_defaults import defaults_for
from service.dialects.ollama.context import Interpreted
from service.dialects.ollama.encode import CHAT, GENERATE, Lines, Part, Shape, Voice, encode_whole
from service.dialects.ollama.fitting import fitted
from service.dialects.ollama.messages import parse_messages, parse_tools
from service.dialects.ollama.names import known
from service.dialects.ollama.options import unmet, wishes_of
from service.dialects.ollama.prompt import Prompt, parse_prompt
from service.dialects.ollama.request import Asked, parse_asked
from service.dialects.ollama.shapes import API, Journey, json, now
from service.dialects.ollama.thinking import Thinking, decide
from service.dialects.prompt_progress import Watched
from service.dialects.respond import (
    Answers,
    Stream,
    gathered,
    server_timing,
    tell_cut,
    tell_ignored,
)
from service.dialects.state import State
from service.errors import InvalidRequest
from service.events import Finished
from service.generation import Chat, GenerationRequest, Infill, Message, Text, Tokens, ToolChoice
from service.telemetry.http import exchange_of
from service.text.reasoning import NONE, ReasoningFormat, reasoning_format


@dataclass(frozen=True)
class Task:
    """What is to be generated, and how it is to be shown.

    `form`, `inside`: of thoughts that the dialect has to find itself. `remember`: the answer's
    tokens are wanted, to go on from.
    """

    input: Chat | Text | Infill | Tokens
    shape: Shape
    inline: bool
    form: ReasoningFormat = NONE
    inside: bool = False
    remember: bool = False


async def chat(request: Request[State]) -> Response:
    fields = await read_fields(request, API)
    asked = parse_asked(fields, defaults_for(request, fields))
    messages, tools = parse_messages(fields), parse_tools(fields)
    tell(request, fields, asked)
    card = known(request, asked.model)
    runtime = request.state["runtime"]
    if not messages and asked.keep_alive == 0:
        return await unloaded(request, asked, CHAT)
    able = runtime.capabilities(card)
    if "completion" not in able:
        raise lacking(asked, "chat")
    if tools and "tools" not in able:
        raise lacking(asked, "tools")
    thinking = thinking_of(request, asked, card, able)
    if not messages:
        return await loaded(request, asked, CHAT)
    conversation = Chat(
        messages,
        tools,
        ToolChoice("auto" if tools else "none"),
        enable_thinking=thinking.enable,
        reasoning_effort=thinking.effort,
        continue_final_message=begun_by(messages[-1]),
    )
    if asked.render_only:
        prompt = await unless_gone(request.receive, runtime.render(asked.model, conversation))
        return rendered(asked, CHAT, prompt)
    return await answer(request, asked, Task(conversation, CHAT, thinking.inline))


def begun_by(last: Message) -> bool:
    """Ollama's templates leave an assistant's message at the end open, for the model to go on."""
    return last.role == "assistant" and not last.tool_calls


async def generate(request: Request[State]) -> Response:
    fields = await read_fields(request, API)
    asked, prompt = parse_asked(fields, defaults_for(request, fields)), parse_prompt(fields)
    tell(request, fields, asked)
    card = known(request, asked.model, required=False)
    runtime = request.state["runtime"]
    if not prompt.text and asked.keep_alive == 0:
        return await unloaded(request, asked, GENERATE)
    able = runtime.capabilities(card)
    if "completion" not in able:
        raise lacking(asked, "generate")
    if prompt.fills and "insert" not in able:
        # Only a loaded model says whether it can.
        await unless_gone(request.receive, runtime.load(asked.model))
        if "insert" not in runtime.capabilities(card):
            raise lacking(asked, "insert")
    thinking = thinking_of(request, asked, card, able)
    if not prompt.text:
        return await loaded(request, asked, GENERATE)
    task = await task_of(
        request, asked, prompt.input(thinking, card.system or ""), prompt, thinking
    )
    if isinstance(task, str):
        return rendered(asked, GENERATE, task)
    return await answer(request, asked, task)


async def task_of(
    request: Request[State],
    asked: Asked,
    input: Chat | Text | Infill,
    prompt: Prompt,
    thinking: Thinking,
) -> Task | str:
    """What to generate from; or its text alone, where that is all that is wanted."""
    runtime = request.state["runtime"]
    if not isinstance(input, Chat):
        unused = {"think": asked.think is not None, **prompt.unused}
        exchange_of(request.scope).ignored += [name for name, given in unused.items() if given]
    going_on = bool(prompt.context) and not prompt.fills
    if not going_on and not asked.render_only:
        return Task(input, GENERATE, thinking.inline, remember=not prompt.raw)
    told = await unless_gone(request.receive, runtime.tokenize(asked.model, input))
    if asked.render_only:
        earlier = ""
        if going_on:
            waiting = runtime.detokenize(asked.model, prompt.context)
            earlier = await unless_gone(request.receive, waiting)
        return earlier + told.prompt
    bos = told.facts.bos.encode()
    # What went before has begun with it already.
    begun_again = bool(bos) and told.pieces[:1] == [bos]
    form = reasoning_format(told.facts.chat_template or "") if isinstance(input, Chat) else NONE
    return Task(
        Tokens((*prompt.context, *told.tokens[begun_again:])),
        GENERATE,
        thinking.inline,
        form,
        form.opened_by(told.prompt),
        remember=True,
    )


async def answer(request: Request[State], asked: Asked, task: Task) -> Response:
    settings = request.state["settings"]
    sampling = asked.options.sampling
    if task.remember:
        sampling = replace(sampling, token_ids=True)
    if task.form.controls:
        # The marks of thoughts are control tokens here: unseen, they mark nothing.
        sampling = replace(sampling, skip_special_tokens=False)
    wanted = GenerationRequest(
        model=asked.model,
        input=task.input,
        dialect=API,
        sampling=sampling,
        response_format=asked.format,
        stream=asked.stream,
        keep_alive=asked.keep_alive,
        load=wishes_of(asked.options.loading),
        **identity(request),
    )
    as_ollama = settings.ollama_truncate == "ollama"
    generation = await fitted(wanted, asked, as_ollama, lambda each: admitted(request, each))
    unused = unmet(asked.options.loading, generation.facts)
    exchange_of(request.scope).ignored += unused
    voice = Voice(
        asked.model,
        task.shape,
        task.inline,
        Journey(wanted.arrived, generation.load_seconds, generation.cut_tokens),
        generation.prompt_ids if task.remember else None,
    )
    answers: Answers = generation
    if task.form is not NONE:
        answers = Interpreted(generation, task.form, task.inside)
    response: Response
    if asked.stream:
        response = await streamed(request, answers, Lines(voice), asked, wanted.id)
    else:
        events = await gathered(request, answers)
        response = json(encode_whole(voice, events))
        timings = [event.timings for event in events if isinstance(event, Finished)]
        if timing := server_timing(timings[0]):
            response.headers["Server-Timing"] = timing
    return tell_cut(response, generation.cut_tokens)


async def streamed(
    request: Request[State], answers: Answers, lines: Lines, asked: Asked, id: str
) -> Stream:
    if not asked.progress:
        return Stream(await begun(request, answers), lines, request)
    look = partial(request.state["runtime"].progress, id)
    return Stream(Watched(answers, look, lines.tell), lines, request)


def tell(request: Request[State], fields: Fields, asked: Asked) -> None:
    tell_ignored(request, fields, ())
    exchange_of(request.scope).ignored += asked.ignored


def lacking(asked: Asked, ability: str) -> InvalidRequest:
    return InvalidRequest(f'"{asked.model}" does not support {ability}', param="model")


def thinking_of(
    request: Request[State], asked: Asked, card: ModelCard, able: Collection[str]
) -> Thinking:
    # Under its own prefix the dialect is today's Ollama, to the letter.
    strict = request.scope.get("root_path", "").endswith(f"/{API}")
    # An answer that has a format is read by a machine, which a thought in it would put off.
    free = asked.format.kind == "text"
    preserve = request.state["settings"].preserve_think_tags and free and not strict
    return decide(asked.think, asked.model, card, "thinking" in able, preserve)


async def loaded(request: Request[State], asked: Asked, shape: Shape) -> Response:
    wishes = wishes_of(asked.options.loading)
    loading = request.state["runtime"].load(asked.model, asked.keep_alive, wishes)
    status = await unless_gone(request.receive, loading)
    if status.facts is not None:
        unused = unmet(asked.options.loading, status.facts)
        exchange_of(request.scope).ignored += unused
    return empty(asked, shape, done=True, done_reason="load")


async def unloaded(request: Request[State], asked: Asked, shape: Shape) -> Response:
    with Deed(request, "unload", model=(asked.model, None)):
        await unless_gone(request.receive, request.state["runtime"].unload(asked.model))
    return empty(asked, shape, done=True, done_reason="unload")


def rendered(asked: Asked, shape: Shape, prompt: str) -> Response:
    info = {"rendered_template": prompt, "image_count": 0}
    return empty(asked, shape, done=False, _debug_info=info)


def empty(asked: Asked, shape: Shape, **rest: Any) -> Response:
    return json({"model": asked.model, "created_at": now(), **shape.encode(Part()), **rest})
