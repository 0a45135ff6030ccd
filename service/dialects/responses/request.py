"""POST /v1/responses: JSON → GenerationRequest. Pure, apart from what `history` looks up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.dialects.fields import Fields
from service.dialects.formats import parse_format, response_format
from service.dialects.openai.chat_request import EFFORTS, parse_thinking, refuse_templates
from service.dialects.openai.extras import parse_extras, think_of
from service.dialects.openai.tools import MAX_TOOLS, choose, parse_function
from service.dialects.responses.items import parse_input
from service.dialects.sampling import (
    NONE,
    parse_sampling,
    parse_standing,
    parse_thoughts,
    top_logprobs,
)
from service.generation import Chat, GenerationRequest, Message, ResponseFormat, Tool, ToolChoice

LOGPROBS: Final = "message.output_text.logprobs"
# Accepted, and without effect on the text of an answer.
HARMLESS: Final = frozenset(
    """user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention
    prompt_cache_options stream_options client_metadata""".split()
)
# As on a chat, where it stands outside.
HARMLESS_OF_TEXT: Final = frozenset(("verbosity",))
# Each is a promise that could not be kept.
REFUSED: Final = {
    "background": "a response is made while its client waits for it",
    "conversation": "conversations are not kept; previous_response_id continues a response",
    "prompt": "prompt templates are not kept here",
}

# The conversation that a response of that id ended; raises where there is none.
History = Callable[[str], tuple[Message, ...]]


@dataclass(frozen=True)
class Asked:
    """What a response repeats of its request, and what the next one needs to go on from it."""

    echo: dict[str, Any]
    conversation: tuple[Message, ...]
    store: bool = True
    # Thoughts are wanted as a summary, where OpenAI's clients look for them.
    summary: bool = False


def parse_response_request(
    fields: Fields,
    history: History,
    *,
    id: str,
    arrived: float,
    endpoint: str,
    timeout: float | None = None,
    defaults: Mapping[str, Any] = NONE,
    dialect: str = "openai",
) -> tuple[GenerationRequest, Asked]:
    for key, reason in REFUSED.items():
        if fields.get(key):
            raise fields.bad(key, reason)
    chat, conversation = parse_response_chat(fields, history)
    extras = parse_extras(fields)
    shape = parse_shape(fields)
    if shape.kind != "text" and chat.tool_choice.mode in ("required", "named"):
        raise fields.bad("tool_choice", "cannot be forced together with a text format")
    limit = fields.integer("max_output_tokens", low=1, high=2**31 - 1)
    longest = {} if limit is None else {"max_tokens": limit}
    given = {**defaults, **extras.sampling, **longest, "thoughts": parse_thoughts(fields)}
    sampling = parse_sampling(fields, **given, logprobs=parse_logprobs(fields))
    truncation = fields.choice("truncation", ("auto", "disabled")) or "disabled"
    reasoning = fields.object("reasoning") or Fields({}, "reasoning")
    request = GenerationRequest(
        id=id,
        model=fields.model(),
        input=chat,
        arrived=arrived,
        dialect=dialect,
        endpoint=endpoint,
        sampling=sampling,
        response_format=shape,
        stream=fields.flag("stream"),
        timeout=timeout,
        drop_messages=truncation == "auto",
        keep_alive=extras.keep_alive,
        load=extras.load,
        **parse_standing(fields),
    )
    summary = reasoning.choice("summary", ("auto", "concise", "detailed", "none"))
    echo = {
        "instructions": fields.text("instructions"),
        "max_output_tokens": sampling.max_tokens,
        "metadata": metadata(fields),
        "parallel_tool_calls": chat.parallel_tool_calls,
        "previous_response_id": fields.text("previous_response_id"),
        "reasoning": {"effort": chat.reasoning_effort, "summary": summary},
        "store": fields.flag("store", True),
        "temperature": sampling.temperature,
        "text": fields.get("text") or {"format": {"type": "text"}},
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": [repeated(tool) for tool in fields.list("tools") or ()],
        "top_logprobs": sampling.logprobs or 0,
        "top_p": sampling.top_p,
        "truncation": truncation,
        "background": False,
    }
    wanted = summary not in (None, "none")
    return request, Asked(echo, conversation, fields.flag("store", True), wanted)


def repeated(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as it was given, with the keys that the official clients' types insist on."""
    if tool.get("type") != "function":
        return tool
    nested = tool.get("function")
    flat = {"type": "function", **nested} if isinstance(nested, dict) else tool
    return {**flat, **{key: flat.get(key) for key in ("description", "parameters", "strict")}}


def parse_response_chat(fields: Fields, history: History) -> tuple[Chat, tuple[Message, ...]]:
    """The prompt; and the conversation, which is the same without the instructions: they are
    given anew with each response."""
    refuse_templates(fields)
    tools, choice = parse_tools(fields)
    given = parse_input(fields)
    previous = fields.text("previous_response_id", longest=256)
    conversation = (*history(previous), *given) if previous else given
    instructions = fields.text("instructions")
    system = (Message("system", instructions),) if instructions else ()
    thinking, effort, variables = parse_thinking(fields)
    if thinking is None and effort is None:
        thinking, effort = think_of(fields)
    reasoning = fields.object("reasoning")
    told = reasoning.choice("effort", EFFORTS) if reasoning is not None else None
    if told is not None:
        thinking, effort = told != "none", None if told == "none" else told
    chat = Chat(
        messages=(*system, *conversation),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=fields.flag("parallel_tool_calls", True),
        enable_thinking=thinking,
        reasoning_effort=effort,
        template_variables=variables,
    )
    return chat, conversation


def parse_tools(fields: Fields) -> tuple[tuple[Tool, ...], ToolChoice]:
    """Only functions: what OpenAI's own servers run, nobody runs here, so the model is not told
    of it; see `unheeded`."""
    fields.list("tools", longest=MAX_TOOLS)
    tools = []
    for tool in fields.objects("tools"):
        word = tool.text("type", longest=64)
        if word is None:
            raise tool.bad("type", "is missing")
        if word == "function":
            # Flat here, nested in a chat; clients carry the one over to the other.
            tools.append(parse_function(tool.object("function") or tool))
    return choose(fields, "tool_choice", tuple(tools))


def parse_shape(fields: Fields) -> ResponseFormat:
    """text.format; and where there is none, what other APIs call it."""
    text = fields.object("text")
    shape = None
    if text is not None:
        shape = text.object("format")
        text.skip(HARMLESS_OF_TEXT)
    return parse_format(fields) if shape is None else response_format(shape)


def parse_logprobs(fields: Fields) -> int | None:
    top = top_logprobs(fields, "top_logprobs")
    wanted = LOGPROBS in included(fields)
    return (top or 0) if wanted or top else None


def included(fields: Fields) -> tuple[str, ...]:
    return fields.strings("include", most=32, longest=128)


def metadata(fields: Fields) -> dict[str, Any]:
    given = fields.object("metadata")
    return {} if given is None else given.whole()


def unheeded(fields: Fields) -> list[str]:
    """What was read, and yet has no effect here."""
    names = [
        tool.name("type") for tool in fields.objects("tools") if tool.text("type") != "function"
    ]
    if any(word != LOGPROBS for word in included(fields)):
        names.append("include")
    return names
