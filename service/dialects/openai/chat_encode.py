"""Chat answers as the OpenAI dialect writes them: one JSON object, or chunks of a stream. Pure.

What clients are known to stumble over: `role` comes once for each choice, since the official
stream helper adds strings up; `tool_calls` is absent rather than empty; the last delta is `{}`;
a call's first part has id, type and name, its later parts have none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from service.dialects.answers import Answer, total_usage
from service.dialects.failures import Failure, of_finished
from service.dialects.framing import DONE, EVENT_STREAM, PING, encode_json, sse
from service.dialects.openai.chat_request import Options
from service.dialects.openai.shapes import (
    Envelope,
    UsageSoFar,
    encode_end,
    encode_error,
    encode_logprobs,
    encode_prompt_logprobs,
    encode_timings,
    encode_usage,
)
from service.dialects.prompt_progress import encode_progress
from service.dialects.thoughts import InlineThoughts
from service.events import (
    Delta,
    Event,
    Finished,
    PromptLogprobs,
    ReasoningDelta,
    TextDelta,
    TokenLogprobs,
    ToolCallDelta,
)
from service.generation import ToolCall

if TYPE_CHECKING:
    from service.serving.runtime import Progress

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def shown(events: Sequence[Event], options: Options) -> Sequence[Event]:
    """What is written of an answer: with its thoughts inline, where they were asked for so."""
    return InlineThoughts().feed(events) if options.raw_reasoning else events


def encode_chat(
    envelope: Envelope,
    answers: Sequence[Answer],
    options: Options,
    of_prompt: Mapping[str, Any] = NOTHING,
) -> dict[str, Any]:
    ends = [answer.finished for answer in answers if answer.finished is not None]
    body = envelope.fields("chat.completion")
    body["choices"] = [encode_choice(answer, options) for answer in answers]
    body["usage"] = encode_usage(total_usage(ends, len(answers) or 1))
    prompt = next((a.prompt_logprobs for a in answers if a.prompt_logprobs is not None), None)
    if prompt is not None:
        body["prompt_logprobs"] = encode_prompt_logprobs(prompt)
    body |= of_prompt
    if options.timings and ends and (timings := encode_timings(ends[0])) is not None:
        body["timings"] = timings
    return body


def encode_prompt(options: Options, ids: Sequence[int], text: str | None) -> dict[str, Any]:
    """What vLLM tells of a prompt, with the answer or its first chunk. `text`: where it is wanted."""
    told: dict[str, Any] = {}
    if options.token_ids:
        told["prompt_token_ids"] = ids
    if text is not None:
        told["prompt_text"] = text
    return told


def encode_choice(answer: Answer, options: Options) -> dict[str, Any]:
    calls = answer.tool_calls
    text = options.echo + answer.text
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if text or not calls else None,
        "refusal": None,
        "annotations": [],
    }
    if calls and options.legacy_functions:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [encode_call(call) for call in calls]
    if answer.thoughts:
        message |= dict.fromkeys(options.reasoning_fields, answer.reasoning)
    logprobs = answer.logprobs
    choice: dict[str, Any] = {
        "index": answer.index,
        "message": message,
        "logprobs": encode_logprobs(logprobs, options.token_ids_for_pieces) if logprobs else None,
    }
    if answer.finished is not None:
        choice |= encode_end(answer.finished, legacy=options.legacy_functions)
    if options.token_ids:
        choice["token_ids"] = answer.ids
    return choice


def encode_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


class ChatChunks:
    """`respond.Encoder` of a chat stream. Text, which is nearly all of it, takes the short way:
    the JSON of the text between two constants."""

    media_type = EVENT_STREAM
    ping: bytes | None = PING

    def __init__(
        self,
        envelope: Envelope,
        options: Options,
        prompt_tokens: int,
        n: int,
        of_prompt: Mapping[str, Any] = NOTHING,
    ) -> None:
        self.options = options
        # Told with the first chunk.
        self._of_prompt = of_prompt
        self.n = n
        head = encode_json(envelope.fields("chat.completion.chunk"))[:-1]
        self._head = b"data: " + head
        # With include_usage every chunk has the key, and all but the last have nothing in it.
        self._tail = b',"usage":null}\n\n' if options.include_usage else b"}\n\n"
        self._so_far = UsageSoFar({0: prompt_tokens}) if options.continuous_usage else None
        self._text_heads = [
            b'%b,"choices":[{"index":%d,"delta":{"content":' % (self._head, index)
            for index in range(n)
        ]
        self._text_tail = b'},"logprobs":null,"finish_reason":null}]' + self._tail
        self._opened: set[int] = set()
        self._ends: list[Finished] = []
        self._inline = InlineThoughts() if options.raw_reasoning else None
        self._news: list[bytes] = []

    def tell(self, progress: Progress) -> None:
        """To be sent with what is encoded next."""
        said = encode_json(encode_progress(progress))
        self._news.append(b'%b,"choices":[],%b%b' % (self._head, said[1:-1], self._tail))

    def encode(self, events: Sequence[Event]) -> bytes:
        if self._inline is not None:
            events = self._inline.feed(events)
        short = self._so_far is None
        chunks, self._news = self._news, []
        for event in events:
            if isinstance(event, PromptLogprobs):
                continue
            if isinstance(event, Finished) and of_finished(event) is not None:
                # `fail` says it: the official client knows no finish_reason "error".
                continue
            if event.index not in self._opened:
                self._opened.add(event.index)
                chunks.append(self._chunk(event.index, {"role": "assistant", "content": ""}))
                if self.options.echo:
                    chunks.append(self._chunk(event.index, {"content": self.options.echo}))
            if self._so_far is not None:
                self._so_far.add(event)
            if type(event) is TextDelta and short and not event.logprobs and not event.ids:
                if event.text:
                    head = self._text_heads[event.index]
                    chunks.append(b"%b%b%b" % (head, encode_json(event.text), self._text_tail))
            elif isinstance(event, Finished):
                chunks.append(self._end(event))
            else:
                chunks.append(self._delta(event))
        return b"".join(chunks)

    def fail(self, failure: Failure) -> bytes:
        self._ends.clear()
        return sse(encode_json(encode_error(failure)))

    def close(self) -> bytes:
        if not (self.options.include_usage and self._ends):
            return DONE
        usage = encode_usage(total_usage(self._ends, self.n))
        return b'%b,"choices":[],"usage":%b}\n\n' % (self._head, encode_json(usage)) + DONE

    def _delta(self, event: Delta) -> bytes:
        delta: dict[str, Any] = {}
        match event:
            case TextDelta():
                delta = {"content": event.text}
            case ReasoningDelta():
                delta = dict.fromkeys(self.options.reasoning_fields, event.text)
            case ToolCallDelta():
                delta = self._call(event)
        if not delta and not event.logprobs and not event.ids:
            return b""
        return self._chunk(event.index, delta, event.logprobs, ids=event.ids)

    def _call(self, event: ToolCallDelta) -> dict[str, Any]:
        function = {"arguments": event.arguments}
        if event.name is not None:
            function = {"name": event.name, **function}
        if self.options.legacy_functions:
            return {"function_call": function} if event.call == 0 else {}
        call: dict[str, Any] = {"index": event.call}
        if event.id is not None:
            call |= {"id": event.id, "type": "function"}
        return {"tool_calls": [call | {"function": function}]}

    def _end(self, end: Finished) -> bytes:
        self._ends.append(end)
        ending = self._ending(end)
        timings = encode_timings(end) if self.options.timings else None
        return self._chunk(end.index, {}, (), ending, timings)

    def _ending(self, end: Finished) -> dict[str, Any]:
        return encode_end(end, legacy=self.options.legacy_functions)

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: Sequence[TokenLogprobs] = (),
        ending: dict[str, Any] | None = None,
        timings: dict[str, Any] | None = None,
        ids: Sequence[int] = (),
    ) -> bytes:
        as_ids = self.options.token_ids_for_pieces
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": encode_logprobs(logprobs, as_ids) if logprobs else None,
        } | (ending or {"finish_reason": None})
        tail = self._tail
        if self._so_far is not None:
            tail = b',"usage":%b}\n\n' % encode_json(self._so_far.encode())
        if self.options.token_ids:
            choice["token_ids"] = ids
        if self._of_prompt:
            tail = b",%b%b" % (encode_json(self._of_prompt)[1:-1], tail)
            self._of_prompt = NOTHING
        if timings is not None:
            tail = b',"timings":%b%b' % (encode_json(timings), tail)
        return b'%b,"choices":[%b]%b' % (self._head, encode_json(choice), tail)
