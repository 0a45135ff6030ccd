"""Chats and completions as TGI writes them under its own prefix: nearly OpenAI's shapes. Pure.

What differs is what its client insists on: `role` in every delta, id and type in every part of a
tool call, a `usage` key in every chunk, `""` for a finish_reason that is still to come in
completions. An answer that a stop string ended says `stop_sequence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.dialects.answers import Answer, total_usage
from service.dialects.failures import Failure, of_finished
from service.dialects.framing import DONE, EVENT_STREAM, PING, encode_json, sse
from service.dialects.openai.chat_request import Options
from service.dialects.openai.completions_request import CompletionOptions
from service.dialects.openai.shapes import Envelope, finite
from service.dialects.tgi.shapes import worded
from service.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Logprob,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenLogprobs,
    Usage,
)


def encode_chat(envelope: Envelope, answers: Sequence[Answer], options: Options) -> dict[str, Any]:
    ends = [answer.finished for answer in answers if answer.finished is not None]
    choices = [
        {
            "index": answer.index,
            "message": encode_message(answer, options),
            "logprobs": encode_logprobs(answer.logprobs),
            "finish_reason": finish_reason(answer.finished),
        }
        for answer in answers
    ]
    usage = encode_usage(total_usage(ends, len(answers) or 1))
    return envelope.fields("chat.completion") | {"choices": choices, "usage": usage}


def encode_message(answer: Answer, options: Options) -> dict[str, Any]:
    thoughts = dict.fromkeys(options.reasoning_fields, answer.reasoning) if answer.thoughts else {}
    if calls := answer.tool_calls:
        return {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {
                        "description": None,
                        "name": call.name,
                        "arguments": call.arguments,
                    },
                }
                for call in calls
            ],
            **({"content": answer.text} if answer.text else {}),
        } | thoughts
    return {"role": "assistant", "content": answer.text} | thoughts


def encode_completions(
    envelope: Envelope, answers: Sequence[Answer], options: CompletionOptions
) -> dict[str, Any]:
    ends = [answer.finished for answer in answers if answer.finished is not None]
    choices = [
        {
            "index": answer.index,
            "text": answer.text,
            "logprobs": None,
            "finish_reason": finish_reason(answer.finished),
        }
        for answer in answers
    ]
    usage = encode_usage(total_usage(ends, options.n))
    return envelope.fields("text_completion") | {"choices": choices, "usage": usage}


def finish_reason(end: Finished | None) -> str:
    if end is None or end.reason not in (FinishReason.STOP, FinishReason.TOOL_CALLS):
        return "length"
    return "stop_sequence" if isinstance(end.stop, str) else "stop"


def encode_usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.generation_tokens,
        "total_tokens": usage.prompt_tokens + usage.generation_tokens,
    }


def encode_logprobs(tokens: Sequence[TokenLogprobs]) -> dict[str, Any] | None:
    content = [
        encode_logprob(token.chosen) | {"top_logprobs": [encode_logprob(top) for top in token.top]}
        for token in tokens
    ]
    return {"content": content} if content else None


def encode_logprob(logprob: Logprob) -> dict[str, Any]:
    text = logprob.piece.decode("utf-8", "replace")
    return {"token": text, "logprob": finite(logprob.logprob)}


def encode_late_error(failure: Failure) -> bytes:
    status, body = worded(failure)
    error = {"message": body["error"], "http_status_code": status}
    return sse(encode_json({"error": error}))


class ChatEvents:
    """`respond.Encoder` of a chat stream."""

    media_type = EVENT_STREAM
    ping: bytes | None = PING

    def __init__(self, envelope: Envelope, options: Options, n: int) -> None:
        self.options = options
        self.n = n
        self._envelope = envelope.fields("chat.completion.chunk")
        self._ends: list[Finished] = []
        # The id of the call that an answer is in the middle of.
        self._ids: dict[tuple[int, int], str] = {}

    def encode(self, events: Sequence[Event]) -> bytes:
        return b"".join(map(self._event, events))

    def fail(self, failure: Failure) -> bytes:
        self._ends.clear()
        return encode_late_error(failure)

    def close(self) -> bytes:
        if not (self.options.include_usage and self._ends):
            return DONE
        usage = encode_usage(total_usage(self._ends, self.n))
        return self._chunk([], usage) + DONE

    def _event(self, event: Event) -> bytes:
        if isinstance(event, PromptLogprobs):
            return b""
        ending = None
        if isinstance(event, Finished):
            if of_finished(event) is not None:
                return b""
            self._ends.append(event)
            ending, content, logprobs = finish_reason(event), {"content": ""}, None
        else:
            content, logprobs = self._content(event), encode_logprobs(event.logprobs)
        choice = {
            "index": event.index,
            "delta": {"role": "assistant"} | content,
            "logprobs": logprobs,
            "finish_reason": ending,
        }
        return self._chunk([choice], None)

    def _content(self, event: Delta) -> dict[str, Any]:
        if isinstance(event, TextDelta):
            return {"content": event.text}
        if isinstance(event, ReasoningDelta):
            return {"content": ""} | dict.fromkeys(self.options.reasoning_fields, event.text)
        id = self._ids.setdefault((event.index, event.call), event.id or "")
        call = {"index": event.call, "id": id, "type": "function"}
        function = {"name": event.name, "arguments": event.arguments}
        return {"tool_calls": [call | {"function": function}]}

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> bytes:
        return sse(encode_json(self._envelope | {"choices": choices, "usage": usage}))


class CompletionEvents:
    """`respond.Encoder` of a completion stream. Each answer's last chunk has its usage."""

    media_type = EVENT_STREAM
    ping: bytes | None = PING

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope.fields("text_completion")

    def encode(self, events: Sequence[Event]) -> bytes:
        return b"".join(map(self._event, events))

    def fail(self, failure: Failure) -> bytes:
        return encode_late_error(failure)

    def close(self) -> bytes:
        return DONE

    def _event(self, event: Event) -> bytes:
        if isinstance(event, TextDelta) and event.text:
            return self._chunk(event.index, event.text, "", {})
        if isinstance(event, Finished) and of_finished(event) is None:
            usage = {"usage": encode_usage(event.usage)}
            return self._chunk(event.index, "", finish_reason(event), usage)
        return b""

    def _chunk(self, index: int, text: str, reason: str, more: dict[str, Any]) -> bytes:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
        return sse(encode_json(self._envelope | {"choices": [choice]} | more))
