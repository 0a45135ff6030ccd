"""Answers as Anthropic's API writes them: one message, or the named events of a stream. Pure.

An answer is a row of content blocks: thoughts, text, calls of tools. In a stream each block is
opened, filled and closed before the next one, whatever order the model has them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from service.dialects.answers import Answer
from service.dialects.anthropic.request import Options
from service.dialects.failures import Failure, of_finished
from service.dialects.framing import EVENT_STREAM, encode_json, named_sse
from service.events import (
    Event,
    Finished,
    FinishReason,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from service.generation import ToolCall
from service.telemetry.logs import request_id

PING: Final = named_sse(b"ping", b'{"type":"ping"}')

STOP_REASONS: Final = {
    FinishReason.LENGTH: "max_tokens",
    # A deadline is a limit too; `timed_out` tells it from the token limit.
    FinishReason.TIMEOUT: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
}

ERROR_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# A full queue, a model that restarts, a server that stops: all of them mean to come back later.
OVERLOADED: Final = frozenset(("queue_full", "draining", "model_unavailable", "queue_timeout"))


@dataclass(frozen=True)
class Envelope:
    """What is known of an answer before its first token."""

    id: str
    model: str
    prompt_tokens: int


def worded(failure: Failure) -> tuple[int, dict[str, Any]]:
    status = 529 if failure.code in OVERLOADED else failure.status
    kind = ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    body: dict[str, Any] = {
        "type": "error",
        "error": {"type": kind, "message": sentence(failure)} | failure.numbers,
    }
    if (id := request_id.get()) is not None:
        body["request_id"] = id
    return status, body


def sentence(failure: Failure) -> str:
    """Agents know by these words alone that a conversation has to be shortened."""
    match failure.numbers:
        case {"n_prompt_tokens": prompt, "n_ctx": most}:
            return f"prompt is too long: {prompt} tokens > {most} maximum"
    return failure.message


def encode_message(envelope: Envelope, answer: Answer, options: Options) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if answer.thoughts:
        thinking = "" if options.omit_thoughts else answer.reasoning
        content.append({"type": "thinking", "thinking": thinking, "signature": ""})
    if text := answer.text:
        content.append({"type": "text", "text": text})
    content += map(encode_call, answer.tool_calls)
    message = opened(envelope) | {"content": content}
    if answer.finished is not None:
        message |= encode_end(answer.finished, options)
        message["usage"] = encode_usage(answer.finished.usage)
    return message


def opened(envelope: Envelope) -> dict[str, Any]:
    """The message before it says anything. What the prefix cache had is not known yet."""
    return {
        "id": envelope.id,
        "type": "message",
        "role": "assistant",
        "model": envelope.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": envelope.prompt_tokens, "output_tokens": 0},
    }


def encode_call(call: ToolCall) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError, ValueError):
        given = None
    if not isinstance(given, dict):
        # Never dropped, and never an error: what the model wrote, as text.
        return {"type": "text", "text": f"{call.name}({call.arguments})"}
    return {"type": "tool_use", "id": use_id(call.id), "name": call.name, "input": given}


def use_id(id: str) -> str:
    return "toolu_" + id.removeprefix("call_")


def encode_end(end: Finished, options: Options) -> dict[str, Any]:
    sequence = end.stop if end.stop in options.stop_sequences else None
    reason = STOP_REASONS.get(end.reason, "end_turn" if sequence is None else "stop_sequence")
    fields: dict[str, Any] = {"stop_reason": reason, "stop_sequence": sequence}
    if end.reason is FinishReason.TIMEOUT:
        fields["timed_out"] = True
    return fields


def encode_usage(usage: Usage) -> dict[str, Any]:
    """Tokens of the prompt count once: as read from the cache, or as computed."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.generation_tokens,
    }


class MessageEvents:
    """`respond.Encoder` of a streamed message."""

    media_type = EVENT_STREAM
    ping: bytes | None = PING

    def __init__(self, envelope: Envelope, options: Options) -> None:
        self.envelope = envelope
        self.options = options
        self._begun = False
        self._number = -1
        # The kind of the block that is open, and which call it is: None between blocks.
        self._block: tuple[str, int] | None = None
        self._end: Finished | None = None

    def encode(self, events: Sequence[Event]) -> bytes:
        out: list[bytes] = []
        if not self._begun:
            self._begun = True
            out += (event("message_start", message=opened(self.envelope)), PING)
        for each in events:
            match each:
                case TextDelta():
                    if each.text:
                        out += self._enter("text", 0, {"type": "text", "text": ""})
                        out.append(self._delta("text_delta", "text", each.text))
                case ReasoningDelta():
                    block = {"type": "thinking", "thinking": "", "signature": ""}
                    out += self._enter("thinking", 0, block)
                    if each.text and not self.options.omit_thoughts:
                        out.append(self._delta("thinking_delta", "thinking", each.text))
                case ToolCallDelta():
                    out += self._call(each)
                case Finished() if of_finished(each) is None:
                    out += self._leave()
                    self._end = each
                case Finished() | PromptLogprobs():
                    pass
        return b"".join(out)

    def fail(self, failure: Failure) -> bytes:
        self._end = None
        _, body = worded(failure)
        return named_sse(b"error", encode_json(body))

    def close(self) -> bytes:
        if self._end is None:
            return b""
        ending = encode_end(self._end, self.options)
        usage = encode_usage(self._end.usage)
        return event("message_delta", delta=ending, usage=usage) + event("message_stop")

    def _call(self, part: ToolCallDelta) -> list[bytes]:
        id, name = use_id(part.id or ""), part.name or ""
        block = {"type": "tool_use", "id": id, "name": name, "input": {}}
        out = self._enter("tool_use", part.call, block)
        if part.arguments:
            out.append(self._delta("input_json_delta", "partial_json", part.arguments))
        return out

    def _enter(self, kind: str, call: int, block: dict[str, Any]) -> list[bytes]:
        if self._block == (kind, call):
            return []
        out = self._leave()
        self._block = (kind, call)
        self._number += 1
        return [*out, event("content_block_start", index=self._number, content_block=block)]

    def _leave(self) -> list[bytes]:
        if self._block is None:
            return []
        out = []
        if self._block[0] == "thinking":
            # Clients send it back with the block; nothing here asks for a proof of origin.
            out.append(self._delta("signature_delta", "signature", ""))
        self._block = None
        return [*out, event("content_block_stop", index=self._number)]

    def _delta(self, kind: str, key: str, text: str) -> bytes:
        return event("content_block_delta", index=self._number, delta={"type": kind, key: text})


def event(name: str, /, **fields: Any) -> bytes:
    return named_sse(name.encode(), encode_json({"type": name, **fields}))
