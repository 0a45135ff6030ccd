"""POST /v1/chat/completions: JSON → GenerationRequest. Pure, apart from the clock it is given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from service.dialects.fields import Fields, kind
from service.dialects.formats import parse_format
from service.dialects.framing import encode_json
from service.dialects.sampling import parse_sampling, top_logprobs
from service.generation import (
    Chat,
    GenerationRequest,
    Message,
    Role,
    Tool,
    ToolCall,
    ToolChoice,
)

MAX_ANSWERS: Final = 128
MAX_TOOLS: Final = 128
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra")
ROLES: Final[dict[str, Role]] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Accepted, and without effect on the text of an answer.
HARMLESS: Final = frozenset(
    """user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention
    cache_prompt verbosity moderation request_id spaces_between_special_tokens""".split()
)

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Options:
    """What concerns the answer's wire shape alone, and so stays with the dialect."""

    include_usage: bool = False
    continuous_usage: bool = False
    reasoning_fields: tuple[str, ...] = ("reasoning", "reasoning_content")
    # Thoughts inline, in tags, as llama-server's reasoning_format "none" has them.
    raw_reasoning: bool = False
    legacy_functions: bool = False
    token_ids_for_pieces: bool = False
    timings: bool = False


REASONING_FIELDS: Final = {
    "both": ("reasoning", "reasoning_content"),
    "reasoning": ("reasoning",),
    "reasoning_content": ("reasoning_content",),
    "none": (),
}


def parse_chat(
    fields: Fields, *, id: str, arrived: float, endpoint: str, timeout: float | None = None
) -> GenerationRequest:
    refuse_templates(fields)
    tools, choice = parse_tools(fields)
    shape = parse_format(fields)
    if shape.kind != "text" and choice.mode in ("required", "named"):
        raise fields.bad("tool_choice", "cannot be forced together with a response format")
    logprobs = top_logprobs(fields, "top_logprobs")
    if not fields.flag("logprobs"):
        if logprobs:
            raise fields.bad("top_logprobs", "needs logprobs to be true")
        logprobs = None
    elif logprobs is None:
        logprobs = 0
    thinking, effort, variables = parse_thinking(fields)
    limit = fields.integer("max_completion_tokens", low=1, high=2**31 - 1)
    older_limit = fields.integer("max_tokens", low=1, high=2**31 - 1)
    stream = fields.flag("stream")
    return GenerationRequest(
        id=id,
        model=fields.text("model", longest=512) or "",
        input=Chat(
            messages=parse_messages(fields),
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=fields.flag("parallel_tool_calls", True),
            enable_thinking=thinking,
            reasoning_effort=effort,
            template_variables=variables,
        ),
        arrived=arrived,
        dialect="openai",
        endpoint=endpoint,
        sampling=parse_sampling(
            fields,
            max_tokens=older_limit if limit is None else limit,
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs(fields, stream),
        ),
        response_format=shape,
        n=fields.integer("n", low=1, high=MAX_ANSWERS) or 1,
        stream=stream,
        timeout=timeout,
    )


def prompt_logprobs(fields: Fields, stream: bool) -> int | None:
    wanted = top_logprobs(fields, "prompt_logprobs")
    if wanted is not None and stream:
        raise fields.bad("prompt_logprobs", "cannot be streamed")
    return wanted


def parse_options(fields: Fields, default_reasoning: str) -> Options:
    given = fields.object("stream_options")
    streamed = fields.flag("stream")
    usage = given is not None and given.flag("include_usage")
    continuous = given is not None and given.flag("continuous_usage_stats")
    if (usage or continuous) and not streamed:
        raise fields.bad("stream_options", "is only for streams: set stream")
    modalities = fields.strings("modalities", most=8, longest=32)
    if any(word != "text" for word in modalities):
        raise fields.bad("modalities", "only text can be generated")
    names = REASONING_FIELDS[default_reasoning]
    raw = fields.text("reasoning_format") == "none"
    if not fields.flag("include_reasoning", True):
        names, raw = (), False
    return Options(
        include_usage=usage or continuous,
        continuous_usage=continuous,
        reasoning_fields=names,
        raw_reasoning=raw,
        legacy_functions="functions" in fields and "tools" not in fields,
        token_ids_for_pieces=fields.flag("return_tokens_as_token_ids"),
        timings=fields.flag("timings_per_token"),
    )


def refuse_templates(fields: Fields) -> None:
    """A template is a program: only those that come with a model are run."""

    def holds_template(value: Any) -> bool:
        if isinstance(value, dict):
            return "chat_template" in value or any(map(holds_template, value.values()))
        return isinstance(value, list) and any(map(holds_template, value))

    if fields.get("chat_template") is not None:
        raise fields.bad("chat_template", "templates are not accepted from clients")
    if holds_template(fields.get("chat_template_kwargs")):
        raise fields.bad("chat_template_kwargs", "templates are not accepted from clients")


def parse_thinking(fields: Fields) -> tuple[bool | None, str | None, dict[str, Any]]:
    """Whether to think, how hard, and what else the template is told."""
    given = fields.object("chat_template_kwargs")
    variables = dict(given.values) if given is not None else {}
    thinking = variables.pop("enable_thinking", None)
    if thinking is not None and not isinstance(thinking, bool):
        raise fields.bad("chat_template_kwargs.enable_thinking", "must be true or false")
    told = variables.pop("reasoning_effort", None)
    effort = fields.choice("reasoning_effort", EFFORTS)
    if effort is None and isinstance(told, str):
        effort = told
    if effort is not None and thinking is None:
        thinking = effort != "none"
    if (documents := fields.list("documents")) is not None:
        variables["documents"] = documents
    return thinking, None if effort == "none" else effort, variables


def parse_messages(fields: Fields) -> tuple[Message, ...]:
    if not fields.list("messages"):
        raise fields.bad("messages", "must have at least one message")
    return tuple(parse_message(message) for message in fields.objects("messages"))


def parse_message(fields: Fields) -> Message:
    word = fields.choice("role", tuple(ROLES))
    if word is None:
        raise fields.bad("role", "is missing")
    role = ROLES[word]
    content = parse_content(fields)
    calls = parse_calls(fields) if role == "assistant" else ()
    if content is None and not calls and role != "assistant":
        raise fields.bad("content", "is missing")
    thoughts = fields.text("reasoning")
    older = fields.text("reasoning_content")
    name = fields.text("name", longest=256)
    return Message(
        role=role,
        content=content,
        reasoning=(older if thoughts is None else thoughts) if role == "assistant" else None,
        tool_calls=calls,
        # A `function` answer names what was called; there was one call at most.
        tool_call_id=name if word == "function" else fields.text("tool_call_id", longest=256),
        name=name,
    )


def parse_content(fields: Fields) -> str | None:
    value = fields.get("content")
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise fields.bad("content", f"must be a string or an array of parts, not {kind(value)}")
    texts = []
    for part in fields.objects("content"):
        word = part.text("type")
        if word not in ("text", "refusal"):
            raise part.bad("type", f"only text parts are supported, not {str(word)[:32]}")
        text = part.text(word)
        if text is None:
            raise part.bad(word, "is missing")
        texts.append(text)
    # vLLM joins them so for templates that take a message's content as one string.
    return "\n".join(texts)


def parse_calls(fields: Fields) -> tuple[ToolCall, ...]:
    calls = [
        parse_call(call, call.text("id", longest=256)) for call in fields.objects("tool_calls")
    ]
    older = fields.object("function_call")
    if older is not None and not calls:
        calls = [named_call(older, older.text("name") or "")]
    return tuple(calls)


def parse_call(fields: Fields, id: str | None) -> ToolCall:
    function = fields.object("function")
    if function is None:
        raise fields.bad("function", "is missing")
    return named_call(function, id or "")


def named_call(function: Fields, id: str) -> ToolCall:
    name = function.text("name", longest=256)
    if not name:
        raise function.bad("name", "is missing")
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        # Ollama's shape, which its users carry over.
        return ToolCall(id, name, encode_json(arguments).decode())
    if not isinstance(arguments, str | None):
        raise function.bad("arguments", "must be a string of JSON")
    try:
        msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError, ValueError):
        raise function.bad("arguments", "invalid tool call arguments: not JSON") from None
    return ToolCall(id, name, arguments or "{}")


def parse_tools(fields: Fields) -> tuple[tuple[Tool, ...], ToolChoice]:
    """An empty list of tools is no list, as most clients mean it."""
    fields.list("tools", longest=MAX_TOOLS)
    fields.list("functions", longest=MAX_TOOLS)
    tools = tuple(parse_tool(tool) for tool in fields.objects("tools"))
    legacy = tuple(parse_function(function) for function in fields.objects("functions"))
    if tools:
        return choose(fields, "tool_choice", tools)
    return choose(fields, "function_call" if legacy else "tool_choice", legacy)


def parse_tool(fields: Fields) -> Tool:
    if fields.text("type") not in ("function", None):
        raise fields.bad("type", "only tools of type function are supported")
    function = fields.object("function")
    if function is None:
        raise fields.bad("function", "is missing")
    return parse_function(function)


def parse_function(fields: Fields) -> Tool:
    name = fields.text("name")
    if name is None or not _TOOL_NAME.fullmatch(name):
        raise fields.bad("name", "must be 1 to 64 letters, digits, dashes and underscores")
    parameters = fields.object("parameters")
    return Tool(
        name,
        fields.text("description", longest=65536) or "",
        None if parameters is None else parameters.values,
        fields.flag("strict"),
    )


def choose(
    fields: Fields, key: str, tools: tuple[Tool, ...]
) -> tuple[tuple[Tool, ...], ToolChoice]:
    given = fields.get(key)
    names = {tool.name for tool in tools}
    if not tools:
        if given is None or given in ("none", "auto"):
            return (), ToolChoice("none")
        raise fields.bad(key, "needs tools to choose from")
    match given:
        case None | "auto":
            return tools, ToolChoice("auto")
        case "none":
            return tools, ToolChoice("none")
        case "required" | "any":
            return tools, ToolChoice("required")
        case {"type": "function", "function": {"name": str(name)}} | {"name": str(name)}:
            if name not in names:
                raise fields.bad(key, f"there is no tool named {name[:64]}")
            return tools, ToolChoice("named", (name,))
        case {"type": "allowed_tools"}:
            return allowed_tools(fields, key, tools)
    raise fields.bad(key, "must be none, auto, required, or name a function")


def allowed_tools(
    fields: Fields, key: str, tools: tuple[Tool, ...]
) -> tuple[tuple[Tool, ...], ToolChoice]:
    choice = fields.object(key)
    assert choice is not None
    # The object is nested in the API's reference and flat in some clients.
    allowed = choice.object("allowed_tools") or choice
    mode = allowed.choice("mode", ("auto", "required"))
    wanted = []
    for entry in allowed.objects("tools"):
        name = (entry.object("function") or entry).text("name")
        if name not in {tool.name for tool in tools}:
            raise entry.bad("name", "is not one of the tools")
        wanted.append(name)
    kept = tuple(tool for tool in tools if tool.name in wanted)
    if not kept:
        raise allowed.bad("tools", "must name at least one tool")
    return kept, ToolChoice("required" if mode == "required" else "auto")
