"""POST /v1/messages: JSON → GenerationRequest. Pure, apart from the clock it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from service.dialects.anthropic.messages import BOOKKEEPING, parse_message, parse_messages
from service.dialects.anthropic.tools import parse_tools
from service.dialects.fields import Fields
from service.dialects.formats import schema
from service.dialects.openai.chat_request import refuse_templates
from service.dialects.sampling import MAX_STOP_LENGTH, MAX_STOPS, NONE, parse_sampling
from service.generation import Chat, GenerationRequest, ResponseFormat, Thoughts

EFFORTS: Final = ("low", "medium", "high", "xhigh", "max")
# Without effect on the text of an answer, or on what a local server charges for it.
HARMLESS: Final = frozenset(
    "metadata service_tier cache_control speed inference_geo diagnostics betas".split()
)


@dataclass(frozen=True)
class Options:
    """What concerns the answer's wire shape alone."""

    stop_sequences: tuple[str, ...] = ()
    # thinking.display "omitted": that the model thought is shown, and not what.
    omit_thoughts: bool = False


def parse_request(
    fields: Fields,
    *,
    id: str,
    arrived: float,
    endpoint: str,
    timeout: float | None = None,
    defaults: Mapping[str, Any] = NONE,
) -> tuple[GenerationRequest, Options]:
    refuse_templates(fields)
    limit = fields.integer("max_tokens", low=1, high=2**31 - 1)
    if limit is None:
        raise fields.bad("max_tokens", "is missing")
    fields.number("temperature", low=0.0, high=1.0)
    stops = fields.strings("stop_sequences", most=MAX_STOPS, longest=MAX_STOP_LENGTH)
    chat, omit = parse_chat(fields)
    shape = parse_shape(fields)
    if shape.kind != "text" and chat.tool_choice.mode in ("required", "named"):
        raise fields.bad("tool_choice", "cannot be forced together with an output format")
    given = {**defaults, "max_tokens": limit, "thoughts": parse_budget(fields)}
    sampling = parse_sampling(fields, **given)
    request = GenerationRequest(
        id=id,
        model=fields.model(),
        input=chat,
        arrived=arrived,
        dialect="anthropic",
        endpoint=endpoint,
        sampling=replace(sampling, stop=tuple(stop for stop in stops if stop) or sampling.stop),
        response_format=shape,
        stream=fields.flag("stream"),
        timeout=timeout,
    )
    return request, Options(request.sampling.stop, omit)


def parse_chat(fields: Fields) -> tuple[Chat, bool]:
    """The conversation, and whether the thoughts in its answer are to be left out."""
    messages = parse_messages(fields)
    tools, choice, parallel = parse_tools(fields)
    thinking, omit = parse_thinking(fields)
    output = fields.object("output_config")
    # An assistant's message at the end is how the answer begins.
    begun = messages[-1].role == "assistant" and not messages[-1].tool_calls
    chat = Chat(
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        enable_thinking=thinking,
        reasoning_effort=output.choice("effort", EFFORTS) if output is not None else None,
        continue_final_message=begun,
    )
    return chat, omit


def parse_thinking(fields: Fields) -> tuple[bool, bool]:
    """Not to think is what a request asks for that says nothing of it."""
    given = fields.object("thinking")
    if given is None:
        return False, False
    mode = given.choice("type", ("enabled", "disabled", "adaptive"))
    if mode is None:
        raise given.bad("type", "is missing")
    omit = given.choice("display", ("summarized", "omitted")) == "omitted"
    return mode != "disabled", omit


def parse_budget(fields: Fields) -> Thoughts | None:
    given = fields.object("thinking")
    if given is None or given.get("type") != "enabled":
        return None
    budget = given.integer("budget_tokens", low=1, high=2**31 - 1)
    return None if budget is None else Thoughts(budget)


def parse_shape(fields: Fields) -> ResponseFormat:
    """output_config.format, or output_format as it was called before."""
    output = fields.object("output_config")
    given = output.object("format") if output is not None else None
    given = given or fields.object("output_format")
    if given is None:
        return ResponseFormat()
    if given.choice("type", ("json_schema",)) is None:
        raise given.bad("type", "is missing")
    if "schema" not in given:
        raise given.bad("schema", "is missing")
    return schema(given, "schema")


def unheeded(fields: Fields, able: frozenset[str]) -> list[str]:
    """What was read, and yet has no effect here."""
    names = []
    given = fields.object("thinking")
    thinks = "thinking" in able and not answering(fields)
    if given is not None and parse_thinking(fields)[0] and not thinks:
        names.append("thinking")
    if fields.get("tools") and "tools" not in able:
        names.append("tools")
    for tool in fields.objects("tools"):
        names += [tool.name(key) for key in ("input_examples", "defer_loading") if tool.get(key)]
    if dropped_bookkeeping(fields):
        names.append("system.0")
    return names


def answering(fields: Fields) -> bool:
    """The client has begun the answer itself, so the thoughts before it are over."""
    *_, last = fields.objects("messages") if "messages" in fields else [Fields({})]
    begun = [*parse_message(last)] if last.get("role") == "assistant" else []
    return any(message.content for message in begun)


def dropped_bookkeeping(fields: Fields) -> bool:
    value = fields.get("system")
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and str(first.get("text")).startswith(BOOKKEEPING)


def counted(fields: Fields) -> tuple[str, Chat]:
    """POST /v1/messages/count_tokens: the model's name and the conversation."""
    refuse_templates(fields)
    chat, _ = parse_chat(fields)
    return fields.model(), chat
