"""Answers as Ollama writes them: one JSON object, or one a line. Pure, apart from clocks.

What clients are known to stumble over: a blank line; a stream whose last object has not
`done: true`; a chat's object without `message.role`; a call's arguments that are a string; a
call in parts. So calls are held until they are whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from service.dialects.failures import Failure, of_finished
from service.dialects.framing import encode_json
from service.dialects.ollama.shapes import (
    NDJSON,
    Journey,
    encode_end,
    encode_logprobs,
    rfc3339,
    worded,
)
from service.dialects.prompt_progress import encode_progress
from service.dialects.thoughts import InlineThoughts
from service.events import (
    Event,
    Finished,
    PromptLogprobs,
    ReasoningDelta,
    TokenLogprobs,
    ToolCallDelta,
)

if TYPE_CHECKING:
    from service.serving.runtime import Progress


@dataclass(frozen=True, slots=True)
class Part:
    """What one object of a stream has to say, or the whole answer."""

    text: str = ""
    thinking: str = ""
    calls: tuple[dict[str, Any], ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()


def chat_part(part: Part) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": part.text}
    if part.thinking:
        message["thinking"] = part.thinking
    if part.calls:
        message["tool_calls"] = part.calls
    return {"message": message}


def generate_part(part: Part) -> dict[str, Any]:
    body: dict[str, Any] = {"response": part.text}
    if part.thinking:
        body["thinking"] = part.thinking
    if part.calls:
        body["tool_calls"] = part.calls
    return body


@dataclass(frozen=True)
class Shape:
    """Where an endpoint has its text: `around` is the JSON before and after it, in the usual case."""

    encode: Callable[[Part], dict[str, Any]]
    around: tuple[bytes, bytes]


CHAT: Final = Shape(chat_part, (b'"message":{"role":"assistant","content":', b"}"))
GENERATE: Final = Shape(generate_part, (b'"response":', b""))


class Parts:
    """Events in, parts out: thoughts where they belong, and only whole calls."""

    def __init__(self, inline: bool) -> None:
        self._inline = InlineThoughts() if inline else None
        self._call: list[ToolCallDelta] = []
        self._calls = 0
        # Of all tokens so far, where they were asked for.
        self.ids: list[int] = []

    def feed(self, events: Sequence[Event]) -> Iterator[Part | Finished]:
        for event in events:
            if not isinstance(event, Finished | PromptLogprobs):
                self.ids += event.ids
        for event in events if self._inline is None else self._inline.feed(events):
            if isinstance(event, ToolCallDelta):
                if self._call and event.call != self._call[0].call:
                    yield self._whole_call()
                self._call.append(event)
                continue
            if isinstance(event, PromptLogprobs):
                continue
            if self._call:
                yield self._whole_call()
            if isinstance(event, Finished):
                yield event
            elif isinstance(event, ReasoningDelta):
                yield Part(thinking=event.text, logprobs=event.logprobs)
            else:
                yield Part(event.text, logprobs=event.logprobs)

    def _whole_call(self) -> Part:
        parts, self._call = self._call, []
        name = parts[0].name or ""
        written = "".join(part.arguments for part in parts)
        logprobs = tuple(token for part in parts for token in part.logprobs)
        arguments = decoded(written or "{}")
        if arguments is None:
            # The answer ended within the call: what there is of it is text.
            text = f'{{"name": {encode_json(name).decode()}, "arguments": {written}'
            return Part(text, logprobs=logprobs)
        function = {"index": self._calls, "name": name, "arguments": arguments}
        self._calls += 1
        return Part(calls=({"id": parts[0].id or "", "function": function},), logprobs=logprobs)


def decoded(arguments: str) -> dict[str, Any] | None:
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return value if isinstance(value, dict) else None


@dataclass(frozen=True)
class Voice:
    """How an answer is written. `model` is the client's own word for it; `prompt` are the ids of
    a prompt that a later request may go on from, with this answer behind them."""

    model: str
    shape: Shape
    inline: bool
    journey: Journey
    prompt: Sequence[int] | None = None
    wall: Callable[[], int] = time.time_ns
    clock: Callable[[], float] = time.monotonic

    def object(self, part: Part, rest: dict[str, Any]) -> dict[str, Any]:
        head = {"model": self.model, "created_at": rfc3339(self.wall())}
        logprobs = {"logprobs": encode_logprobs(part.logprobs)} if part.logprobs else {}
        return head | self.shape.encode(part) | rest | logprobs

    def end(self, end: Finished, part: Part, ids: Sequence[int]) -> dict[str, Any]:
        rest = encode_end(end, self.journey, self.clock())
        if self.prompt is not None:
            rest["context"] = [*self.prompt, *ids]
        if end.end_token is not None:
            part = replace(part, logprobs=(*part.logprobs, end.end_token))
        return self.object(part, rest)


def encode_whole(voice: Voice, events: Sequence[Event]) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    logprobs: list[TokenLogprobs] = []
    end: Finished | None = None
    parts = Parts(voice.inline)
    for part in parts.feed(events):
        if isinstance(part, Finished):
            end = part
            continue
        texts.append(part.text)
        thoughts.append(part.thinking)
        calls += part.calls
        logprobs += part.logprobs
    assert end is not None, "every answer ends"
    whole = Part("".join(texts), "".join(thoughts), tuple(calls), tuple(logprobs))
    return voice.end(end, whole, parts.ids)


class Lines:
    """`respond.Encoder` of a stream. Text, which is nearly all of it, takes the short way."""

    media_type = NDJSON
    # There are no comments in NDJSON, and a blank line is an error to clients.
    ping: bytes | None = None

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._parts = Parts(voice.inline)
        before, after = voice.shape.around
        self._head = b'{"model":%b,"created_at":"' % encode_json(voice.model)
        self._before = b'",' + before
        self._after = after + b',"done":false}\n'
        self._news: list[bytes] = []

    def tell(self, progress: Progress) -> None:
        """To be sent with what is encoded next."""
        said = encode_progress(progress)
        counts = said.pop("prompt_progress")
        names = {"prompt_eval_completed": "processed", "prompt_eval_total": "total"}
        said = {name: counts[key] for name, key in names.items() if key in counts} | said
        self._news.append(line(self._voice.object(Part(), {"done": False} | said)))

    def encode(self, events: Sequence[Event]) -> bytes:
        stamped = b""
        lines, self._news = self._news, []
        for part in self._parts.feed(events):
            if isinstance(part, Finished):
                # What is a failure gets its line from `fail`.
                if of_finished(part) is None:
                    lines.append(line(self._voice.end(part, Part(), self._parts.ids)))
            elif part.thinking or part.calls or part.logprobs:
                lines.append(line(self._voice.object(part, {"done": False})))
            elif part.text:
                if not stamped:
                    stamped = self._head + rfc3339(self._voice.wall()).encode() + self._before
                lines.append(stamped + encode_json(part.text) + self._after)
        return b"".join(lines)

    def fail(self, failure: Failure) -> bytes:
        _, body = worded(failure)
        return line(body)

    def close(self) -> bytes:
        return b""


def line(body: dict[str, Any]) -> bytes:
    return encode_json(body) + b"\n"
