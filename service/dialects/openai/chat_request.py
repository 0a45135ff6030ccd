"""POST /v1/chat/completions: JSON → GenerationRequest. Pure, apart from the clock it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec.structs import replace

from service.dialects.fields import Fields
from service.dialects.formats import parse_format
from service.dialects.openai.extras import parse_extras
from service.dialects.openai.messages import parse_messages
from service.dialects.openai.tools import parse_tools
from service.dialects.sampling import (
    NONE,
    parse_sampling,
    parse_standing,
    parse_thoughts,
    parse_truncation,
    top_logprobs,
)
from service.generation import Chat, GenerationRequest, Message

MAX_ANSWERS: Final = 128
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "ultra")
# Parts of a message that llama-server can be told to go on with.
PARTS: Final = ("content", "reasoning_content")
# llama-server's words, and Groq's: all but "none" tell thoughts apart, as they are told apart here.
REASONING_FORMATS: Final = frozenset({"none", "auto", "deepseek", "parsed"})
# Accepted, and without effect on the text of an answer.
HARMLESS: Final = frozenset(
    """user metadata store service_tier safety_identifier prompt_cache_key prompt_cache_retention
    cache_prompt verbosity moderation request_id spaces_between_special_tokens""".split()
)


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
    token_ids: bool = False
    # What the answer's text is said to begin with: the message that it goes on from.
    echo: str = ""


REASONING_FIELDS: Final = {
    "both": ("reasoning", "reasoning_content"),
    "reasoning": ("reasoning",),
    "reasoning_content": ("reasoning_content",),
    "none": (),
}


def parse_chat(
    fields: Fields,
    *,
    id: str,
    arrived: float,
    endpoint: str,
    timeout: float | None = None,
    dialect: str = "openai",
    prefills: bool = False,
    defaults: Mapping[str, Any] = NONE,
) -> GenerationRequest:
    """`prefills`: an assistant's message at the end is one to go on with, though nobody says so.
    `defaults`: what the model is sampled with where nothing is said."""
    refuse_templates(fields)
    tools, choice = parse_tools(fields)
    # function_call has room for one.
    parallel = fields.flag("parallel_tool_calls", True) and not is_legacy(fields)
    extras = parse_extras(fields)
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
    ids = fields.flag("return_token_ids")
    thinking, effort, variables = parse_thinking(fields)
    if thinking is None and effort is None:
        thinking, effort = extras.thinking, extras.effort
    limit = fields.integer("max_completion_tokens", low=1, high=2**31 - 1)
    older_limit = fields.integer("max_tokens", low=1, high=2**31 - 1)
    given: dict[str, Any] = {**defaults, **extras.sampling, "logprobs": logprobs, "token_ids": ids}
    given["thoughts"] = parse_thoughts(fields)
    if limit is not None or older_limit is not None:
        given["max_tokens"] = older_limit if limit is None else limit
    stream = fields.flag("stream")
    messages, continued = parse_ending(fields, parse_messages(fields), prefills)
    return GenerationRequest(
        id=id,
        model=fields.model(),
        input=Chat(
            messages=messages,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=parallel,
            enable_thinking=thinking,
            reasoning_effort=effort,
            template_variables=variables,
            continue_final_message=continued,
            add_generation_prompt=fields.flag("add_generation_prompt", True),
        ),
        arrived=arrived,
        dialect=dialect,
        endpoint=endpoint,
        sampling=parse_sampling(fields, **given, prompt_logprobs=prompt_logprobs(fields, stream)),
        response_format=shape,
        n=fields.integer("n", low=1, high=MAX_ANSWERS) or 1,
        stream=stream,
        timeout=timeout,
        truncation=parse_truncation(fields),
        keep_alive=extras.keep_alive,
        load=extras.load,
        **parse_standing(fields),
    )


def is_legacy(fields: Fields) -> bool:
    return "functions" in fields and "tools" not in fields


def prompt_logprobs(fields: Fields, stream: bool) -> int | None:
    wanted = top_logprobs(fields, "prompt_logprobs")
    if wanted is not None and stream:
        raise fields.bad("prompt_logprobs", "cannot be streamed")
    return wanted


def thoughts_inline(fields: Fields) -> bool:
    """A form of thoughts that is not known here stays unread, and so is told of as ignored."""
    asked = fields.values.get("reasoning_format")
    if isinstance(asked, str) and asked not in REASONING_FORMATS:
        return False
    return fields.text("reasoning_format") == "none"


def parse_options(fields: Fields, default_reasoning: str) -> Options:
    include, continuous = parse_stream_options(fields, fields.flag("stream"))
    modalities = fields.strings("modalities", most=8, longest=32)
    if any(word != "text" for word in modalities):
        raise fields.bad("modalities", "only text can be generated")
    names = REASONING_FIELDS[default_reasoning]
    raw = thoughts_inline(fields)
    if not fields.flag("include_reasoning", True):
        names, raw = (), False
    ids = fields.flag("return_token_ids")
    return Options(
        include_usage=include,
        continuous_usage=continuous,
        reasoning_fields=names,
        raw_reasoning=raw,
        legacy_functions=is_legacy(fields),
        token_ids_for_pieces=fields.flag("return_tokens_as_token_ids"),
        timings=fields.flag("timings_per_token"),
        token_ids=ids,
        echo=parse_echo(fields),
    )


def parse_stream_options(fields: Fields, stream: bool) -> tuple[bool, bool]:
    """Whether the usage comes at the end, and whether with every chunk as well."""
    given = fields.object("stream_options")
    if given is None:
        return False, False
    include, continuous = given.flag("include_usage"), given.flag("continuous_usage_stats")
    if (include or continuous) and not stream:
        raise fields.bad("stream_options", "is only for streams: set stream")
    if given.values.get("include_obfuscation") is False:
        # Chunks are not padded, whoever listens to their lengths.
        given.skip(("include_obfuscation",))
    return include or continuous, continuous


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


def parse_ending(
    fields: Fields, messages: tuple[Message, ...], prefills: bool
) -> tuple[tuple[Message, ...], bool]:
    """The messages, and whether the last one is to be gone on with: vLLM's flag, llama-server's
    words for which part of it, and the `prefix` of Mistral's and DeepSeek's clients."""
    *earlier, last = messages
    asked = fields.get("continue_final_message")
    if asked is None:
        marked = list(fields.objects("messages"))[-1].flag("prefix")
        prefilled = prefills and last.role == "assistant" and not last.tool_calls
        return messages, (marked and last.role == "assistant") or prefilled
    if not isinstance(asked, bool) and asked not in PARTS:
        raise fields.bad("continue_final_message", f"must be a boolean, or one of {PARTS}")
    if asked and fields.flag("add_generation_prompt"):
        raise fields.bad(
            "add_generation_prompt", "cannot be true together with continue_final_message"
        )
    if asked == "reasoning_content":
        messages = (*earlier, replace(last, content=None))
    return messages, bool(asked)


def parse_echo(fields: Fields) -> str:
    """As in vLLM: the last message, if it is the assistant's, comes back before the answer."""
    if not fields.flag("echo"):
        return ""
    last = parse_messages(fields)[-1]
    return (last.content or "") if last.role == "assistant" else ""


def parse_thinking(fields: Fields) -> tuple[bool | None, str | None, dict[str, Any]]:
    """Whether to think, how hard, and what else the template is told."""
    given = fields.object("chat_template_kwargs")
    variables = dict(given.whole()) if given is not None else {}
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
